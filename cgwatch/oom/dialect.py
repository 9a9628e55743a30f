r"""What the OOM killer writes to the kernel's log, from 3.10 to today, as kills. Pure.

::

    hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
    memory: usage 30720kB, limit 30720kB, failcnt 36
    Memory cgroup stats for /pod/a:
    anon 31387648\nfile 0\n...
    [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
    [    692]     0   692    14852    11610   139264        0             0 hog
    oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),...,oom_memcg=/pod,task_memcg=/pod/a,task=hog,pid=692,...
    Memory cgroup out of memory: Killed process 692 (hog) total-vm:59408kB, anon-rss:42956kB, ...
    Tasks in /pod/a are going to be killed due to memory.oom.group set
    Memory cgroup out of memory: Killed process 689 (member) total-vm:28456kB, ...

``Killed process`` drives: the kernel writes it for each kill, and counts each of them, a group's first victim
a second time. All above it is held back in a burst (ten dumps in five seconds), so a kill may have that line
alone. Names and paths may hold anything. A line that was too long goes on in the next record; a path of more
than about 980 bytes is cut off there.

The killer runs under one lock (``oom_lock``), so kills do not interleave with each other, only with what else
is logged; where the kernel tells the caller (CONFIG_PRINTK_CALLER), each one's lines are kept apart all the
same. Sources: mm/oom_kill.c (dump_header, dump_tasks, __oom_kill_process), mm/memcontrol.c
(mem_cgroup_print_oom_context, mem_cgroup_print_oom_group).
"""

from __future__ import annotations

import re

from msgspec import Struct, structs

from cgwatch.oom.kill import Victim
from cgwatch.oom.observation import KernelKill
from cgwatch.proc.kmsg import Record, epoch_seconds

_KIBIBYTE = 1024
_KERNEL = 0
_REPORT_MICROSECONDS = 10_000_000
"""How long the kernel may take for what belongs to one kill, with the members of a group."""
_CALLERS = 64
_TASKS = 1024
_STATS = 256
_LONGEST_LINE = 16384
"""Two paths of PATH_MAX and their words."""

_INVOKED = re.compile(
    r"(?P<command>.*) invoked oom-killer: gfp_mask=(?P<gfp_mask>.*?), +"
    r"(?:nodemask=.*?, +)?order=(?P<order>-?\d{1,9})",
    re.DOTALL,
)
_USAGE = re.compile(
    r"(?P<what>memory|memory\+swap|swap|kmem): usage (?P<usage>\d{1,20})kB, "
    r"limit (?P<limit>\d{1,20})kB, failcnt \d+"
)
_STATS_OF = "Memory cgroup stats for "
_TABLE = re.compile(r"\[ *pid *\] +(?P<names>[a-z_ ]+) name")
_ROW = re.compile(r"\[ *(?P<pid>\d{1,10})\] +(?P<values>-?\d+(?: +-?\d+)*) (?P<name>.*)", re.DOTALL)
_SUMMARY = "oom-kill:constraint="
_CONSTRAINT = re.compile(r"oom-kill:constraint=(?P<constraint>\w+),")
_VICTIM = re.compile(r",task=(?P<command>.*),pid=(?P<pid>\d{1,10}),uid=\d{1,10}\Z", re.DOTALL)
_LIMIT_AT = ",oom_memcg=/"
_GLOBAL_AT = ",global_oom"
_VICTIM_AT = ",task_memcg=/"
_TASKS_IN = "Tasks in "
_GROUP = re.compile(r"Tasks in (?P<path>/.*) are going to be killed due to memory\.oom\.group set", re.DOTALL)
_TASK_IN = "Task in "
_LEGACY = re.compile(r"Task in (?P<task>/.*) killed as a result of limit of (?P<limit>/.*)", re.DOTALL)
_CHOSEN = re.compile(r"(?P<why>.*?): Kill process \d+ \(.*\) score \d+ or sacrifice child", re.DOTALL)
"""Before 5.2 a child may die in its stead."""
_KILLED = re.compile(
    r"(?:(?P<why>.*?): )?Killed process (?P<pid>\d{1,10}) \((?P<command>.*)\),?"
    r"(?: UID (?P<early_uid>\d{1,10}),)? total-vm:(?P<total_vm>\d{1,20})kB"
    r", anon-rss:(?P<anon>\d{1,20})kB, file-rss:(?P<file>\d{1,20})kB(?:, shmem-rss:(?P<shmem>\d{1,20})kB)?"
    r"(?:, UID:(?P<uid>\d{1,10}))?(?:,? pgtables:(?P<pgtables>\d{1,20})kB)?"
    r"(?: oom_score_adj:(?P<adj>-?\d{1,5}))?.*",
    re.DOTALL,
)
_COUNT = re.compile(r"\d{1,20}")
_BY_CGROUP = "Memory cgroup out of memory"
_GOES_ON = (_SUMMARY, _TASKS_IN, _TASK_IN, _STATS_OF)


