from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cgwatch.config import default_state_dir, load, parse_address, render, resolve, schema, settings_of
from cgwatch.errors import ConfigError, UnitError
from cgwatch.placed_yaml import read_yaml
from cgwatch.settings import KEYS, Settings

EXAMPLE = Path(__file__).parent.parent / "config" / "cgwatch.yaml"

# One value of each key that is not its default, as text.
OTHER = {
    "listen": "[::1]:0",
    "state_dir": "/srv/état # 1",
    "read_only": "true",
    "roots.cgroup": "/host/sys/fs/cgroup",
    "control.group": "docker",
    "roots.proc": "123",
    "roots.sys": "/host/sys",
    "sampling.interval": "1m30s",
    "sampling.settings_interval": "1m",
    "sampling.machine_interval": "10m",
    "sampling.processes_interval": "5s",
    "sampling.sockets_interval": "1h",
    "sampling.descriptors": "4096",
    "discovery.docker.enabled": "false",
    "discovery.docker.socket": "tcp://127.0.0.1:2375",
    "discovery.docker.timeout": "250ms",
    "metrics.scheme": "kubelet",
    "metrics.container_labels": "com.example.*,app,true,5",
    "metrics.include": "container_file_descriptors,container_ulimits_*",
    "metrics.exclude": "container_spec_*",
    "metrics.cgroups.include": "runtime=docker,label.team=core*",
    "metrics.cgroups.exclude": "kind=unit",
    "metrics.rename_labels": "com.docker.compose.service=service",
    "metrics.bounds.series": "20000",
    "metrics.bounds.page": "16MiB",
    "metrics.bounds.labels": "10",
    "metrics.bounds.label": "100B",
    "metrics.timestamps": "True",
    "metrics.strict_cadvisor": "true",
    "oom.enabled": "false",
    "oom.kernel_log": "false",
    "oom.retain": "1h",
    "oom.series": "20",
    "oom.image_label": "true",
    "oom.keep": "1d",
    "oom.keep_kills": "100",
    "notify.node": "node: 1",
    "notify.timeout": "1s",
    "notify.oom.after": "10s",
    "notify.rate_limit.messages": "5",
    "notify.rate_limit.interval": "1h",
    "notify.queue.messages": "10",
    "notify.queue.keep": "7d",
    "notify.retry.first": "100ms",
    "notify.retry.longest": "1h",
    "notify.templates.title": "$name: $$$number\n# no comment",
    "notify.templates.text": "",
    "notify.log.enabled": "true",
    "notify.webhook.urls": "https://hooks.example.org:8443/a?b=c,http://[::1]",
    "notify.webhook.secret_file": "/etc/cgwatch/secret",
    "notify.alertmanager.urls": "http://127.0.0.1:9093,http://127.0.0.1:9094/prefix/",
    "notify.alertmanager.labels": "severity=critical,cluster=a b",
    "notify.alertmanager.resolve_after": "5m",
    "limits.on_exit": "restore",
    "limits.follow_restarts": "false",
    "limits.protect": "/system.slice/*",
    "limits.verify_after": "2s",
    "limits.deadline": "20s",
    "limits.host_reserve": "1GiB",
    "limits.floor": "16MiB",
    "limits.lock": "/run/other/limits.lock",
    "limits.keep": "1d",
    "server.max_requests": "1",
    "server.compression": "0",
    "log.level": "debug",
    "log.format": "json",
} | {path: str(not KEYS[path].default) for path in KEYS if path.startswith("metrics.groups.")}


def from_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "cgwatch.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ or {}, {}, uid=0)


def error_of(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text)
    return str(caught.value).removeprefix(f"{tmp_path}/")


def test_without_any_source_every_key_has_its_default() -> None:
    assert load(None, {}, {}, uid=0) == Settings()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "sampling:\nmetrics:\n  groups:\n"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path, text: str) -> None:
    assert from_text(tmp_path, text) == Settings()


def test_a_later_source_overrides_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "cgwatch.yaml"
    file.write_text("listen: :1\nsampling:\n  interval: 1s\n  descriptors: 1\nread_only: true\n")
    environ = {"CGWATCH_SAMPLING_INTERVAL": "2s", "CGWATCH_SAMPLING_DESCRIPTORS": "2"}

    settings = load(file, environ, {"sampling.interval": "3s", "log.level": None}, uid=0)

    assert settings.listen == ":1"
    assert settings.read_only is True
    assert settings.sampling.interval_seconds == 3
    assert settings.sampling.descriptors == 2
    assert settings.log.level == "info"


