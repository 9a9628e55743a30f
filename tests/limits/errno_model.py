"""A kernel to test plans on: it refuses, clamps and rounds as the real ones do (test_errno_model.py).

It holds what the kernel holds, each number once, and shows the files' text as the kernel prints it.
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field, structs

from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.knob_values import format_numbers
from cgwatch.cgroup.limit_text import is_limit_file, parse_file, settled
from cgwatch.change import CgroupState, Node, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
_MOST_PAGES = (2**63 - 1) // PAGE
_MOST_QUOTA = 2**44 - 1
_MOST_TASKS = 1 << 22
_MOST_OPERATIONS = 2**32 - 1
DEVICE = "254:0"
_V1_BOUNDS = {
    "blkio.throttle.read_bps_device": "rbps",
    "blkio.throttle.write_bps_device": "wbps",
    "blkio.throttle.read_iops_device": "riops",
    "blkio.throttle.write_iops_device": "wiops",
}
_WORDS = ("rbps", "wbps", "riops", "wiops")


class Cgroup(Struct):
    """What the kernel holds of one cgroup; pages where it counts pages."""

    path: str
    pages: dict[str, float] = field(default_factory=dict)
    """Of max, high, low, min, swap (v2), both, soft (v1)."""
    quota: float = math.inf
    period: int = 100_000
    burst: int = 0
    weight: int = 100
    shares: int = 1024
    idle: int = 0
    cpus: frozenset[int] = frozenset()
    mems: frozenset[int] = frozenset()
    tasks_most: float = math.inf
    oom_group: int = 0
    frozen: int = 0
    bounds: dict[str, float] = field(default_factory=dict)
    anon: int = 0
    cache: int = 0
    swap: int = 0
    killed: int = 0
    tasks: int = 0

    @property
    def usage(self) -> int:
        return self.anon + self.cache


class Kernel:
    """Cgroups of one version, all controllers on."""

    def __init__(
        self,
        version: int,
        *,
        swap_free: int = 0,
        device: str = DEVICE,
        cpus: int = 4,
        possible: int | None = None,
    ) -> None:
        self.version = version
        self.swap_free = swap_free
        self.device = device
        self.cpus = frozenset(range(cpus))
        self.possible = possible or cpus
        self.cgroups = {"/": Cgroup("/", cpus=self.cpus, mems=frozenset({0}))}
        self._files = self._files_v2() if version > 1 else self._files_v1()
        self._writers = self._writers_v2() if version > 1 else self._writers_v1()

    # -- what tests do --------------------------------------------------------------------------------------

    def make(self, path: str) -> Cgroup:
        """Make a cgroup whose parent is there."""
        self.cgroups[path] = Cgroup(path)
        return self.cgroups[path]

    def shown(self) -> dict[tuple[str, str], str]:
        """Return the text of every file of every cgroup."""
        return {
            (path, file): show(cgroup)
            for path, cgroup in self.cgroups.items()
            if path != "/"
            for file, show in self._files.items()
        }

    def write(self, path: str, file: str, text: str) -> None:
        """Write as write(2) does: OSError, or it is done."""
        before = self.cgroups[path]
        # What is done is done to a copy, which takes the place of the old one while that is looked at.
        self.cgroups[path] = structs.replace(before, pages=dict(before.pages), bounds=dict(before.bounds))
        try:
            self._writers[file](self.cgroups[path], text.strip("\n "))
        except OSError:
            self.cgroups[path] = before
            raise

    def tree(self) -> Tree:
        """Return what a survey would."""
        names = ("memory", "cpu", "io", "cpuset", "pids", "freezer")
        node = Node(PAGE, 1 << 40, self.cpus, frozenset({0}), self.swap_free)
        return Tree(
            node,
            dict.fromkeys(names, self.version),
            {path: self._state(cgroup) for path, cgroup in self.cgroups.items()},
        )

    def _state(self, cgroup: Cgroup) -> CgroupState:
        values: dict[str, Any] = {}
        if cgroup.path != "/":
            for file, show in self._files.items():
                name = "freezer.self_freezing" if file == "freezer.state" else file
                raw = show(cgroup)
                if file == "freezer.state":
                    raw = f"{cgroup.frozen}\n"
                assert is_limit_file(self.version, name), name
                values |= parse_file(self.version, name, raw.encode())
            values = {f"io.max.{word}[{self.device}]": math.inf for word in _WORDS} | values
        elif self.version == 1:
            values = {"cpuset.cpus": format_numbers(cgroup.cpus), "cpuset.mems": format_numbers(cgroup.mems)}
        return CgroupState(
            cgroup.path,
            1,
            settled(values),
            memory_usage_bytes=cgroup.usage,
            reclaimable_bytes=cgroup.cache,
            anon_bytes=cgroup.anon,
            swap_usage_bytes=cgroup.swap,
            processes=cgroup.tasks,
            used={"pids.max": cgroup.tasks},
        )

    # -- above and below ------------------------------------------------------------------------------------

    def _parent(self, cgroup: Cgroup) -> Cgroup:
        return self.cgroups[cgroup.path.rpartition("/")[0] or "/"]

    def _children(self, cgroup: Cgroup) -> list[Cgroup]:
        return [each for each in self.cgroups.values() if each.path != "/" and self._parent(each) is cgroup]

    # -- the files ------------------------------------------------------------------------------------------

    def _files_v2(self) -> dict[str, Callable[[Cgroup], str]]:
        return {
            **{f"memory.{name}": _pages_v2(name) for name in ("max", "high", "low", "min", "swap.max")},
            "memory.oom.group": lambda cgroup: f"{cgroup.oom_group}\n",
            "cpu.max": lambda cgroup: f"{_word(cgroup.quota)} {cgroup.period}\n",
            "cpu.max.burst": lambda cgroup: f"{cgroup.burst}\n",
            "cpu.weight": lambda cgroup: f"{0 if cgroup.idle else cgroup.weight}\n",
            "cpu.idle": lambda cgroup: f"{cgroup.idle}\n",
            "cpuset.cpus": lambda cgroup: f"{format_numbers(cgroup.cpus)}\n",
            "cpuset.mems": lambda cgroup: f"{format_numbers(cgroup.mems)}\n",
            "pids.max": lambda cgroup: f"{_word(cgroup.tasks_most)}\n",
            "io.max": self._show_io_max,
            "cgroup.freeze": lambda cgroup: f"{cgroup.frozen}\n",
        }

    def _writers_v2(self) -> dict[str, Callable[[Cgroup, str], None]]:
        return {
            **{
                f"memory.{name}": self._writer_of_memory_v2(name)
                for name in ("max", "high", "low", "min", "swap.max")
            },
            "memory.oom.group": _write_oom_group,
            "cpu.max": self._write_cpu_max,
            "cpu.max.burst": self._write_burst,
            "cpu.weight": _write_weight,
            "cpu.idle": _write_idle,
            "cpuset.cpus": lambda cgroup, text: self._write_cpuset(cgroup, "cpus", text),
            "cpuset.mems": lambda cgroup, text: self._write_cpuset(cgroup, "mems", text),
            "pids.max": _write_tasks,
            "io.max": self._write_io_max,
            "cgroup.freeze": _write_freeze,
        }

    def _files_v1(self) -> dict[str, Callable[[Cgroup], str]]:
        return {
            "memory.limit_in_bytes": _pages_v1("max"),
            "memory.memsw.limit_in_bytes": _pages_v1("both"),
            "memory.soft_limit_in_bytes": _pages_v1("soft"),
            "cpu.cfs_quota_us": lambda cgroup: f"{_minus(cgroup.quota)}\n",
            "cpu.cfs_period_us": lambda cgroup: f"{cgroup.period}\n",
            "cpu.cfs_burst_us": lambda cgroup: f"{cgroup.burst}\n",
            "cpu.shares": lambda cgroup: f"{3 if cgroup.idle else cgroup.shares}\n",
            "cpu.idle": lambda cgroup: f"{cgroup.idle}\n",
            "cpuset.cpus": lambda cgroup: f"{format_numbers(cgroup.cpus)}\n",
            "cpuset.mems": lambda cgroup: f"{format_numbers(cgroup.mems)}\n",
            "pids.max": lambda cgroup: f"{_word(cgroup.tasks_most)}\n",
            **{file: self._show_bound(word) for file, word in _V1_BOUNDS.items()},
            "freezer.state": lambda cgroup: f"{'FROZEN' if cgroup.frozen else 'THAWED'}\n",
        }

    def _writers_v1(self) -> dict[str, Callable[[Cgroup, str], None]]:
        return {
            "memory.limit_in_bytes": lambda cgroup, text: self._write_memory_v1(cgroup, "max", text),
            "memory.memsw.limit_in_bytes": lambda cgroup, text: self._write_memory_v1(cgroup, "both", text),
            "memory.soft_limit_in_bytes": _write_soft,
            "cpu.cfs_quota_us": self._write_quota,
            "cpu.cfs_period_us": self._write_period,
            "cpu.cfs_burst_us": self._write_burst,
            "cpu.shares": _write_shares,
            "cpu.idle": _write_idle,
            "cpuset.cpus": lambda cgroup, text: self._write_cpuset(cgroup, "cpus", text),
            "cpuset.mems": lambda cgroup, text: self._write_cpuset(cgroup, "mems", text),
            "pids.max": _write_tasks,
            **{file: self._writer_of_bound(word) for file, word in _V1_BOUNDS.items()},
            "freezer.state": _write_state,
        }

    # -- memory ---------------------------------------------------------------------------------------------

    def _writer_of_memory_v2(self, name: str) -> Callable[[Cgroup, str], None]:
        def write(cgroup: Cgroup, text: str) -> None:
            cgroup.pages[name] = _pages_of(text, "max")
            most = cgroup.pages[name] * PAGE
            if name in {"max", "high"}:
                self._reclaim(cgroup, most)
            if name == "max" and cgroup.usage > most:
                cgroup.killed += 1
                cgroup.anon = 0

        return write

    def _reclaim(self, cgroup: Cgroup, most: float) -> None:
        """Give back cache, then swap out, as far as there is room."""
        cgroup.cache -= int(min(cgroup.cache, max(cgroup.usage - most, 0)))
        room = self.swap_free
        if self.version > 1:
            room = int(min(room, max(cgroup.pages.get("swap.max", math.inf) * PAGE - cgroup.swap, 0)))
        moved = int(min(cgroup.anon, room, max(cgroup.usage - most, 0)))
        cgroup.anon -= moved
        cgroup.swap += moved
        self.swap_free -= moved

    def _write_memory_v1(self, cgroup: Cgroup, name: str, text: str) -> None:
        pages = _pages_of(text, "-1")
        memory, both = cgroup.pages.get("max", math.inf), cgroup.pages.get("both", math.inf)
        if pages > both if name == "max" else pages < memory:
            raise OSError(errno.EINVAL, text)
        most = pages * PAGE
        if name == "max":
            self._reclaim(cgroup, most)
            left = cgroup.usage
        else:
            cgroup.cache -= int(min(cgroup.cache, max(cgroup.usage + cgroup.swap - most, 0)))
            left = cgroup.usage + cgroup.swap
        if left > most:
            raise OSError(errno.EBUSY, text)
        cgroup.pages[name] = pages

    # -- cpu ------------------------------------------------------------------------------------------------

    def _write_cpu_max(self, cgroup: Cgroup, text: str) -> None:
        words = text.split()
        if not 1 <= len(words) <= 2:
            raise OSError(errno.EINVAL, text)
        quota = math.inf if words[0] == "max" else float(_unsigned(words[0]))
        # sscanf("%63s %llu"): a second word that is no number without a sign is as none at all.
        has_period = len(words) > 1 and words[1].isdecimal()
        period = _unsigned(words[1]) if has_period else cgroup.period
        self._set_bandwidth(cgroup, quota, period, cgroup.burst)

    def _write_quota(self, cgroup: Cgroup, text: str) -> None:
        number = _signed(text)
        self._set_bandwidth(cgroup, math.inf if number < 0 else number, cgroup.period, cgroup.burst)

    def _write_period(self, cgroup: Cgroup, text: str) -> None:
        self._set_bandwidth(cgroup, cgroup.quota, _unsigned(text), cgroup.burst)

    def _write_burst(self, cgroup: Cgroup, text: str) -> None:
        self._set_bandwidth(cgroup, cgroup.quota, cgroup.period, _unsigned(text))

    def _set_bandwidth(self, cgroup: Cgroup, quota: float, period: int, burst: int) -> None:
        if not quota >= 1000 or not 1000 <= period <= 1_000_000:
            raise OSError(errno.EINVAL, "range")
        if quota < math.inf and (quota > _MOST_QUOTA or burst > quota or burst + quota > _MOST_QUOTA):
            raise OSError(errno.EINVAL, "burst")
        cgroup.quota, cgroup.period = quota, period
        if self.version == 1 and not self._is_schedulable(self.cgroups["/"], math.inf):
            raise OSError(errno.EINVAL, "hierarchy")
        cgroup.burst = burst

    def _is_schedulable(self, cgroup: Cgroup, allowed: float) -> bool:
        own = math.inf if cgroup.quota == math.inf else (int(cgroup.quota) << 20) // cgroup.period
        if own < math.inf and own > allowed:
            return False
        below = allowed if own == math.inf else own
        return all(self._is_schedulable(child, below) for child in self._children(cgroup))

    # -- cpuset ---------------------------------------------------------------------------------------------

    def _write_cpuset(self, cgroup: Cgroup, name: str, text: str) -> None:
        try:
            numbers = numbers_of(text)
        except FormatError as error:
            raise OSError(errno.EINVAL, text) from error
        if any(number >= (self.possible if name == "cpus" else 1) for number in numbers):
            raise OSError(errno.ERANGE, text)
        if self.version == 1:
            if not all(getattr(child, name) <= numbers for child in self._children(cgroup)):
                raise OSError(errno.EBUSY, text)
            if not numbers <= getattr(self._parent(cgroup), name):
                raise OSError(errno.EACCES, text)
            if cgroup.tasks and getattr(cgroup, name) and not numbers:
                raise OSError(errno.ENOSPC, text)
        setattr(cgroup, name, numbers)

    # -- io -------------------------------------------------------------------------------------------------

    def _show_io_max(self, cgroup: Cgroup) -> str:
        if all(value == math.inf for value in cgroup.bounds.values()):
            return ""
        words = (f"{word}={_word(cgroup.bounds.get(word, math.inf))}" for word in _WORDS)
        return f"{self.device} {' '.join(words)}\n"

    def _write_io_max(self, cgroup: Cgroup, text: str) -> None:
        device, *words = text.split()
        if not words:
            raise OSError(errno.EINVAL, text)
        if device != self.device:
            raise OSError(errno.ENODEV, text)
        for word in words:
            name, _, value = word.partition("=")
            if name not in _WORDS or not value:
                raise OSError(errno.EINVAL, text)
            number = math.inf if value == "max" else float(_unsigned(value))
            if not number:
                raise OSError(errno.ERANGE, text)
            if number == 1:
                raise OSError(errno.EINVAL, text)
            self._bind(cgroup, name, number)

    def _bind(self, cgroup: Cgroup, word: str, number: float) -> None:
        most = 2**64 - 1 if word.endswith("bps") else _MOST_OPERATIONS
        cgroup.bounds[word] = math.inf if number >= most else number

    def _show_bound(self, word: str) -> Callable[[Cgroup], str]:
        def show(cgroup: Cgroup) -> str:
            value = cgroup.bounds.get(word, math.inf)
            return "" if value == math.inf else f"{self.device} {value:.0f}\n"

        return show

    def _writer_of_bound(self, word: str) -> Callable[[Cgroup, str], None]:
        def write(cgroup: Cgroup, text: str) -> None:
            device, _, value = text.partition(" ")
            if device != self.device:
                raise OSError(errno.ENODEV, text)
            self._bind(cgroup, word, _unsigned(value) or math.inf)

        return write


def _word(value: float) -> str:
    return "max" if value == math.inf else f"{value:.0f}"


def _minus(value: float) -> str:
    return "-1" if value == math.inf else f"{value:.0f}"


def _unsigned(text: str) -> int:
    if not text.isdecimal():
        raise OSError(errno.EINVAL, text)
    return int(text)


def _signed(text: str) -> int:
    return -_unsigned(text[1:]) if text.startswith("-") else _unsigned(text)


def _pages_of(text: str, unlimited: str) -> float:
    if text == unlimited:
        return math.inf
    pages = _unsigned(text) // PAGE
    return math.inf if pages >= _MOST_PAGES else pages


def _pages_v2(name: str) -> Callable[[Cgroup], str]:
    default = 0 if name in {"low", "min"} else math.inf
    return lambda cgroup: f"{_word(cgroup.pages.get(name, default) * PAGE)}\n"


def _pages_v1(name: str) -> Callable[[Cgroup], str]:
    def show(cgroup: Cgroup) -> str:
        pages = cgroup.pages.get(name, math.inf)
        return f"{_MOST_PAGES * PAGE if pages == math.inf else int(pages) * PAGE}\n"

    return show


def _write_soft(cgroup: Cgroup, text: str) -> None:
    cgroup.pages["soft"] = _pages_of(text, "-1")


def _write_weight(cgroup: Cgroup, text: str) -> None:
    weight = _unsigned(text)
    if not 1 <= weight <= 10000:
        raise OSError(errno.ERANGE, text)
    if cgroup.idle:
        raise OSError(errno.EINVAL, text)
    cgroup.weight = weight


def _write_shares(cgroup: Cgroup, text: str) -> None:
    if cgroup.idle:
        raise OSError(errno.EINVAL, text)
    cgroup.shares = min(max(_unsigned(text), 2), 262144)


def _write_idle(cgroup: Cgroup, text: str) -> None:
    idle = _signed(text)
    if idle not in {0, 1}:
        raise OSError(errno.EINVAL, text)
    if idle != cgroup.idle:
        # It forgets the weight.
        cgroup.idle, cgroup.weight, cgroup.shares = idle, 100, 1024


def _write_tasks(cgroup: Cgroup, text: str) -> None:
    number = math.inf if text == "max" else _signed(text)
    if number != math.inf and not 0 <= number <= _MOST_TASKS:
        raise OSError(errno.EINVAL, text)
    cgroup.tasks_most = number


def _write_oom_group(cgroup: Cgroup, text: str) -> None:
    if text not in {"0", "1"}:
        raise OSError(errno.EINVAL, text)
    cgroup.oom_group = int(text)


def _write_freeze(cgroup: Cgroup, text: str) -> None:
    if _signed(text) not in {0, 1}:
        raise OSError(errno.ERANGE, text)
    cgroup.frozen = int(text)


def _write_state(cgroup: Cgroup, text: str) -> None:
    if text not in {"FROZEN", "THAWED"}:
        raise OSError(errno.EINVAL, text)
    cgroup.frozen = int(text == "FROZEN")
