from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Runtime
from cgwatch.policy.match import any_of, matcher, may_overlap, protector
from cgwatch.policy.rules import Guards, Match
from cgwatch.policy.subject import Subject, subject_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_texts = st.text("ab/.", max_size=4)
_globs = st.text("ab/.*?", min_size=1, max_size=4)
_labels = st.dictionaries(st.sampled_from("xyz"), _texts, max_size=3)
_label_globs = st.dictionaries(st.sampled_from("xyz"), _globs, max_size=2)
_some = st.lists(_globs, max_size=2).map(tuple)
_subjects = st.builds(
    Subject,
    path=_texts,
    inode=st.just(1),
    kind=st.sampled_from(("container", "unit", "pod", "qos", "root")),
    runtime=st.sampled_from(("docker", "podman")),
    name=st.none() | _texts,
    image=st.none() | _texts,
    namespace=st.none() | _texts,
    pod=st.none() | _texts,
    unit=st.none() | _texts,
    labels=st.none() | _labels,
)
_matches = st.builds(
    Match,
    runtime=st.sampled_from(((), ("docker",), ("docker", "podman"))),
    kind=st.sampled_from(((), ("container",), ("unit", "pod"))),
    name=_some,
    image=_some,
    namespace=_some,
    pod=_some,
    cgroup=_some,
    unit=_some,
    labels=_label_globs,
    not_labels=_label_globs,
)


def oracle(match: Match, subject: Subject) -> bool:
    """Say the same as the documentation does, one sentence a line."""
    if subject.kind in ("root", "qos"):
        return False
    kinds = match.kind or (() if match.unit or match.cgroup else ("container",))
    pairs: list[tuple[tuple[str, ...], str | None]] = [
        (kinds, subject.kind),
        (match.runtime, subject.runtime),
        (match.name, subject.name),
        (match.image, subject.image),
        (match.namespace, subject.namespace),
        (match.pod, subject.pod),
        (match.unit, subject.unit),
        (match.cgroup, subject.path),
    ]
    for globs, text in pairs:
        if globs and (text is None or not any(fnmatchcase(text, glob) for glob in globs)):
            return False
    if (match.labels or match.not_labels) and subject.labels is None:
        return False
    labels: Mapping[str, str] = subject.labels or {}
    for name, glob in match.labels.items():
        if name not in labels or not fnmatchcase(labels[name], glob):
            return False
    return not any(
        name in labels and fnmatchcase(labels[name], glob) for name, glob in match.not_labels.items()
    )


@given(_matches, _subjects)
def test_a_compiled_match_is_what_the_globs_say_one_by_one(match: Match, subject: Subject) -> None:
    assert matcher(match)(subject) == oracle(match, subject)


@given(_matches, _matches, _subjects)
def test_two_that_match_the_same_container_are_never_taken_for_apart(
    one: Match, other: Match, subject: Subject
) -> None:
    if oracle(one, subject) and oracle(other, subject):
        assert may_overlap(one, other)


def test_what_can_be_told_apart_is() -> None:
    assert not may_overlap(Match(runtime=("docker",)), Match(runtime=("podman",)))
    assert not may_overlap(Match(labels={"tier": "web"}), Match(labels={"tier": "db"}))
    assert not may_overlap(Match(labels={"tier": "web"}), Match(not_labels={"tier": "*"}))
    assert not may_overlap(Match(name=("web-*",)), Match(name=("db-*", "cache")))
    assert may_overlap(Match(name=("web-*",)), Match(image=("db-*",)))


def test_a_container_that_no_runtime_has_told_of_matches_no_label_not_even_an_absent_one() -> None:
    container = Container(Cgroup("/docker/" + "a" * 64, 5), recognise("/docker/" + "a" * 64))
    described = Description(
        Runtime.DOCKER, "a" * 64, "web-1", "nginx:1", {"io.kubernetes.pod.namespace": "prod"}, "running"
    )
    wants = matcher(Match(not_labels={"skip": "*"}))

    assert not wants(subject_of(container))
    told = subject_of(Container(container.cgroup, container.owner, description=described))
    assert wants(told)
    assert (told.name, told.namespace, told.kind) == ("web-1", "prod", "container")


def test_what_is_protected_is_protected_with_all_that_is_in_it() -> None:
    protects = protector(Guards(protect=("system.slice", "kubepods*", "sshd.service", "/a/b")))

    def subject(path: str, unit: str | None = None) -> Subject:
        return Subject(path, 1, "container", "docker", unit=unit)

    assert protects(subject("/system.slice/docker-1.scope"))
    assert protects(subject("/kubepods.slice/kubepods-x.slice/cri-1.scope"))
    assert protects(subject("/user.slice/x", "sshd.service"))
    assert protects(subject("/a/b"))
    assert not protects(subject("/a/b/c"))
    assert not protects(subject("/docker/system"))
    assert not protector(Guards())(subject("/system.slice"))


@given(st.lists(_globs, min_size=1, max_size=3), _texts)
def test_any_glob_is_enough(globs: list[str], text: str) -> None:
    assert bool(any_of(globs)(text)) == any(fnmatchcase(text, glob) for glob in globs)