def test_every_value_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "cgwatch.yaml"
    file.write_text("listen: :1\nsampling:\n\n  interval: 1s\n")

    found = resolve(file, {"CGWATCH_READ_ONLY": "1"}, {"sampling.interval": 2.0, "log.level": "debug"}, uid=0)

    origins = {setting.key.path: setting.origin for setting in found if setting.origin != "default"}
    assert origins == {
        "listen": f"{file}:1",
        "read_only": "CGWATCH_READ_ONLY",
        "sampling.interval": "--interval",
        "log.level": "--log-level",
    }


@pytest.mark.parametrize("path", KEYS)
def test_every_key_can_be_set_by_its_variable_and_by_its_flag(path: str) -> None:
    assert set(OTHER) == set(KEYS)

    by_variable = load(None, {KEYS[path].environment: OTHER[path]}, {}, uid=0)
    by_flag = load(None, {}, {path: OTHER[path]}, uid=0)

    assert by_variable == by_flag != Settings()


@settings(deadline=None)  # YAML of all keys takes as long as the machine has other work
@given(st.sets(st.sampled_from(sorted(OTHER))))
def test_the_printed_settings_are_a_file_that_makes_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, changed: set[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "printed.yaml"
    found = resolve(None, {}, {path: OTHER[path] for path in changed}, uid=0)

    file.write_text(render(found), encoding="utf-8")

    assert load(file, {}, {}, uid=0) == settings_of(found)


def test_the_variable_cgwatch_config_names_the_file_and_the_flag_overrides_it(tmp_path: Path) -> None:
    by_variable, by_flag = tmp_path / "a.yaml", tmp_path / "b.yaml"
    by_variable.write_text("listen: :1\n")
    by_flag.write_text("listen: :2\n")
    environ = {"CGWATCH_CONFIG": str(by_variable)}

    assert load(None, environ, {}, uid=0).listen == ":1"
    assert load(by_flag, environ, {}, uid=0).listen == ":2"
    assert load(None, {"CGWATCH_CONFIG": ""}, {}, uid=0) == Settings()


def test_docker_host_is_honoured_only_where_the_socket_is_not_set(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://127.0.0.1:2375"}

    unset = from_text(tmp_path, "", environ)
    in_file = from_text(tmp_path, "discovery: {docker: {socket: unix:///x}}", environ)
    in_environment = from_text(tmp_path, "", environ | {"CGWATCH_DISCOVERY_DOCKER_SOCKET": "unix:///y"})

    assert unset.discovery.docker.socket == "tcp://127.0.0.1:2375"
    assert in_file.discovery.docker.socket == "unix:///x"
    assert in_environment.discovery.docker.socket == "unix:///y"


def test_a_docker_host_that_cgwatch_cannot_use_is_named() -> None:
    with pytest.raises(ConfigError, match=r'^DOCKER_HOST: "ssh://node" is not a socket'):
        load(None, {"DOCKER_HOST": "ssh://node"}, {}, uid=0)


@pytest.mark.parametrize(
    ("uid", "environ", "directory"),
    [
        (0, {"XDG_STATE_HOME": "/state", "HOME": "/root"}, "/var/lib/cgwatch"),
        (1000, {"XDG_STATE_HOME": "/state", "HOME": "/home/u"}, "/state/cgwatch"),
        (1000, {"XDG_STATE_HOME": "relative", "HOME": "/home/u"}, "/home/u/.local/state/cgwatch"),
        (1000, {"XDG_STATE_HOME": "", "HOME": "/"}, "/.local/state/cgwatch"),
        (1000, {}, "/var/lib/cgwatch"),
    ],
)
def test_state_is_kept_where_the_user_may_write(uid: int, environ: dict[str, str], directory: str) -> None:
    assert default_state_dir(uid, environ) == directory
    assert load(None, environ, {}, uid=uid).state_dir == directory


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\nsampling:\n  interval: 5 parsecs\n",
            'cgwatch.yaml:3: $.sampling.interval: "5 parsecs" is not a duration; write it like 5s or 1m30s',
        ),
        (
            "sampling: {interval: 5}",
            'cgwatch.yaml:1: $.sampling.interval: "5" has no unit; give a unit, such as 5s',
        ),
        (
            "sampling: {interval: 50ms}",
            'cgwatch.yaml:1: $.sampling.interval: "50ms" is not a duration from 100ms to 1h',
        ),
        (
            "sampling:\n  intervall: 5s\n",
            (
                'cgwatch.yaml:2: $.sampling: "intervall" is not known here; did you mean interval?'
                " Known are interval, settings_interval, machine_interval, processes_interval,"
                " sockets_interval, descriptors"
            ),
        ),
        (
            "metrics: {groups: {diskio: true}}",
            (
                'cgwatch.yaml:1: $.metrics.groups: "diskio" is not known here; did you mean disk?'
                " Known are cpu, percpu, memory, disk, diskIO, network, pressure, pids, cgroup, state,"
                " oom_event, spec,"
                " machine, process, cpuLoad, sched, hugetlb, cpuset, memory_numa, tcp, udp, advtcp,"
                " cpu_topology, pressure_average"
            ),
        ),
        ("read_only: yes", 'cgwatch.yaml:1: $.read_only: "yes" is not true or false'),
        ("read_only: 'true'", 'cgwatch.yaml:1: $.read_only: "true" is not true or false'),
        ("read_only: 1", 'cgwatch.yaml:1: $.read_only: "1" is not true or false'),
        (
            "sampling: {descriptors: many}",
            'cgwatch.yaml:1: $.sampling.descriptors: "many" is not a whole number from 0 to 1000000 or auto',
        ),
        (
            "server:\n  max_requests: 0\n",
            'cgwatch.yaml:2: $.server.max_requests: "0" is not a whole number from 1 to 10000',
        ),
        (
            "log: {level: loud}",
            'cgwatch.yaml:1: $.log.level: "loud" is not one of debug, info, warning, error',
        ),
        ("listen:\n", "cgwatch.yaml:1: $.listen: has no value; write an address, or take the key out"),
        ("listen: [a]\n", "cgwatch.yaml:1: $.listen: a list is not an address"),
        ("listen: {a: b}\n", "cgwatch.yaml:1: $.listen: a mapping is not an address"),
        (
            "listen: :65536\n",
            'cgwatch.yaml:1: $.listen: ":65536" has a port above 65535; choose a lower one',
        ),
        ("roots: {cgroup: true}", 'cgwatch.yaml:1: $.roots.cgroup: "true" is not a path or null'),
        (
            'state_dir: "a\\0b"',
            'cgwatch.yaml:1: $.state_dir: "a\\u0000b" is not a path; write it like /var/lib/cgwatch',
        ),
        (
            "metrics: {container_labels: app}",
            'cgwatch.yaml:1: $.metrics.container_labels: "app" is not a list of texts',
        ),
        (
            "metrics:\n  container_labels:\n  - app\n  - 5\n",
            "cgwatch.yaml:4: $.metrics.container_labels[1]: 5 is not text; put it in quotes",
        ),
        (
            "metrics: {container_labels: ['']}",
            (
                "cgwatch.yaml:1: $.metrics.container_labels[0]: is no text, or an empty one;"
                " write one or take the item out"
            ),
        ),
        ("sampling: 5s", "cgwatch.yaml:1: $.sampling: is a section; write its keys below it"),
        ("- listen", "cgwatch.yaml:1: $: is a section; write its keys below it"),
        ("listen: :1\nlisten: :2\n", 'cgwatch.yaml:2: "listen" is written twice, first on line 1; keep one'),
    ],
)
def test_an_error_in_the_file_names_its_line_and_its_key(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        (
            "notify: {webhook: {urls: [hooks.example.org]}}",
            'cgwatch.yaml:1: $.notify.webhook.urls[0]: "hooks.example.org" is not a URL that cgwatch can use',
        ),
        (
            "notify: {webhook: {urls: ['http://a:99999/']}}",
            'cgwatch.yaml:1: $.notify.webhook.urls[0]: "http://a:99999/" has no port from 1 to 65535;',
        ),
        (
            "notify: {alertmanager: {urls: ['https://user:password@a']}}",
            "cgwatch.yaml:1: $.notify.alertmanager.urls[0]: ",
        ),
        (
            "notify:\n  templates:\n    text: $sumary",
            'cgwatch.yaml:3: $.notify.templates.text: "$sumary" names $sumary, which is not known;',
        ),
        (
            "notify: {templates: {title: 5 $ a kill}}",
            'cgwatch.yaml:1: $.notify.templates.title: "5 $ a kill" has a $ that begins no placeholder;',
        ),
        (
            "notify: {alertmanager: {labels: [severity]}}",
            'cgwatch.yaml:1: $.notify.alertmanager.labels[0]: "severity" is not a label and its value;',
        ),
    ],
)
def test_whom_to_tell_and_what_is_checked_before_anything_happens(
    tmp_path: Path, text: str, beginning: str
) -> None:
    assert error_of(tmp_path, text).startswith(beginning)


