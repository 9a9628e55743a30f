from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.discovery.recognise import recognise
from cgwatch.limits.resolve import Candidate, candidates, is_glob, names_of, resolve, similar
from cgwatch.model import Cgroup, Container, Description, Runtime

WEB, DB, CAFE = "ab1" + "0" * 61, "ab2" + "0" * 61, "cafe" + "1" * 60
POD = "11111111-2222-3333-4444-555555555555"
IN_POD = "77" * 32
INSIDE = f"/docker/{CAFE}/system.slice/ssh.service"


def container(
    path: str, name: str | None = None, labels: dict[str, str] | None = None, inode: int = 7
) -> Container:
    owner = recognise(path)
    said = None
    if name is not None:
        said = Description(Runtime.DOCKER, owner.container_id or "", name, "image:1", labels or {}, "running")
    return Container(Cgroup(path, inode), owner, description=said)


POD_LABELS = {"io.kubernetes.pod.name": "shop-0", "io.kubernetes.pod.namespace": "prod"}
AMONG = candidates(
    [
        container("/"),
        container("/web"),
        container(f"/docker/{WEB}", "web"),
        container(f"/docker/{DB}", "db"),
        container(f"/docker/{CAFE}", "ab1"),
        container("/docker"),
        container("/system.slice/ssh.service"),
        container(INSIDE),
        container(f"/docker/{CAFE}/db"),
        container(f"/kubepods/burstable/pod{POD}"),
        container(f"/kubepods/burstable/pod{POD}/{IN_POD}", "k8s_shop", POD_LABELS),
        container("/lxc.payload.alpine"),
        container("/batch/job-1"),
        container("/batch/job-2"),
        container("/gone", "stopped", inode=0),
    ]
)


def paths(text: str) -> list[str]:
    return [each.path for each in resolve(text, AMONG)]


def test_a_containers_name_is_meant_before_a_cgroup_made_by_hand_that_is_called_so() -> None:
    assert paths("web") == [f"/docker/{WEB}"]
    assert paths("/web") == ["/web"]


def test_a_name_is_meant_before_the_beginning_of_another_containers_id() -> None:
    assert paths("ab1") == [f"/docker/{CAFE}"]
    assert paths("ab10") == [f"/docker/{WEB}"]


def test_an_id_is_enough_as_far_as_it_tells_containers_apart() -> None:
    assert paths(WEB) == paths(WEB[:12]) == [f"/docker/{WEB}"]
    assert paths("ab20") == [f"/docker/{DB}"]
    assert paths("77") == []  # two digits are anybody's


def test_the_beginning_of_several_ids_means_all_of_them_so_that_somebody_decides() -> None:
    among = [each for each in AMONG if each.name != "ab1"]
    assert [each.path for each in resolve("ab", among)] == []
    assert len(resolve("000", [*among, *candidates([container(f"/docker/{'0' * 64}")])])) == 1


def test_two_containers_of_one_name_are_both_meant() -> None:
    twins = candidates([container(f"/docker/{WEB}", "web"), container(f"/machine/libpod-{DB}.scope", "web")])
    assert len(resolve("web", twins)) == 2


def test_a_unit_is_the_hosts_own_before_that_of_a_container() -> None:
    assert paths("ssh.service") == ["/system.slice/ssh.service"]
    assert paths(INSIDE) == [INSIDE]
    inside = [each for each in AMONG if each.path == INSIDE]
    assert list(resolve("ssh.service", inside)) == inside


def test_nobody_inside_a_container_can_make_a_cgroup_that_takes_a_name_over() -> None:
    assert paths("db") == [f"/docker/{DB}"]


def test_a_pod_goes_by_its_uid_its_name_and_its_namespace() -> None:
    pod = [f"/kubepods/burstable/pod{POD}"]
    assert paths(POD) == paths("shop-0") == paths("prod/shop-0") == pod
    assert paths("test/shop-0") == []


def test_a_path_needs_no_first_slash_if_it_has_another() -> None:
    assert paths("/batch/job-1") == paths("batch/job-1") == paths("/batch/job-1/") == ["/batch/job-1"]
    assert paths("/") == ["/"]


def test_a_cgroup_made_by_hand_goes_by_its_last_directory() -> None:
    assert paths("job-2") == ["/batch/job-2"]


def test_a_container_of_lxc_goes_by_its_name_and_not_by_how_that_begins() -> None:
    assert paths("alpine") == ["/lxc.payload.alpine"]
    assert paths("alp") == []


def test_a_glob_means_everything_that_is_called_so_outside_of_containers() -> None:
    assert paths("job-*") == ["/batch/job-1", "/batch/job-2"]
    assert paths("d?") == [f"/docker/{DB}"]
    assert paths("*.service") == ["/system.slice/ssh.service"]


def test_a_glob_over_paths_stays_within_one_directory() -> None:
    assert paths("/batch/*") == paths("batch/*") == ["/batch/job-1", "/batch/job-2"]
    assert paths("/docker/*") == [f"/docker/{each}" for each in (WEB, DB, CAFE)]


def test_a_glob_that_is_also_a_name_means_that() -> None:
    odd = candidates([container(f"/docker/{WEB}", "a[1]"), container(f"/docker/{DB}", "a1")])
    assert [each.name for each in resolve("a[1]", odd)] == ["a[1]"]


def test_a_name_that_means_nothing_lists_what_is_called_like_it() -> None:
    assert {each.shown for each in similar("job", AMONG)} == {"/batch/job-1", "/batch/job-2"}
    assert "web" in [each.shown for each in similar("wep", AMONG)]
    assert similar("zzzzzz", AMONG) == ()


def test_what_does_not_run_can_be_named_and_has_no_inode() -> None:
    assert [each.inode for each in resolve("stopped", AMONG)] == [0]


@given(st.text("abdeot1-/0", max_size=8) | st.sampled_from(["web", "job-1", "ab10", "prod/shop-0"]))
def test_without_wildcards_all_that_is_found_answers_to_the_very_text(text: str) -> None:
    assert not is_glob(text)
    for each in resolve(text, AMONG):
        names = {*names_of(each), each.owner.unit, "/" + text.strip("/")}
        assert text in names or each.path in names or (each.owner.container_id or "").startswith(text)


@given(st.sampled_from(AMONG))
def test_everything_can_be_named_by_its_path_and_by_that_alone(each: Candidate) -> None:
    assert resolve(each.path, AMONG) == (each,)
