"""The programs in C beside this file: compiled for a run, spoken to by lines."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_HERE = Path(__file__).parent


class NativeError(Exception):
    """No C compiler, or a program that ended early."""


def compiled(name: str, folder: Path) -> Path:
    """Compile ``<name>.c`` into ``folder``; raises ``NativeError`` with the compiler's words."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NativeError("no C compiler: install the package gcc, or put cc on the PATH")
    program = folder / name
    command = [compiler, "-O2", "-Wall", "-o", str(program), str(_HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NativeError(f"{name}.c does not compile:\n{done.stderr}")
    return program


class Program:
    """A running program that answers a line with a line; it ends when its standard input does."""

    def __init__(self, *command: str) -> None:
        self._name = Path(command[0]).name
        # A session of its own: Ctrl-C is for the bench, which ends it in order.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def tell(self, lines: Iterable[str]) -> None:
        """Send lines that are not answered."""
        if self._process.stdin is None:
            raise NativeError(f"{self._name} has no standard input")
        self._process.stdin.writelines(f"{line}\n" for line in lines)
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """Send a line and wait for the answer."""
        self.tell([line])
        answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            raise NativeError(f"{self._name} ended at {line!r}")
        return answer.rstrip("\n")
