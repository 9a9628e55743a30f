"""What is said of a kill, checked by its facts: recorded kernels first, then how memory can have grown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.discovery.recognise import recognise
from cgwatch.oom.case import Consumer
from cgwatch.oom.evidence import (
    AtKill,
    Breakdown,
    Evidence,
    Involved,
    Limit,
    Memory,
    Node,
    Process,
    Series,
    Share,
    Stall,
)
from cgwatch.oom.explain import Explanation, explain
from cgwatch.oom.forensics import collect
from cgwatch.oom.history import History
from cgwatch.oom.kill import Cause, Holder, OomKill, Scope, Victim
from cgwatch.oom.shape import Shape
from cgwatch.oom.statement import Statement
from cgwatch.oom.verdict import cause_of
from cgwatch.units import exact_size, format_size
from tests.oom.test_dialect import captured

MIB = 1 << 20
ID = "ab" * 32
PATH = f"/docker/{ID}"
LIMIT = 100 * MIB
MOMENT = 10_000.0
NODE = Node(32 << 30, 16 << 30, 0, 0)


def kill(path: str = PATH, **fields: Any) -> OomKill:
    said: dict[str, Any] = {
        "path": path,
        "exact": True,
        "attributed": True,
        "holder": Holder(path, 7, recognise(path), name="web" if path == PATH else None),
        "cause": Cause.OWN_LIMIT,
        "limit_path": path,
        "scope": Scope.MAIN,
        "exit_code": 137,
        "killed_seconds": MOMENT,
        "victim": Victim(4242, "hog", anon_bytes=90 * MIB, file_bytes=0, shmem_bytes=0),
    }
    return OomKill(1, "boot", MOMENT + 0.5, MOMENT - 5, **(said | fields))


def needing(
    need: Callable[[float], float], *, seconds: float = 300, every: float = 6, last: float = 1, **fields: Any
) -> Evidence:
    """Give evidence of a cgroup whose need was this function of the seconds before the kill."""
    ages = [last + every * step for step in range(int((seconds - last) // every) + 1)][::-1]
    sizes = tuple(int(need(age)) for age in ages)
    zeros = (0,) * len(ages)
    series = Series(tuple(MOMENT - age for age in ages), sizes, sizes, zeros, zeros, zeros)
    memory = Memory(MOMENT - ages[-1], sizes[-1], limit_bytes=LIMIT, breakdown=Breakdown(sizes[-1], 0, 0, 0))
    said: dict[str, Any] = {
        "holder": Involved(PATH, memory, series=series),
        "limits": (Limit(PATH, LIMIT, sizes[-1]),),
        "node": NODE,
    }
    return Evidence(MOMENT - last, **(said | fields))


def of(said: Explanation, topic: str) -> Statement:
    (found,) = [each for each in (*said.facts, *said.advice) if each.topic == topic]
    return found


def topics(statements: tuple[Statement, ...]) -> list[str]:
    return [each.topic for each in statements]


# Recorded kills. There was no agent beside them, so all that is known is what the kernel's log says.


def recorded(shape: str) -> Explanation:
    told = captured(shape)[0]
    line = told.kill
    path = line.path or "/"
    found = OomKill(
        1,
        "boot",
        line.seconds + 1,
        line.seconds - 1,
        path=path,
        exact=True,
        attributed=True,
        holder=Holder(path, None, recognise(path)),
        killed_seconds=line.seconds,
        limit_path=line.limit_path,
        victim=line.victim,
        scope=Scope.UNKNOWN,
    )
    found = structs.replace(found, cause=cause_of(found, line.limit_path, (), is_global=bool(line.is_global)))
    evidence = collect(found, History(), None, before=None, dump=told.dump, page_bytes=4096)
    return explain(found, evidence)


def test_recorded_one_process_at_its_own_limit() -> None:
    said = recorded("single")

    assert said.verdicts.cause is Cause.OWN_LIMIT
    assert (said.verdicts.limit_path, said.verdicts.limit_bytes) == ("/cgwtest-single", 20 * MIB)
    assert said.verdicts.consumer is Consumer.ANON
    assert said.verdicts.could_reclaim is False
    assert of(said, "limit").text == "The limit that was hit is its own: /cgwtest-single, 20MiB."
    assert of(said, "usage").text.startswith("At the kill, it held 20MiB: 19.95MiB anonymous")
    assert of(said, "scope").text == "The victim was the only process there."
    assert said.not_known == ("how it grew: there is no sample from before the kill",)


def test_recorded_a_child_of_the_main_process() -> None:
    said = recorded("child_only")

    assert said.verdicts.consumer is Consumer.ANON
    assert of(said, "victim").text.startswith("The victim, child (")
    assert "Of 2 processes there the largest in memory were child (" in of(said, "processes").text


def test_recorded_a_group_that_is_killed_together() -> None:
    said = recorded("group")

    assert said.verdicts.limit_bytes == 30 * MIB
    assert of(said, "processes").numbers["processes"] == 4


@pytest.mark.parametrize(
    ("shape", "above"), [("parent_limit", "/cgwtest-pod"), ("v1_parent_limit", "/cgwtest-v1")]
)
def test_recorded_the_limit_of_the_cgroup_above_on_both_kinds_of_kernel(shape: str, above: str) -> None:
    said = recorded(shape)

    assert said.verdicts.cause is Cause.ANCESTOR_LIMIT
    assert (said.verdicts.limit_path, said.verdicts.limit_bytes) == (above, 20 * MIB)
    assert said.verdicts.consumer is Consumer.ANON
    assert said.summary == f"{above}/container: the limit of {above} of 20MiB was hit by anonymous memory"
    assert (
        of(said, "limit").text == f"The limit that was hit is not its own, but one above it: {above}, 20MiB."
    )
    assert of(said, "raise").text.startswith("Raise that limit above 20MiB")


def test_recorded_a_node_that_ran_out_of_memory() -> None:
    said = recorded("whole_node")

    assert said.verdicts.cause is Cause.GLOBAL
    assert said.verdicts.limit_bytes is None
    assert said.summary == "/cgwtest-free: the node ran out of memory"
    assert of(said, "limit").text == "No cgroup's limit was hit: the node itself ran out of memory."
    assert topics(said.advice)[-1] == "node"
    assert "raise" not in topics(said.advice)


def test_recorded_names_that_look_like_the_kernels_own_words_stay_names() -> None:
    said = recorded("odd_names")

    assert of(said, "victim").text.startswith("The victim, a,b=c,task=d (")


def test_recorded_a_burst_that_the_kernel_says_little_of() -> None:
    told = next(each for each in captured("burst") if each.dump is None)

    said = explain(OomKill(30, "boot", 2.0, 1.0, victim=told.kill.victim, killed_seconds=2.0), None)

    assert said.summary == "a process of this node: it is not known by whose limit"
    assert said.advice == ()
    assert [each.partition(":")[0] for each in said.not_known] == [
        "whose process it was",
        "whose limit was hit",
        "what the memory was",
        "how it grew",
    ]


# How it grew.


def test_steady_growth_is_called_so_with_its_pace_and_how_long_it_went_on() -> None:
    said = explain(kill(), needing(lambda age: LIMIT - age * MIB / 5))

    assert said.verdicts.shape is Shape.GROWTH
    growth = of(said, "growth")
    assert growth.text.startswith(
        "Steady growth: what it needs grew by 12MiB a minute for at least 4m55s, from 41MiB to 99.8MiB, "
        "most of it anonymous memory."
    )
    assert growth.numbers["bytes_per_second"] == pytest.approx(MIB / 5)
    assert growth.numbers["straightness_ratio"] == pytest.approx(1)
    leak = of(said, "leak")
    assert "Doubling it to 200MiB (docker update --memory 200m web) would last 8m20s longer" in leak.text
    assert leak.numbers["lasts_seconds"] == pytest.approx(500)
    assert "raise" not in topics(said.advice)


def test_sudden_growth_is_called_a_spike_and_no_number_is_made_up_for_it() -> None:
    said = explain(kill(), needing(lambda age: 90 * MIB if age < 4 else 20 * MIB, every=2, last=2))

    assert said.verdicts.shape is Shape.SPIKE
    assert "grew by 80MiB within 4s" in of(said, "growth").text
    assert of(said, "growth").numbers["sudden_bytes"] == 80 * MIB
    assert "needs more than 100MiB" in of(said, "raise").text
    assert of(said, "raise").numbers == {"limit_bytes": LIMIT}


def test_growth_after_the_last_sample_is_a_spike_that_nobody_saw() -> None:
    said = explain(kill(), needing(lambda _: 30 * MIB, last=2))

    assert said.verdicts.shape is Shape.SPIKE
    assert of(said, "growth").text == (
        "A spike: what it needed grew by 70MiB within 2s. The last sample before it showed 30MiB."
    )
    assert of(said, "usage").text.endswith("; what came after that is not in it.")
    assert said.verdicts.consumer is Consumer.ANON  # by the victim, which had most of the limit


def test_a_need_near_the_limit_all_the_time_is_a_limit_too_small_and_the_number_follows_a_stated_rule() -> (
    None
):
    said = explain(kill(), needing(lambda age: (96 + age % 3) * MIB))

    assert said.verdicts.shape is Shape.PLATEAU
    raised = of(said, "raise")
    assert raised.numbers["wanted_bytes"] == 125 * MIB
    assert "Raise the limit to 125MiB (docker update --memory 125m web)" in raised.text
    assert "a quarter above the highest need that was seen (100MiB)" in raised.text


@pytest.mark.parametrize(
    ("swap", "flags"),
    [
        ({"memory_and_swap_limit_bytes": LIMIT}, "--memory 125m --memory-swap 125m"),
        ({"memory_and_swap_limit_bytes": 2 * LIMIT}, "--memory 125m --memory-swap 225m"),
        ({"swap_limit_bytes": 0}, "--memory 125m --memory-swap 125m"),
        ({}, "--memory 125m"),
    ],
)
def test_the_command_for_docker_raises_the_limit_of_memory_and_swap_where_there_is_one(
    swap: dict[str, int], flags: str
) -> None:
    evidence = needing(lambda age: (96 + age % 3) * MIB)
    holder = evidence.holder
    assert holder is not None
    assert holder.last is not None
    last = structs.replace(holder.last, **swap)
    evidence = structs.replace(evidence, holder=structs.replace(holder, last=last))

    assert f"(docker update {flags} web)" in of(explain(kill(), evidence), "raise").text


def test_a_need_that_goes_up_and_down_has_no_shape_and_no_number_is_made_up() -> None:
    said = explain(kill(), needing(lambda age: (90 if int(age) // 20 % 2 else 78) * MIB))

    assert said.verdicts.shape is Shape.UNKNOWN
    assert "neither a spike nor steady growth" in of(said, "growth").text
    assert of(said, "raise").numbers == {"limit_bytes": LIMIT}


def test_cache_that_the_kernel_can_drop_is_no_need() -> None:
    evidence = needing(lambda _: 30 * MIB)
    holder = evidence.holder
    assert holder is not None
    full = tuple([LIMIT] * len(holder.series.seconds))
    cache = tuple([70 * MIB] * len(full))
    evidence = structs.replace(
        evidence,
        holder=structs.replace(
            holder, series=structs.replace(holder.series, usage_bytes=full, file_bytes=cache)
        ),
    )

    assert explain(kill(), evidence).verdicts.shape is Shape.SPIKE  # from 30 MiB, not near the limit always


def test_a_leak_into_swap_is_growth_though_the_usage_stands_at_the_limit() -> None:
    evidence = needing(lambda _: LIMIT)
    holder = evidence.holder
    assert holder is not None
    swapped = tuple(int(MIB * step) for step in range(len(holder.series.seconds)))
    evidence = structs.replace(
        evidence, holder=structs.replace(holder, series=structs.replace(holder.series, swap_bytes=swapped))
    )

    assert explain(kill(), evidence).verdicts.shape is Shape.GROWTH


def test_steady_growth_after_a_start_of_another_kind_is_told_from_where_it_began() -> None:
    said = explain(kill(), needing(lambda age: LIMIT - min(age, 150) * MIB / 5 - (age > 280) * 40 * MIB))

    assert said.verdicts.shape is Shape.GROWTH
    assert of(said, "growth").numbers["window_seconds"] < 280


def test_a_need_near_the_limit_from_soon_after_its_start_is_a_limit_too_small() -> None:
    said = explain(kill(), needing(lambda age: (3 if age > 72 else 95) * MIB, seconds=76))

    assert said.verdicts.shape is Shape.PLATEAU
    assert "it had needed 95MiB for at least 1m7s." in of(said, "growth").text


def test_a_few_samples_are_no_steady_growth() -> None:
    said = explain(kill(), needing(lambda age: LIMIT - age * MIB / 5, seconds=30))

    assert said.verdicts.shape is Shape.UNKNOWN


def test_a_cgroup_that_had_only_just_begun_is_said_to_be_young() -> None:
    evidence = needing(lambda _: 1 * MIB, seconds=3, created_seconds=MOMENT - 3)

    assert of(explain(kill(), evidence), "growth").text.endswith("The cgroup was only 3s old.")


# What the memory was.


def at_kill(usage_bytes: int = LIMIT, **parts: int) -> Evidence:
    return needing(
        lambda _: 90 * MIB,
        at_kill=AtKill(usage_bytes=usage_bytes, limit_bytes=LIMIT, breakdown=Breakdown(**parts)),
    )


@pytest.mark.parametrize(
    ("parts", "consumer"),
    [
        ({"anon_bytes": 80 * MIB, "file_bytes": 10 * MIB}, Consumer.ANON),
        ({"anon_bytes": 10 * MIB, "file_bytes": 80 * MIB, "shmem_bytes": 75 * MIB}, Consumer.SHMEM),
        ({"anon_bytes": 10 * MIB, "file_bytes": 80 * MIB, "shmem_bytes": 5 * MIB}, Consumer.CACHE),
        ({"anon_bytes": 10 * MIB, "file_bytes": 0, "kernel_bytes": 85 * MIB}, Consumer.KERNEL),
        ({"anon_bytes": 40 * MIB, "file_bytes": 40 * MIB, "shmem_bytes": 0}, Consumer.MIXED),
        ({}, Consumer.ANON),
    ],
)
def test_most_of_the_memory_is_named(parts: dict[str, int], consumer: Consumer) -> None:
    assert explain(kill(), at_kill(**parts)).verdicts.consumer is consumer


def test_files_in_a_tmpfs_are_told_from_shared_memory_and_get_a_bound_from_what_is_left() -> None:
    said = explain(
        kill(),
        at_kill(anon_bytes=10 * MIB, file_bytes=88 * MIB, shmem_bytes=88 * MIB, file_mapped_bytes=8 * MIB),
    )

    assert of(said, "usage").numbers["shmem_bytes"] == 88 * MIB
    fact, advice = [each for each in (*said.facts, *said.advice) if each.topic == "tmpfs"]
    assert fact.text.startswith("At least 80MiB of the shmem is mapped by no process")
    assert advice.numbers["room_bytes"] == 90 * MIB


def test_where_kernel_memory_filled_the_limit_its_largest_part_is_named() -> None:
    said = explain(
        kill(),
        at_kill(anon_bytes=MIB, file_bytes=0, kernel_bytes=95 * MIB, slab_unreclaimable_bytes=80 * MIB),
    )

    assert "slab that cannot be dropped: 80MiB" in of(said, "kernel").text


@pytest.mark.parametrize(
    ("parts", "could", "words"),
    [
        (
            {"anon_bytes": 99 * MIB, "file_bytes": MIB},
            False,
            "Reclaim could not help: no more than 1MiB (1%) was clean cache that the kernel could drop",
        ),
        ({"anon_bytes": 50 * MIB, "file_bytes": 50 * MIB}, True, "50MiB (50%) was clean cache even then"),
        (
            {"anon_bytes": 40 * MIB, "file_bytes": 60 * MIB, "file_dirty_bytes": 55 * MIB},
            False,
            "no more than 5MiB (5%)",
        ),
        (
            {"anon_bytes": 10 * MIB, "file_bytes": 90 * MIB, "shmem_bytes": 88 * MIB},
            False,
            "no more than 2MiB",
        ),
    ],
)
def test_it_says_whether_reclaim_could_have_helped(parts: dict[str, int], could: bool, words: str) -> None:  # noqa: FBT001 - an expected value
    said = explain(kill(), at_kill(**parts))

    assert said.verdicts.could_reclaim is could
    assert words in of(said, "reclaim").text
    assert "and the node has no swap." in of(said, "reclaim").text


def test_where_the_kernel_does_not_tell_the_parts_reclaim_is_not_judged() -> None:
    said = explain(kill(), at_kill(kernel_bytes=MIB))

    assert said.verdicts.could_reclaim is None
    assert "reclaim" not in topics(said.facts)


def test_dirty_pages_that_wait_for_a_slow_disk_are_advised_on() -> None:
    said = explain(kill(), at_kill(anon_bytes=40 * MIB, file_bytes=60 * MIB, file_writeback_bytes=30 * MIB))

    assert "30MiB waited to be written" in of(said, "dirty").text


# Whose limit.


def test_a_limit_that_the_kernel_did_not_name_is_concluded_where_no_other_can_have_been_hit() -> None:
    unnamed = kill(cause=Cause.UNKNOWN, limit_path=None, victim=None)

    said = explain(unnamed, needing(lambda _: 99 * MIB))

    assert (said.verdicts.limit_path, said.verdicts.limit_is_inferred) == (PATH, True)
    assert "The kernel did not say whose limit was hit; it must be that of" in of(said, "limit").text
    assert of(said, "limit").numbers["node_available_bytes"] == 16 << 30


@pytest.mark.parametrize(
    "more",
    [
        {"limits": (Limit(PATH, LIMIT), Limit("/docker", 2 * LIMIT))},
        {"limits": ()},
        {"node": None},
        {"node": Node(32 << 30, 1 << 30)},
    ],
    ids=["two limits", "none", "an unknown node", "a node that is short as well"],
)
def test_a_limit_that_the_kernel_did_not_name_is_not_guessed(more: dict[str, Any]) -> None:
    unnamed = kill(cause=Cause.UNKNOWN, limit_path=None)

    said = explain(unnamed, needing(lambda _: 99 * MIB, **more))

    assert said.verdicts.limit_bytes is None
    assert "limit" not in topics(said.facts)
    assert any(each.startswith("whose limit was hit") for each in said.not_known)
    assert "raise" not in topics(said.advice)


SHARES = (Share("/pod/b", 80 * MIB, "b", 90 * MIB), Share("/pod/a", 15 * MIB, "a", 60 * MIB))


def in_pod(**more: Any) -> Explanation:
    victim = kill("/pod/a", cause=Cause.ANCESTOR_LIMIT, limit_path="/pod")
    memory = Memory(MOMENT - 1, 15 * MIB)
    pod = Memory(MOMENT - 1, 98 * MIB, limit_bytes=LIMIT, breakdown=Breakdown(90 * MIB, 0, 0, 0))
    said: dict[str, Any] = {
        "holder": Involved("/pod/a", memory),
        "limit": Involved("/pod", pod),
        "limits": (Limit("/pod", LIMIT, 98 * MIB),),
        "largest": SHARES,
    }
    return explain(victim, Evidence(MOMENT - 1, **(said | more)))


def test_at_a_limit_above_it_says_who_else_used_it_and_whether_it_is_overcommitted() -> None:
    said = in_pod()

    assert of(said, "usage").text.startswith(
        "At the last sample, 1s before the kill, all below that limit held 98MiB"
    )
    assert "b 80MiB and a 15MiB" in of(said, "largest").text
    assert "/pod/a held 15MiB of 100MiB" in of(said, "others").text
    assert "first b" in of(said, "others").text
    assert of(said, "overcommitted").numbers == {"limits_bytes": 150 * MIB, "limit_bytes": LIMIT}


def test_at_a_limit_above_that_is_not_overcommitted_it_says_who_has_no_limit() -> None:
    said = in_pod(largest=(Share("/pod/b", 80 * MIB, "b"), Share("/elsewhere", 999 * MIB, "c")))

    assert "(b has none)" in of(said, "raise").text
    assert "c 999MiB" not in of(said, "largest").text


def test_on_a_node_that_ran_out_a_container_without_a_limit_gets_a_number_from_its_own_need() -> None:
    evidence = needing(lambda _: 80 * MIB, limits=(), largest=(Share(PATH, 80 * MIB, "web"),))

    said = explain(kill(cause=Cause.GLOBAL, limit_path=None), evidence)

    bounds = [each for each in said.advice if each.topic == "bound"]
    assert "web has no memory limit: with one of 100MiB" in bounds[0].text
    assert bounds[0].numbers == {"highest_bytes": 80 * MIB, "wanted_bytes": 100 * MIB}
    assert any("The node had 16GiB of 32GiB available" in each.text for each in said.facts)


def test_on_a_node_that_a_leak_has_filled_no_limit_is_made_up_from_what_the_leak_took() -> None:
    evidence = needing(lambda age: LIMIT - age * MIB / 5, limits=(), node=Node(110 * MIB, 4 * MIB))

    said = explain(kill(cause=Cause.GLOBAL, limit_path=None), evidence)

    assert of(said, "bound").numbers == {"most_bytes": of(said, "usage").numbers["usage_bytes"] + 4 * MIB}
    assert "well below 103.8MiB" in of(said, "bound").text
    assert of(said, "leak").text.startswith("In web, look for what is never freed")


def test_a_need_that_nearly_filled_the_node_is_no_measure_for_a_limit() -> None:
    evidence = needing(lambda _: 80 * MIB, limits=(), node=Node(100 * MIB, 4 * MIB))

    said = explain(kill(cause=Cause.GLOBAL, limit_path=None), evidence)

    assert of(said, "bound").numbers == {"most_bytes": 84 * MIB}


def test_where_it_is_not_known_whether_there_was_a_limit_nobody_is_told_to_set_one() -> None:
    evidence = needing(lambda _: 80 * MIB, limits=None)

    said = explain(kill(cause=Cause.GLOBAL, limit_path=None), evidence)

    assert "bound" not in topics(said.advice)


def test_a_limit_that_cgwatch_was_writing_is_said_to_be_too_low() -> None:
    said = explain(kill(cause=Cause.LIMIT_WRITE), needing(lambda _: 120 * MIB))

    assert of(said, "raise").numbers["wanted_bytes"] == 150 * MIB
    assert any("cgwatch was writing a limit" in each.text for each in said.facts)


# Who died, and what came before.


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (Scope.MAIN, "Its main process was killed, and the container ended with it (exit code 137)."),
        (Scope.CHILD, "A child was killed, not the main process: the container may go on without it."),
        (Scope.GROUP, "All processes were killed together (memory.oom.group)."),
    ],
)
def test_it_says_what_of_the_container_died(scope: Scope, words: str) -> None:
    facts = explain(kill(scope=scope), None).facts

    assert [each.text for each in facts if each.topic == "scope"] == [words]


def test_the_kills_of_one_group_are_one_incident_and_its_largest_process_is_named() -> None:
    worker, leaky = Victim(5, "worker", anon_bytes=4 * MIB), Victim(6, "leaky", anon_bytes=80 * MIB)
    earlier = [
        kill(scope=Scope.GROUP, victim=leaky),
        kill(scope=Scope.GROUP, victim=leaky),  # the kernel counts the first one twice
        kill(scope=Scope.GROUP, victim=worker, killed_seconds=MOMENT - 600),
    ]

    said = explain(kill(scope=Scope.GROUP, victim=worker), None, earlier)

    assert of(said, "group").text == (
        "Of the 2 that were killed together the largest was leaky (6), with 80MiB of anonymous memory."
    )
    assert "the 2nd kill of it that is stored; the one before was 10m earlier" in of(said, "repeats").text


def test_kills_at_like_intervals_are_told_by_their_interval() -> None:
    earlier = [kill(killed_seconds=MOMENT - 62), kill(killed_seconds=MOMENT - 120)]

    assert of(explain(kill(), None, earlier), "repeats").text == (
        "It is the 3rd kill of it that is stored: one about every 1m."
    )


def test_earlier_kills_of_the_same_container_are_counted() -> None:
    earlier = [kill(killed_seconds=MOMENT - 600), kill(killed_seconds=MOMENT - 4200)]

    repeats = of(explain(kill(), None, earlier), "repeats")

    assert repeats.text == (
        "It is the 3rd kill of it that is stored; the one before was 10m earlier, the first 1h10m."
    )


def test_stalls_before_the_kill_are_told_where_they_were_notable() -> None:
    stalled = explain(kill(), needing(lambda _: MIB, stall=Stall(0.5, 0.4)))
    calm = explain(kill(), needing(lambda _: MIB, stall=Stall(0.5, 0.01)))

    assert "40% of the ten seconds" in of(stalled, "pressure").text
    assert "pressure" not in topics(calm.facts)


# Nothing is made up.

commands = st.text("xyz ", max_size=15)
sizes = st.one_of(st.none(), st.integers(0, 2**50))
breakdowns = st.builds(Breakdown, sizes, sizes, sizes, sizes, sizes, sizes, sizes, sizes, sizes, sizes)
memories = st.builds(Memory, st.floats(0, MOMENT), sizes, sizes, sizes, breakdown=breakdowns)


def pid_of(process: Process) -> int:
    return process.pid


@st.composite
def series(draw: st.DrawFn) -> Series:
    points = draw(
        st.lists(st.tuples(st.floats(0, 2 * MOMENT), sizes, sizes, sizes, sizes, sizes, sizes), max_size=20)
    )
    return Series(*zip(*sorted(points, key=lambda point: point[0]), strict=True)) if points else Series()


involved = st.builds(Involved, st.just(PATH), st.none() | memories, st.none() | memories, series=series())
evidences = st.builds(
    Evidence,
    st.floats(0, MOMENT),
    holder=st.none() | involved,
    limit=st.none() | involved,
    limits=st.lists(st.builds(Limit, st.just(PATH), st.integers(0, 2**50), sizes), max_size=2).map(tuple),
    largest=st.lists(st.builds(Share, st.just(PATH), st.integers(0, 2**50)), max_size=1).map(tuple),
    node=st.none() | st.builds(Node, st.integers(0, 2**50), sizes, sizes, sizes),
    at_kill=st.none()
    | st.builds(
        AtKill,
        usage_bytes=sizes,
        limit_bytes=sizes,
        breakdown=breakdowns,
        processes=st.lists(
            st.builds(Process, st.integers(1, 9), commands, sizes), max_size=3, unique_by=pid_of
        ).map(tuple),
        processes_total=st.integers(0, 3),
    ),
    created_seconds=st.none() | st.floats(0, MOMENT),
)
kills = st.builds(
    kill,
    cause=st.sampled_from(Cause),
    scope=st.sampled_from(Scope),
    limit_path=st.sampled_from([None, PATH, "/docker"]),
    victim=st.none() | st.builds(Victim, st.just(5), commands, sizes, sizes, sizes, sizes),
)


@given(kills, st.none() | evidences)
def test_whatever_the_evidence_every_size_in_a_sentence_is_one_of_its_numbers(
    found: OomKill, evidence: Evidence | None
) -> None:
    said = explain(found, evidence)

    for statement in (*said.facts, *said.advice):
        written = {format_size(value) for value in statement.numbers.values()}
        written |= {exact_size(int(value)) for value in statement.numbers.values()}
        for size in re.findall(r"(?<![\w.])-?[\d.]+(?:[KMGTPE]i)?B\b", statement.text):
            assert size in written, statement