class Task(Struct, frozen=True):
    """One row of the dump's table of processes."""

    pid: int
    command: str
    values: dict[str, int]
    """By the kernel's headings: ``total_vm``, ``rss`` and the like in pages, ``pgtables_bytes`` in bytes."""


class Usage(Struct, frozen=True):
    """How full one kind of memory of the cgroup was."""

    usage_bytes: int
    limit_bytes: int
    """Of no limit: about 2**63."""


class Dump(Struct, frozen=True):
    """What the kernel says around a kill: the state of the cgroup whose limit was hit, or of the node."""

    invoked_by: str | None = None
    """Name of the task that asked for memory; it need not be the victim."""
    gfp_mask: str | None = None
    order: int | None = None
    constraint: str | None = None
    """``CONSTRAINT_NONE``, ``_CPUSET``, ``_MEMORY_POLICY``, ``_MEMCG``, ..."""
    usages: dict[str, Usage] = {}
    """By the kernel's words: ``memory``, ``memory+swap``, ``swap``, ``kmem``."""
    stats: dict[str, int] = {}
    """``memory.stat`` of the cgroup whose limit was hit, in the kernel's units."""
    tasks: tuple[Task, ...] = ()
    """At most 1024 of them."""


class Told(Struct, frozen=True):
    """A kill and its dump; ``None``: the kernel held it back."""

    kill: KernelKill
    dump: Dump | None


class _Context:
    """What one caller has said since it invoked the killer."""

    def __init__(self) -> None:
        self.line = ""
        self.dump: Dump | None = None
        self.in_stats = False
        self.headings: tuple[str, ...] = ()
        self.summary = ""
        self.legacy: tuple[str, str] | None = None
        self.chosen: str | None = None
        self.first: KernelKill | None = None
        """The kill that a group may follow."""
        self.group_path: str | None = None


class OomLog:
    """Takes the records of the log in order and gives the kills.

    ``boot_time_seconds``: see ``kmsg.epoch_seconds``; it may be set anew at any time.
    """

    def __init__(self, boot_time_seconds: float) -> None:
        self.boot_time_seconds = boot_time_seconds
        self.place: int | None = None
        """Begin after this record to be told of what comes with all that is said around it."""
        self._report: tuple[int, int] | None = None  # the record before it, and when it ends
        self._contexts: dict[str, _Context] = {}

    def forget(self) -> None:
        """Drop what was said so far: records were lost, and what comes next may be another kill's."""
        self._contexts.clear()

    def take(self, record: Record) -> Told | None:
        """Take one record; give the kill that it tells."""
        told = self._take(record) if record.facility == _KERNEL else None  # others can say what they like
        before, until_microseconds = self._report or (0, 0)
        self.place = before if record.time_microseconds <= until_microseconds else record.sequence
        return told

    def _take(self, record: Record) -> Told | None:
        context = self._contexts.get(record.caller)
        if record.continues:
            if context and context.line.startswith(_GOES_ON) and len(context.line) < _LONGEST_LINE:
                _take_line(context, context.line + record.text)
            return None
        killed = _KILLED.fullmatch(record.text)
        is_invoked = killed is None and _INVOKED.match(record.text) is not None
        if context is None or is_invoked:
            context = self._begin(record.caller)
        if killed is None:
            if is_invoked:
                self._reports(record)
            _take_line(context, record.text)
            return None
        has_dump = context.dump is not None
        told = _killed(context, record, killed, self.boot_time_seconds)
        if not has_dump and told.kill.group_path is None:
            self._reports(record)
        return told

    def _reports(self, record: Record) -> None:
        self._report = record.sequence - 1, record.time_microseconds + _REPORT_MICROSECONDS

    def _begin(self, caller: str) -> _Context:
        self._contexts.pop(caller, None)
        if len(self._contexts) >= _CALLERS:
            del self._contexts[next(iter(self._contexts))]
        context = self._contexts[caller] = _Context()
        return context


def _take_line(context: _Context, line: str) -> None:
    """Take one line, or as much of it as there is so far."""
    context.line = line
    if line.startswith(_SUMMARY):
        context.summary = line
    elif found := _GROUP.fullmatch(line):
        context.group_path = found["path"] if context.first else None
    elif found := _INVOKED.match(line):
        context.dump = Dump(
            invoked_by=found["command"], gfp_mask=found["gfp_mask"], order=int(found["order"])
        )
    elif found := _LEGACY.fullmatch(line):
        context.legacy = found["task"], found["limit"]
    elif found := _CHOSEN.match(line):
        context.chosen = found["why"]
    elif context.dump is not None:
        context.dump = _with_detail(context, context.dump, line)


