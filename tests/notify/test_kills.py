"""A kill as a message, whatever its names hold and whatever the words are."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch import templates
from cgwatch.errors import UnitError
from cgwatch.notify.alerts import alert_of
from cgwatch.notify.kills import message_of
from cgwatch.notify.log import LogChannel
from cgwatch.notify.message import Held, Message
from cgwatch.notify.outcome import Delivered
from cgwatch.notify_settings import Templates
from cgwatch.oom.kill import Holder, Victim
from cgwatch.templates import PLACEHOLDERS
from tests.notify.means import NOW, a_kill

ANY = st.text(st.characters(exclude_categories=()))


def message(name: str | None = "web", title: str = "$name", text: str = "$summary", **fields: Any) -> Message:
    return message_of(a_kill(1, name, **fields), None, node="node-1", wording=Templates(title, text))


def test_a_message_says_who_why_and_what_to_do() -> None:
    told = message()

    assert (told.kind, told.key, told.number) == ("oom_kill", "oom_kill-boot-1-1800000000.000", 1)
    assert told.labels == {"runtime": "docker", "container": "web", "name": "web", "cause": "own_limit"}
    assert told.scope == "main"
    assert told.summary.startswith("web: ")
    assert told.facts
    assert told.seconds == NOW


def test_a_kill_of_which_nobody_knows_whose_it_was_is_told_as_such() -> None:
    told = message(None, path=None, cause="unknown")

    assert told.container == ""
    assert told.title == "an unknown process"
    assert told.labels == {"cause": "unknown"}


def test_every_placeholder_has_its_value() -> None:
    text = " ".join(f"{name}=${name}" for name in PLACEHOLDERS if name not in ("summary", "facts", "advice"))
    told = message(text=text, victim=Victim(42, "hog"))

    assert told.text == (
        "kind=oom_kill number=1 node=node-1 name=web runtime=docker image=web:1 cause=own_limit scope=main "
        "command=hog"
    )
    assert all(message(text=f"<${name}>").text not in (f"<${name}>", "") for name in PLACEHOLDERS)


def test_what_a_name_holds_is_shown_and_never_filled_in_again() -> None:
    assert message("$node ${advice} $$ {0.__class__}").title == "$node ${advice} $$ {0.__class__}"


def test_a_title_is_one_line() -> None:
    assert message("a\nb", title="$name\nc").title == "a b c"


@given(ANY, ANY, ANY)
def test_whatever_names_hold_a_message_can_be_sent_and_stored(name: str, path: str, command: str) -> None:
    kill = a_kill(1, victim=Victim(1, command))
    assert kill.holder is not None
    holder: Holder = structs.replace(kill.holder, name=name, path=path)
    told = message_of(
        structs.replace(kill, holder=holder), None, node="n", wording=Templates("$name $command", "$summary")
    )

    assert msgspec.json.decode(msgspec.json.encode(told), type=Message) == told
    alert = alert_of(told, {}, extra={}, now_seconds=NOW, fires_seconds=60)
    assert msgspec.json.encode(alert.body(NOW))


@given(ANY)
def test_any_template_is_filled_or_refused_when_it_is_read(text: str) -> None:
    try:
        templates.fill(templates.check(text), {})
        problem = ""
    except UnitError as error:
        problem = str(error)

    assert problem.isprintable()


@pytest.mark.parametrize("text", ["$", "$1", "${name", "${name.upper()}", "${}", "$é", "$unknown"])
def test_a_template_with_anything_but_a_known_name_is_refused(text: str) -> None:
    with pytest.raises(UnitError):
        templates.check(text)


def test_a_dollar_is_written_twice() -> None:
    assert templates.fill(templates.check("$$5 for ${name}s"), {"name": "pod"}) == "$5 for pods"


def test_the_log_has_one_line_for_each_message(caplog: pytest.LogCaptureFixture) -> None:
    told = structs.replace(message("web%s", title="OOM kill of $name"), held=Held(3, NOW))
    with caplog.at_level(logging.WARNING):
        assert LogChannel().deliver(told) == Delivered()

    (record,) = caplog.records
    assert record.getMessage() == "OOM kill of web%s"
    assert record.__dict__["text"] == told.text
