"""User Mode Linux on processors with AMX: it has no room for their state, and dies at once.

A seccomp filter tells it that there is no way to read the whole state (PTRACE_GETREGSET of NT_X86_XSTATE), so
that it takes the one for x87 and SSE. What is wider is then lost at some switches, so the programs in there
do without.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_AVX = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps="
    "-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX_Fast_Unaligned_Load,-ERMS,-RTM",
    "GODEBUG": "cpu.avx=off,cpu.avx2=off",
}
_PTRACE, _PTRACE_GETREGSET, _NT_X86_XSTATE = 101, 0x4204, 0x202
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 16, 32
"""Where they lie in ``struct seccomp_data``."""
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_INSTRUCTIONS = (
    (_LOAD, 0, 0, _NUMBER),
    (_EQUAL, 0, 5, _PTRACE),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_EQUAL, 0, 3, _PTRACE_GETREGSET),
    (_LOAD, 0, 0, _THIRD_ARGUMENT),
    (_EQUAL, 0, 1, _NT_X86_XSTATE),
    (_RETURN, 0, 0, _FAIL | errno.EINVAL),
    (_RETURN, 0, 0, _ALLOW),
)


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def is_needed() -> bool:
    """Tell whether this machine's processors have AMX."""
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def filtered() -> Callable[[], None]:
    """Give what a child does before it becomes User Mode Linux."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _INSTRUCTIONS))
    program = _Program(len(_INSTRUCTIONS), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def narrow() -> None:
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        if prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
            raise OSError(ctypes.get_errno(), f"PR_SET_SECCOMP {code!r}")  # which also keeps the code alive

    return narrow
