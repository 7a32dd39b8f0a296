"""People are told of failed runs, by a command or a webhook, and nothing in a message is ever executed."""

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cloud_assets.orchestration.failure_notifications import COMMAND, WEBHOOK, failure_sensor, notify

MESSAGE = {"run_id": "r1", "text": "$(touch hacked); `touch hacked` | touch hacked"}


@pytest.fixture
def server() -> Iterator[Any]:
    """A web server that keeps what is posted to it, and answers as it is told."""

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self.server.received.append(json.loads(self.rfile.read(length)))  # type: ignore[attr-defined]
            self.send_response(self.server.answer)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Keeper) as keeper:
        keeper.received, keeper.answer = [], 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=keeper.serve_forever, daemon=True)
        thread.start()
        yield keeper
        keeper.shutdown()


def test_the_command_gets_the_message_on_its_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys, pathlib; pathlib.Path('told.json').write_text(sys.stdin.read())"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(WEBHOOK, raising=False)
    monkeypatch.setenv(COMMAND, shlex.join([sys.executable, "-c", script]))
    warnings: list[str] = []
    notify(MESSAGE, warnings.append)
    assert json.loads((tmp_path / "told.json").read_text()) == MESSAGE
    assert warnings == []
    assert not (tmp_path / "hacked").exists()


def test_the_webhook_gets_it_posted(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/secret-path")
    warnings: list[str] = []
    notify(MESSAGE, warnings.append)
    assert server.received == [MESSAGE]
    assert warnings == []
    server.answer = 500
    notify(MESSAGE, warnings.append)
    assert "500" in warnings[0]
    assert "secret-path" not in warnings[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (COMMAND, "/no/such/program"),
        (COMMAND, f"{sys.executable} -c 'raise SystemExit(3)'"),
        (COMMAND, "unbalanced 'quotes"),
        (WEBHOOK, "http://127.0.0.1:9/secret-path"),
        (WEBHOOK, "file:///etc/secret-path"),
    ],
)
def test_what_does_not_work_is_said_and_is_no_error(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.delenv(WEBHOOK, raising=False)
    monkeypatch.setenv(name, value)
    warnings: list[str] = []
    notify(MESSAGE, warnings.append)
    assert len(warnings) == 1
    assert name in warnings[0]
    assert "secret-path" not in warnings[0]


def test_a_failed_run_is_reported_with_its_reason(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("CLOUD_ASSETS_DAGSTER_URL", "https://dagster.example/")

    @dg.op
    def broken() -> None:
        raise ValueError("from the middle") from RuntimeError("the disk is full")

    @dg.job(tags={"cloud_assets/started_by": "clouds_retraining"})
    def clouds() -> None:
        broken()

    with dg.DagsterInstance.ephemeral() as instance:
        done = clouds.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            "x", done.get_run_failure_event(), instance, done.dagster_run
        ).for_run_failure()
        failure_sensor(context)
    (told,) = server.received
    assert told["text"] == "clouds failed: broken: RuntimeError: the disk is full"
    assert (told["event"], told["steps"], told["started_by"]) == ("run_failure", ["broken"], "clouds_retraining")
    assert told["url"] == f"https://dagster.example/runs/{done.run_id}"
