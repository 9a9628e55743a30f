"""One plan carried out: every step in order, read back, and undone in reverse where a step fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import Change, Key, Outcome, Plan, Result, Step, Target, Tree, Via
from cgwatch.errors import (
    CgroupGoneError,
    CgwatchError,
    FileMissingError,
    ReclaimedLessError,
    RuntimeUnavailableError,
    WriteDeadlineError,
    WriteRefusedError,
)
from cgwatch.limits.verify import Seen, judged, period_of

_POLL_SECONDS = 0.05


class OwnerWriter(Protocol):
    """Sets limits by their owner's interface."""

    def write(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> tuple[str, tuple[str, ...]]:
        """Set them, all at once; return what was said, and warnings. Raises a ``CgwatchError``."""


class Kernel(Protocol):
    """What the kernel says, and the hand that writes to it."""

    def survey(self, target: Target) -> Tree:
        """Read the target and what is around it. Raises ``FileMissingError`` when it is gone."""

    def write(self, step: Step) -> None:
        """Do one step within its deadline. Raises a ``KernelFileError``."""

    def is_frozen(self, path: str) -> bool:
        """Whether every process of a cgroup stands."""

    def effective(self, tree: Tree, path: str, key: Key) -> tuple[Value | None, str | None]:
        """Return what really bounds a cgroup, and whose limit that is."""


class Pace(Struct, frozen=True):
    """How long a transaction takes at most, and the means to let time pass."""

    clock: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    verify_seconds: float
    deadline_seconds: float


class _FailedError(Exception):
    """A step failed; what to tell, and whose step it was."""

    def __init__(self, keys: Sequence[Key], message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.keys = frozenset(keys)
        self.gone = gone


class Transaction:
    """Carries out one plan; ``ways`` says by which way each key goes."""

    def __init__(
        self,
        plan: Plan,
        ways: Mapping[Key, Via],
        tree: Tree,
        *,
        kernel: Kernel,
        owners: Mapping[Via, OwnerWriter],
        pace: Pace,
    ) -> None:
        self._plan = plan
        self._target = plan.request.target
        self._ways = ways
        self._tree = tree
        self._kernel = kernel
        self._owners = owners
        self._pace = pace
        self._undo: list[Callable[[], None]] = []
        self._written: dict[Key, str] = {}
        self.warnings: list[str] = []
        self.is_clean = True
        """Whether nothing is left of what was half done."""

    def run(self) -> tuple[Outcome, ...]:
        """Write, read back, wait, read back again; an outcome for each change of the plan."""
        began, began_monotonic = self._pace.clock(), self._pace.monotonic()
        try:
            self._write()
        except _FailedError as failed:
            problems = self._bring_back()
            self.is_clean = not problems
            return tuple(
                self._outcome(
                    change,
                    Result.GONE if failed.gone else Result.REFUSED,
                    began,
                    began_monotonic,
                    message=_told(failed, change.key, problems),
                )
                for change in self._plan.changes
            )
        first = self._look()
        self._pace.sleep(self._pace.verify_seconds)
        last = self._look()
        return tuple(
            self._judge(change, first, last, began, began_monotonic) for change in self._plan.changes
        )

    # -- writing -------------------------------------------------------------------------------------------

    def _write(self) -> None:
        steps = self._plan.steps
        each_way = [way_of(step, self._target.path, self._ways, self._tree) for step in steps]
        # An owner is called once, in the place of the last of its steps: what comes before it prepares it
        # (memory is reclaimed before its limit is lowered).
        last = {way: index for index, way in enumerate(each_way)}
        for index, (step, way) in enumerate(zip(steps, each_way, strict=True)):
            if way is Via.CGROUPFS:
                self._do(step, steps[index + 1 :])
            elif last[way] == index:
                self._call(way)

    def _do(self, step: Step, following: Sequence[Step]) -> None:
        undo = step.undo
        try:
            self._kernel.write(step)
        except WriteDeadlineError as error:
            self._will_undo(step, undo)  # it may have been done
            raise _FailedError(step.keys, str(error)) from error
        except ReclaimedLessError:
            pass  # what was gained is gained; whether it is enough is seen by waiting
        except WriteRefusedError as error:
            raise _FailedError(step.keys, str(error)) from error
        except (FileMissingError, CgroupGoneError) as error:
            raise _FailedError(step.keys, str(error), gone=self._is_gone()) from error
        except CgwatchError as error:
            raise _FailedError(step.keys, str(error)) from error
        else:
            self._will_undo(step, undo)
        for key in step.keys:
            self._written[key] = step.text
        if step.waits_for:
            self._wait(step, following)

    def _will_undo(self, step: Step, undo: str | None) -> None:
        if undo is not None:
            self._undo.append(lambda: self._kernel.write(undone(step, undo)))

    def _call(self, way: Via) -> None:
        """Set all limits of one owner's interface at once."""
        owner = self._owners[way]
        changes = [change for change in self._plan.changes if self._ways.get(change.key) is way]
        now = dict(self._tree.cgroups[self._target.path].values)
        wanted = {change.key: change.to for change in changes}
        before = {change.key: change.before for change in changes if change.before is not None}
        self._undo.append(lambda: _ignore(owner.write(self._target, before, {**now, **wanted})))
        try:
            said, warnings = owner.write(self._target, wanted, now)
        except CgwatchError as error:
            raise _FailedError(tuple(wanted), str(error), gone=self._is_gone()) from error
        self.warnings += warnings
        self._written |= dict.fromkeys(wanted, said)

    def _bring_back(self) -> list[str]:
        """Undo what was done, the last first; return what could not be."""
        problems = []
        for undo in reversed(self._undo):
            try:
                undo()
            except (FileMissingError, CgroupGoneError):
                continue
            except CgwatchError as error:
                problems.append(str(error))
        return problems

    def _wait(self, step: Step, following: Sequence[Step]) -> None:
        deadline = self._pace.monotonic() + self._pace.deadline_seconds
        while not self._is_reached(step, following):
            if self._pace.monotonic() >= deadline:
                if self._plan.request.force:
                    return
                raise _FailedError(
                    step.keys,
                    "the processes use more than that and it cannot be reclaimed"
                    f" ({self._pace.deadline_seconds:g} s were tried): end some, allow more, or use --force,"
                    " which kills",
                )
            self._pace.sleep(_POLL_SECONDS)

    def _is_reached(self, step: Step, following: Sequence[Step]) -> bool:
        try:
            if step.waits_for == "frozen":
                return self._kernel.is_frozen(step.path)
            state = self._kernel.survey(self._target).cgroups.get(step.path)
        except FileMissingError as error:
            raise _FailedError(step.keys, str(error), gone=True) from error
        bound = next((_number(each.text) for each in following if "memory.max" in each.keys), None)
        usage = state.memory_usage_bytes if state else None
        return usage is None or bound is None or usage <= bound

    def _is_gone(self) -> bool:
        return self._look() is None

    # -- reading back --------------------------------------------------------------------------------------

    def _look(self) -> Tree | None:
        """Read all of it; ``None``: the cgroup is gone, or another one is in its place."""
        try:
            tree = self._kernel.survey(self._target)
        except (FileMissingError, CgroupGoneError):
            return None
        state = tree.cgroups.get(self._target.path)
        return tree if state is not None and state.inode == self._target.inode else None

    def _judge(
        self, change: Change, first: Tree | None, last: Tree | None, began: float, began_monotonic: float
    ) -> Outcome:
        if first is None or last is None:
            return self._outcome(
                change, Result.GONE, began, began_monotonic, message="the cgroup was removed in the meantime"
            )
        early, late = self._seen(change.key, first), self._seen(change.key, last)
        values = last.cgroups[self._target.path].values
        result, message = judged(
            change,
            early,
            late,
            page_bytes=last.node.page_bytes,
            via=self._ways.get(change.key, Via.CGROUPFS),
            period=period_of(values),
        )
        return self._outcome(change, result, began, began_monotonic, seen=late, message=message)

    def _seen(self, key: Key, tree: Tree) -> Seen:
        state = tree.cgroups[self._target.path]
        effective, path = self._kernel.effective(tree, self._target.path, key)
        usage = state.memory_usage_bytes if key == "memory.max" else None
        return Seen(state.values.get(key), effective, path, usage)

    def _outcome(
        self,
        change: Change,
        result: Result,
        began: float,
        began_monotonic: float,
        *,
        seen: Seen | None = None,
        message: str = "",
    ) -> Outcome:
        return Outcome(
            change,
            result,
            self._ways.get(change.key, Via.CGROUPFS),
            began,
            self._pace.monotonic() - began_monotonic,
            written=self._written.get(change.key),
            read_back=seen.value if seen else None,
            effective=seen.effective if seen else None,
            effective_path=seen.effective_path if seen else None,
            message=message,
        )


def way_of(step: Step, path: str, ways: Mapping[Key, Via], tree: Tree) -> Via:
    """Say by which way a step goes: by the kernel's file if it is another cgroup's, or prepares another."""
    if step.path != path:
        return Via.CGROUPFS
    for key in step.keys:
        knob = knob_of(key)
        place = knob.place(tree.versions.get(knob.controller, 2))
        if place is None or place.file != step.file:
            continue
        if key in ways:
            return ways[key]
        if key == "memory.swap.max" and ways.get("memory.max") is Via.DOCKER:
            return Via.DOCKER  # which sets both at once, always
    return Via.CGROUPFS


def undone(step: Step, undo: str) -> Step:
    """Return the step that brings back what was there before ``step``."""
    return Step(step.path, step.controller, step.file, undo, None, step.keys)


def bring_back(
    plan: Plan,
    ways: Mapping[Key, Via],
    tree: Tree,
    *,
    kernel: Kernel,
    owners: Mapping[Via, OwnerWriter],
) -> list[str]:
    """Undo a plan of which nobody knows how far it came; return what could not be undone.

    In the reverse order every undo either does its work or writes what is there already, however far it came.
    """
    target, problems = plan.request.target, []
    now = dict(tree.cgroups[target.path].values)
    called = set()
    for step in reversed(plan.steps):
        way = way_of(step, target.path, ways, tree)
        if way is Via.CGROUPFS and step.undo is None:
            continue
        try:
            if way is Via.CGROUPFS:
                kernel.write(undone(step, step.undo or ""))
            elif way not in called:
                called.add(way)
                before = {
                    each.key: each.before
                    for each in plan.changes
                    if ways.get(each.key) is way and each.before is not None
                }
                _write_by(owners, way, target, before, now)
        except (FileMissingError, CgroupGoneError):
            continue
        except CgwatchError as error:
            problems.append(str(error))
    return problems


def _write_by(
    owners: Mapping[Via, OwnerWriter],
    way: Via,
    target: Target,
    wanted: Mapping[Key, Value],
    now: Mapping[Key, Value],
) -> None:
    owner = owners.get(way)
    if owner is None:
        raise RuntimeUnavailableError(f"the agent cannot speak to {way}")
    owner.write(target, wanted, now)


def _told(failed: _FailedError, key: Key, problems: Sequence[str]) -> str:
    told = str(failed)
    if key not in failed.keys and not failed.gone:
        told = f"not done, as {', '.join(sorted(failed.keys))} was not: {failed}"
    return told + (f"; and it could not be undone: {'; '.join(problems)}" if problems else "")


def _number(text: str) -> float | None:
    return int(text) if text.isdigit() else None


def _ignore(_: object) -> None:
    """Of an undo there is nothing to return."""
