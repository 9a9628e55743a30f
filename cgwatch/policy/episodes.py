"""How a rule works on a container: it begins, acts again, ends, and goes back step by step. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct, structs

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import Key
from cgwatch.policy.amounts import Amount, Known, resolve
from cgwatch.policy.evaluate import Look, in_words
from cgwatch.policy.ready import ReadyRule
from cgwatch.policy.rules import Action, Approach, Mode, Notify, Reclaim, Set, Shift
from cgwatch.policy.state import Episode
from cgwatch.policy.values import is_tightening
from cgwatch.units import format_duration

_REMEMBERED = 4
"""So many times its patience after its last step an episode is forgotten."""
_MOST_RELAPSES = 8


class Shot(Struct, frozen=True):
    """What a rule does once."""

    rule: ReadyRule
    action: Reclaim | Notify
    reason: str
    size_bytes: int | None = None


class Turn:
    """One container's turn at one moment; collects what rules do once, and what they cannot do."""

    def __init__(self, look: Look, homes: dict[Key, Value]) -> None:
        self.look = look
        self.homes = homes
        """What ``limits`` of policies say."""
        self.shots: list[Shot] = []
        self.notes: dict[tuple[str, str], str] = {}
        """By who it is about, and what kind of note it is."""

    def note(self, by: str, what: str, message: str) -> None:
        """Say why something is not done."""
        self.notes[by, what] = message

    def home(self, key: Key) -> Value | None:
        """What a limit goes back to."""
        return self.homes[key] if key in self.homes else self.look.situation.base(key)

    def known(self, key: Key) -> Known:
        """What an amount of a limit is worked out from."""
        return self.look.host.known(key, self.look.situation, self.home(key))

    def resolved(self, key: Key, amounts: tuple[Amount, ...]) -> list[float] | None:
        """Return what bounds are for this container; ``None``: one of them cannot be told."""
        values = [resolve(amount, self.known(key)) for amount in amounts]
        numbers = [value for value in values if isinstance(value, int | float)]
        return numbers if len(numbers) == len(values) else None


def is_past(now: float, then: float, span_seconds: float) -> bool:
    """Whether a span is over; a clock that was set back ends it, too, rather than make it last."""
    return not 0 <= now - then < span_seconds and span_seconds < math.inf


def advance(ready: ReadyRule, episode: Episode | None, turn: Turn, *, in_force: bool) -> Episode | None:
    """Return how a rule stands with a container after this moment; ``None``: it has nothing to do with it."""
    rule, look = ready.rule, turn.look
    truth = ready.holds(look) if in_force else False
    if truth is None:
        missing = ", ".join(sorted(look.missing))
        turn.note(rule.name, "missing", f"{missing} cannot be told, so nothing is done")
    if episode is None:
        return _acted(ready, None, turn) if truth else None
    episode = _checked(ready, episode, turn, truth=truth, in_force=in_force)
    if truth and not episode.spent and is_past(look.now, episode.acted_seconds, rule.cooldown_seconds):
        return _acted(ready, episode, turn)
    if not episode.returning:
        return episode
    episode = _stepped(ready, episode, turn)
    is_over = not episode.claims and not episode.spent
    remembered = _patience(ready, episode) * _REMEMBERED
    return None if is_over and is_past(look.now, episode.stepped_seconds, remembered) else episode


def _patience(ready: ReadyRule, episode: Episode) -> float:
    return ready.rule.cooldown_seconds * 2.0**episode.relapses


def _checked(
    ready: ReadyRule, episode: Episode, turn: Turn, *, truth: bool | None, in_force: bool
) -> Episode:
    """See whether it has ended, or may begin again."""
    rule, look = ready.rule, turn.look
    if episode.returning:
        return structs.replace(episode, spent=False) if episode.spent and truth is False else episode
    if is_past(look.now, episode.began_seconds, rule.ttl_seconds):
        reason = f"its time to live of {format_duration(rule.ttl_seconds)} is over"
        return structs.replace(episode, returning=True, spent=truth is not False, reason=reason, relapses=0)
    if not in_force:
        return structs.replace(episode, returning=True, reason="its schedule ends here", relapses=0)
    cleared = ready.clears(look) if ready.clears else truth is False
    if not cleared:
        return episode
    words = in_words(rule.clear, look) if rule.clear else f"not ({in_words(rule.when, look)})"
    return structs.replace(episode, returning=True, reason=f"it has ended: {words}")


def _stepped(ready: ReadyRule, episode: Episode, turn: Turn) -> Episode:
    """Go back toward where limits were: at once where that is relief, a step at a time where it tightens."""
    rule, now = ready.rule, turn.look.now
    if not episode.claims:
        return episode
    at_once = rule.step_back is None and not episode.relapses
    if not at_once and not is_past(now, episode.stepped_seconds, _patience(ready, episode)):
        return episode
    if rule.step_back is None or rule.mode is not Mode.ENFORCE:
        return structs.replace(episode, claims={}, stepped_seconds=now)
    claims = {}
    for key, claim in episode.claims.items():
        home, present = turn.home(key), turn.look.situation.present(key)
        if home is None or present is None or not is_tightening(key, claim, home):
            continue
        if isinstance(claim, str) or isinstance(home, str):
            continue
        if is_tightening(key, present, claim):
            claims[key] = claim  # the last step is still held back
        elif (lower := claim - max(int(claim * rule.step_back), 1)) > home:
            claims[key] = lower
    return structs.replace(episode, claims=claims, stepped_seconds=now)