def test_a_key_with_dots_is_no_short_form_of_a_section(tmp_path: Path) -> None:
    assert error_of(tmp_path, "log.level: debug").startswith(
        'cgwatch.yaml:1: $: "log.level" is not known here'
    )


def test_of_two_errors_the_first_line_is_told(tmp_path: Path) -> None:
    assert error_of(tmp_path, "log: {level: x}\nlisten: x\n").startswith("cgwatch.yaml:1: ")
    assert error_of(tmp_path, "listen: x\nlog: {level: x}\n").startswith("cgwatch.yaml:1: $.listen")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/none.yaml: cannot be read: No such file or directory$"):
        load(tmp_path / "none.yaml", {}, {}, uid=0)
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load(tmp_path, {}, {}, uid=0)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CGWATCH_SAMPLING_INTERVAL": "5"}, 'CGWATCH_SAMPLING_INTERVAL: "5" has no unit'),
        ({"CGWATCH_READ_ONLY": "maybe"}, 'CGWATCH_READ_ONLY: "maybe" is not true or false'),
        ({"CGWATCH_LISTEN": ""}, 'CGWATCH_LISTEN: "" is not an address'),
        ({"CGWATCH_LISTN": ":1"}, "CGWATCH_LISTN: no variable of cgwatch .* mean CGWATCH_LISTEN\\?"),
        ({"CGWATCH_CONF": "x"}, "CGWATCH_CONF: no variable of cgwatch .* mean CGWATCH_CONFIG\\?"),
        ({"CGWATCH_ROOTS": "x"}, "CGWATCH_ROOTS: no variable of cgwatch .* mean CGWATCH_ROOTS_SYS\\?"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load(None, environ, {}, uid=0)


def test_what_kubernetes_sets_for_a_service_called_cgwatch_is_no_setting() -> None:
    environ = {
        "CGWATCH_SERVICE_HOST": "10.0.0.1",
        "CGWATCH_SERVICE_PORT": "9753",
        "CGWATCH_SERVICE_PORT_METRICS": "9753",
        "CGWATCH_PORT": "tcp://10.0.0.1:9753",
        "CGWATCH_PORT_9753_TCP": "tcp://10.0.0.1:9753",
        "CGWATCH_PORT_9753_TCP_PROTO": "tcp",
        "CGWATCH_PORT_9753_TCP_PORT": "9753",
        "CGWATCH_PORT_9753_TCP_ADDR": "10.0.0.1",
    }

    assert load(None, environ, {}, uid=0) == Settings()


def test_an_empty_variable_is_an_empty_list_or_null_where_the_key_takes_them(tmp_path: Path) -> None:
    text = "roots: {cgroup: /x}\nmetrics: {container_labels: [a]}\n"
    environ = {"CGWATCH_ROOTS_CGROUP": "", "CGWATCH_METRICS_CONTAINER_LABELS": " , "}

    assert from_text(tmp_path, text, environ) == Settings()


def test_an_error_in_a_flag_names_the_flag() -> None:
    with pytest.raises(ConfigError, match=r'^--interval: "5" has no unit'):
        load(None, {}, {"sampling.interval": "5"}, uid=0)
    with pytest.raises(ConfigError, match=r'^--read-only: "5" is not true or false$'):
        load(None, {}, {"read_only": 5}, uid=0)
    with pytest.raises(ConfigError, match=r"^nonsense: is no key"):
        load(None, {}, {"nonsense": "5"}, uid=0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9753", ("127.0.0.1", 9753)),
        ("[::1]:9753", ("::1", 9753)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (":9753", ("", 9753)),
        ("node-1.example:0", ("node-1.example", 0)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "9753", "::1:9753", "[::1]", "[]:1", "a b:1", "host:", ":-1", ":1\n", "a:1:2"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="is not an address"):
        parse_address(text)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([part for path in KEYS for part in path.split(".")]), inner, max_size=4
        )
    ),
)