def _with_detail(context: _Context, dump: Dump, line: str) -> Dump:
    if found := _USAGE.fullmatch(line):
        usage = Usage(int(found["usage"]) * _KIBIBYTE, int(found["limit"]) * _KIBIBYTE)
        return structs.replace(dump, usages={**dump.usages, found["what"]: usage})
    if line.startswith(_STATS_OF):
        context.in_stats = True
    elif found := _TABLE.fullmatch(line):
        context.headings = tuple(found["names"].split())
        context.in_stats = False
    elif found := _ROW.fullmatch(line):
        values = found["values"].split()
        if len(values) == len(context.headings) and len(dump.tasks) < _TASKS:
            named = dict(zip(context.headings, map(int, values), strict=True))
            task = Task(int(found["pid"]), found["name"], named)
            return structs.replace(dump, tasks=(*dump.tasks, task))
    elif context.in_stats and len(dump.stats) < _STATS:
        # One record for all of them until 6.4, and one for each since.
        return structs.replace(dump, stats={**dump.stats, **_keyed(line)})
    return dump


def _keyed(lines: str) -> dict[str, int]:
    pairs = (line.partition(" ") for line in lines.split("\n"))
    return {key: int(value) for key, _, value in pairs if _COUNT.fullmatch(value)}


def _killed(context: _Context, record: Record, killed: re.Match[str], boot_time_seconds: float) -> Told:
    victim = _victim(killed)
    why = killed["why"] or context.chosen
    kill = KernelKill(
        sequence=record.sequence,
        seconds=epoch_seconds(record.time_microseconds, boot_time_seconds),
        victim=victim,
        is_global=None if why is None else not why.startswith(_BY_CGROUP),
    )
    dump = context.dump
    summary = _summary(context.summary, victim, child_instead=context.chosen is not None)
    if summary is not None:
        path, limit_path = summary.path, summary.limit_path
        kill = structs.replace(kill, path=path, limit_path=limit_path, is_global=summary.is_global)
        if dump is not None:
            dump = structs.replace(dump, constraint=summary.constraint)
    elif context.summary:
        dump = None  # of a victim that had died by itself before the killer came to it
    elif context.legacy is not None:
        path, limit_path = context.legacy
        kill = structs.replace(kill, path=path, limit_path=limit_path, is_global=False)
    if context.group_path and context.first and dump is None and kill.path is None:
        first = context.first
        kill = structs.replace(
            kill,
            limit_path=first.limit_path,
            is_global=first.is_global,
            group_path=context.group_path,
            group_sequence=first.sequence,
        )
    else:
        context.first, context.group_path = kill, None
    context.line, context.summary, context.legacy, context.chosen = "", "", None, None
    context.dump, context.in_stats, context.headings = None, False, ()
    return Told(kill, dump)


def _victim(killed: re.Match[str]) -> Victim:
    def size(name: str) -> int | None:
        return None if killed[name] is None else int(killed[name]) * _KIBIBYTE

    uid = killed["uid"] or killed["early_uid"]
    return Victim(
        pid=int(killed["pid"]),
        command=killed["command"],
        total_vm_bytes=size("total_vm"),
        anon_bytes=size("anon"),
        file_bytes=size("file"),
        shmem_bytes=size("shmem"),
        pagetables_bytes=size("pgtables"),
        uid=None if uid is None else int(uid),
        oom_score_adj=None if killed["adj"] is None else int(killed["adj"]),
    )


class _Summary(Struct, frozen=True):
    constraint: str
    path: str | None
    limit_path: str | None
    is_global: bool


def _summary(line: str, victim: Victim, *, child_instead: bool) -> _Summary | None:
    """Read ``oom-kill:``, 5.0 and later, if it is about this victim.

    Names may hold commas and equal signs, but a slash is only in paths, and the victim's name is known: so
    the paths are what lies between the first ``=/`` and the known end.
    """
    head, end = _CONSTRAINT.match(line), _VICTIM.search(line)
    if head is None or end is None or (int(end["pid"]) != victim.pid and not child_instead):
        return None
    at = line.rfind(f",task={victim.command},pid=")
    body = line[: at if at >= 0 else line.rfind(",task=")]
    constraint = head["constraint"]
    limit_at = body.find(_LIMIT_AT)
    if limit_at >= 0:
        paths = body[limit_at + len(_LIMIT_AT) - 1 :]
        limit_path, path = _limit_and_victim(paths)
        return _Summary(constraint, path, limit_path, is_global=False)
    victim_at = body.find(_VICTIM_AT)
    path = body[victim_at + len(_VICTIM_AT) - 1 :] if victim_at >= 0 else None
    return _Summary(constraint, path, None, is_global=_GLOBAL_AT in body)


def _limit_and_victim(paths: str) -> tuple[str, str | None]:
    """Part ``/limit,task_memcg=/limit/victim``: the victim is in the cgroup whose limit it was, or below."""
    at = paths.find(_VICTIM_AT)
    parted = []
    while at >= 0:
        limit_path, path = paths[:at], paths[at + len(_VICTIM_AT) - 1 :]
        if path == limit_path or path.startswith(limit_path.rstrip("/") + "/"):
            return limit_path, path
        parted.append((limit_path, path))
        at = paths.find(_VICTIM_AT, at + 1)
    return parted[0] if parted else (paths, None)