def _acted(ready: ReadyRule, episode: Episode | None, turn: Turn) -> Episode | None:
    """Act; without anything that can be done the episode stays what it was."""
    rule, now = ready.rule, turn.look.now
    is_new = episode is None or episode.returning
    claims = dict(episode.claims) if episode else {}
    done = False
    for action in rule.do:
        if isinstance(action, Reclaim | Notify):
            done |= _shot(ready, action, turn, is_new=is_new)
            continue
        key = _key(action.key, turn)
        if key is None:
            turn.note(rule.name, action.key, f"{action.key}: the node has no such block device")
        value = None if key is None else _claim(rule.name, key, action, turn, claims.get(key))
        if key is not None and value is not None:
            claims[key] = value
            done = True
    if not done:
        return structs.replace(episode, acted_seconds=now, stepped_seconds=now) if episode else None
    began = now if is_new or episode is None else episode.began_seconds
    relapses = min(episode.relapses + episode.returning, _MOST_RELAPSES) if episode else 0
    return Episode(began, now, now, in_words(rule.when, turn.look), claims, relapses=relapses)


def _shot(ready: ReadyRule, action: Reclaim | Notify, turn: Turn, *, is_new: bool) -> bool:
    """Do what is done once: tell somebody where an episode begins, reclaim each time."""
    if isinstance(action, Notify):
        if is_new:
            turn.shots.append(Shot(ready, action, in_words(ready.rule.when, turn.look)))
        return True
    usage = turn.look.values.get("memory.usage")
    if usage is None:
        turn.note(ready.rule.name, "usage", "memory.usage cannot be told, so nothing is reclaimed")
        return False
    size = int(min(usage * action.share, action.most_bytes))
    if size:
        turn.shots.append(Shot(ready, action, in_words(ready.rule.when, turn.look), size))
    return True


def _key(key: Key, turn: Turn) -> Key | None:
    """Return a limit's key with the number of its device; ``None``: there is no such device."""
    name, bracket, rest = key.partition("[")
    path = rest.removesuffix("]")
    if not bracket or not path.startswith("/"):
        return key
    number = turn.look.host.devices.get(path)
    return None if number is None else f"{name}[{number}]"


def _claim(
    by: str, key: Key, action: Set | Shift | Approach, turn: Turn, claimed: Value | None
) -> Value | None:
    """Return what a limit is to be; ``None``: nothing, and there is a note of it."""
    present = turn.look.situation.present(key)
    if present is None:
        turn.note(by, key, f"the container has no {key} here")
        return None
    if isinstance(action, Set):
        value = resolve(action.to, turn.known(key))
        if value is None:
            turn.note(by, key, f"{action.to.text} of {key} cannot be told, so nothing is done")
        return value
    if isinstance(present, str) or present == math.inf:
        turn.note(
            by, key, f"{key} is {present if isinstance(present, str) else 'without limit'}: no more, no less"
        )
        return None
    change = resolve(action.by, turn.known(key))
    if not isinstance(change, int | float) or change == math.inf:
        turn.note(by, key, f"{action.by.text} of {key} cannot be told, so nothing is done")
        return None
    if isinstance(action, Approach):
        return _approached(by, key, action, turn, present, max(change, 1))
    return _shifted(by, key, action, turn, present, max(change, 1), claimed)


def _approached(
    by: str, key: Key, action: Approach, turn: Turn, present: float, change: float
) -> Value | None:
    goal = resolve(action.toward, turn.known(key))
    if not isinstance(goal, int | float):
        turn.note(by, key, f"{action.toward.text} of {key} cannot be told, so nothing is done")
        return None
    return min(present + change, goal) if goal > present else max(present - change, goal)


def _shifted(
    by: str, key: Key, action: Shift, turn: Turn, present: float, change: float, claimed: Value | None
) -> Value | None:
    wanted = present + change if action.up else present - change
    value = bounded(key, action, turn, wanted)
    if value is None:
        turn.note(by, key, f"a bound of {key} cannot be told, so nothing is done")
        return None
    if not isinstance(value, int | float) or (value <= present if action.up else value >= present):
        turn.note(
            by, key, f"{key} is {format_value(key, present)}, where its bounds end: nothing more is done"
        )
        return None
    if isinstance(claimed, int | float):
        # A step that was decided and is not there yet is not taken back.
        within = bounded(key, action, turn, claimed)
        if isinstance(within, int | float):
            return max(value, within) if action.up else min(value, within)
    return value


def bounded(key: Key, action: Action, turn: Turn, value: Value) -> Value | None:
    """Return a value within an action's bounds; of all the ceiling is the last word. ``None``: not known."""
    if not isinstance(action, Shift) or isinstance(value, str):
        return value
    floors, ceilings = turn.resolved(key, action.floor), turn.resolved(key, action.ceiling)
    if floors is None or ceilings is None:
        return None
    return min([max([value, *floors]), *ceilings])


def claims_of(ready: ReadyRule, episode: Episode, turn: Turn) -> Iterator[tuple[Key, Value]]:
    """Yield what an episode wants, within what the rule says now: it may have been read anew since.

    What was raised is at least what it would be without, what was lowered at most that: so whatever else has
    become of a limit meanwhile, a rule that raises never lowers one, and one that lowers never raises it.
    """
    actions = {
        key: action
        for action in ready.rule.do
        if isinstance(action, Set | Shift | Approach) and (key := _key(action.key, turn)) is not None
    }
    for key, claim in episode.claims.items():
        action = actions.get(key)
        value = None if action is None else bounded(key, action, turn, claim)
        home = turn.home(key)
        if isinstance(action, Shift) and isinstance(value, int | float) and isinstance(home, int | float):
            value = max(value, home) if action.up else min(value, home)
        if value is not None:
            yield key, value
