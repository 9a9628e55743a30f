from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import Exit, cli
from tests.notify.alertmanager import Alertmanager
from tests.notify.receiver import Receiver, status


def run(*arguments: str, **environment: str) -> Result:
    variables = {f"CGWATCH_NOTIFY_{name}": value for name, value in environment.items()}
    return CliRunner(env=variables).invoke(cli, ["notify", "test", *arguments], prog_name="cgwatch")


def test_every_receiver_is_sent_a_test_and_each_says_how_it_went(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    with Receiver() as well, Receiver(status(403, b"who are you?")) as badly:
        result = run(
            WEBHOOK_URLS=f"{well.url},{badly.url}", WEBHOOK_SECRET_FILE=str(secret), NODE="n", LOG_ENABLED="1"
        )
        assert result.exit_code == Exit.FAILURE
        log, first, second = result.stdout.splitlines()
        assert re.fullmatch(r"log \(the log\): delivered in \S+", log)
        assert re.fullmatch(rf"webhook \(127\.0\.0\.1:{well.port}\): delivered in \S+", first)
        assert second == (
            f"webhook-2 (127.0.0.1:{badly.port}): failed: answered 403 (who are you?): look at the secret"
        )
        assert "Test message of cgwatch on n" in result.stderr
        (request,) = well.requests
        assert (request.json["kind"], request.json["node"]) == ("test", "n")
        assert request.headers["X-Cgwatch-Signature"].startswith("sha256=")


def test_one_receiver_can_be_chosen() -> None:
    with Receiver() as one, Receiver() as two:
        urls = f"{one.url},{two.url}"
        assert run("--channel", "webhook-2", WEBHOOK_URLS=urls).exit_code == Exit.OK
        assert (len(one.requests), len(two.requests)) == (0, 1)
        result = run("--channel", "mail", WEBHOOK_URLS=urls)
        assert result.exit_code == Exit.USAGE
        assert 'there is no "mail"; there are webhook, webhook-2' in result.stderr


def test_with_nobody_to_tell_it_says_what_to_set() -> None:
    result = run()

    assert (result.exit_code, result.stdout) == (Exit.NOTHING, "")
    assert "set notify.webhook.urls" in result.stderr


def test_a_secret_that_cannot_be_read_is_an_error_with_its_place(tmp_path: Path) -> None:
    result = run(WEBHOOK_URLS="http://127.0.0.1:1", WEBHOOK_SECRET_FILE=str(tmp_path / "none"))

    assert result.exit_code == Exit.USAGE
    assert result.stderr.startswith("cgwatch: $.notify.webhook.secret_file: ")


@pytest.mark.real
def test_a_real_alertmanager_shows_the_test(tmp_path: Path) -> None:
    with Receiver() as pager, Alertmanager(tmp_path / "alertmanager", pager.url) as real:
        result = run(ALERTMANAGER_URLS=real.url, NODE="n")
        assert result.exit_code == Exit.OK
        (alert,) = real.wait_for_alerts(1)
        assert alert["labels"]["alertname"] == "CgwatchTest"
        assert alert["annotations"]["summary"] == "Test message of cgwatch on n"