@given(json_like | st.dictionaries(st.sampled_from([path.split(".")[0] for path in KEYS]), json_like))
def test_any_document_gives_settings_or_an_error_with_file_and_line(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")

    try:
        outcome = str(type(load(file, {}, {}, uid=0)).__name__)
    except ConfigError as error:
        outcome = str(error)

    assert re.match(rf"Settings$|{re.escape(str(file))}:[0-9]+: ", outcome)
    assert outcome.isprintable()


@given(st.sampled_from([key.environment for key in KEYS.values()]), st.text())
def test_any_text_in_a_variable_gives_settings_or_an_error_with_its_name(name: str, text: str) -> None:
    try:
        outcome = str(type(load(None, {name: text}, {}, uid=0)).__name__)
    except ConfigError as error:
        outcome = str(error)

    assert outcome == "Settings" or outcome.startswith(f"{name}: ")
    assert outcome.isprintable()


def described() -> dict[str, tuple[str, object]]:
    """Comment and value of every key in the example file, those behind a # among them."""
    text = re.sub(r"(?m)^( *)#(?=\S)", r"\1", EXAMPLE.read_text(encoding="utf-8"))
    lines = text.splitlines()
    found: dict[str, tuple[str, object]] = {}

    def walk(section: Any, prefix: str) -> None:
        for name, placed in section.value.items():
            if isinstance(placed.value, dict):
                walk(placed, f"{prefix}{name}.")
                continue
            first = placed.line - 1
            while lines[first - 1].lstrip().startswith("# "):
                first -= 1
            comment = " ".join(line.strip().removeprefix("# ") for line in lines[first : placed.line - 1])
            found[prefix + name] = (comment, placed.plain())

    walk(read_yaml(text.encode(), "example"), "")
    return found


def test_the_example_file_has_every_key_with_its_meaning_its_variable_and_its_default() -> None:
    expected = {
        key.path: (
            f"{key.description} {key.expected[0].upper()}{key.expected[1:]}; {key.environment}",
            key.written(key.default),
        )
        for key in KEYS.values()
    }

    assert described() == expected


def test_the_example_file_changes_nothing() -> None:
    environ = {"HOME": "/home/u", "DOCKER_HOST": "tcp://127.0.0.1:1"}

    assert load(EXAMPLE, environ, {}, uid=1000) == load(None, environ, {}, uid=1000)


def leaves(section: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in section["properties"].items():
        found |= leaves(one, f"{prefix}{name}.") if "properties" in one else {prefix + name: one}
    return found


def test_the_schema_describes_every_key_as_the_file_writes_it() -> None:
    described_keys = leaves(schema())

    assert list(described_keys) == list(KEYS)
    for path, one in described_keys.items():
        assert one["description"] == KEYS[path].description
        assert one["default"] == KEYS[path].written(KEYS[path].default)
    assert described_keys["sampling.interval"]["type"] == "string"
    assert described_keys["log.level"]["enum"] == ["debug", "error", "info", "warning"]
    assert described_keys["server.max_requests"]["maximum"] == 10_000


@pytest.mark.parametrize("path", [path for path, key in KEYS.items() if key.notation])
def test_the_pattern_of_the_schema_takes_the_examples_and_the_reader_does_too(path: str) -> None:
    key = KEYS[path]
    one: dict[str, Any] = key.schema()
    one = one["items"] if key.many else one
    examples: Any = one["examples"]

    assert examples
    for example in examples:
        assert re.search(str(one["pattern"]), example)
        assert key.read(example, "test") is not None


def test_the_groups_that_are_on_go_by_their_names_in_the_file(tmp_path: Path) -> None:
    settings = from_text(tmp_path, "metrics: {groups: {percpu: false}}")

    assert settings.metrics.groups.enabled() == {
        *("cpu", "memory", "disk", "diskIO", "network", "pressure"),
        *("pids", "cgroup", "state", "oom_event", "spec", "machine"),
    }
