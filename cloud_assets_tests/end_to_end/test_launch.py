"""The README's commands that start the two user interfaces and the daemon, run as they are written there."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 500
Start = Callable[..., "subprocess.Popen[bytes]"]

pytestmark = pytest.mark.slow


def written(beginning: str) -> list[str]:
    """The command of the README or the documentation that begins so, without its comment."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    lines = re.findall(rf"^{re.escape(beginning)}.*$", text, re.MULTILINE)
    assert lines, f"no page has a command that begins with {beginning}"
    return shlex.split(lines[0], comments=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answer(url: str, process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """What a server says once it is up."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, f"{url} never answered"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            time.sleep(1)


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """A new instance as the README sets it up, and an empty MLflow store."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.production.yaml", home / "dagster.yaml")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CLOUD_ASSETS_", "MLFLOW_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "DAGSTER_HOME": str(home),
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
    }


@pytest.fixture
def start(environment: Mapping[str, str]) -> Iterator[Start]:
    """Starts commands in the project's folder; at the end they are ended with all that they started."""
    started: list[subprocess.Popen[bytes]] = []

    def run(command: list[str], **more: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, cwd=ROOT, env={**environment, **more}, start_new_session=True)
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in started:
        process.wait(timeout=60)


def test_webserver_and_daemon_run_apart(start: Start, environment: Mapping[str, str]) -> None:
    assert start(written("dagster instance info")).wait(timeout=PATIENCE) == 0
    daemon = start(written("dagster-daemon run"))
    port = free_port()
    web = start([*written("dagster-webserver"), "--port", str(port)])
    status, said = answer(f"http://127.0.0.1:{port}/server_info", web)
    assert status == 200
    assert "dagster_webserver_version" in said
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["dagster-daemon", "liveness-check"], env=environment, check=False).returncode:
        assert daemon.poll() is None, "the daemon ended"
        assert time.monotonic() < deadline, "the daemon never lived"


def test_one_process_for_a_desk(start: Start) -> None:
    port = free_port()
    assert (
        answer(f"http://127.0.0.1:{port}/server_info", start([*written("dagster dev"), "--port", str(port)]))[0] == 200
    )


@pytest.mark.parametrize("with_users", [False, True])
def test_the_mlflow_server(start: Start, with_users: bool, tmp_path: Path) -> None:
    port = free_port()
    command = [word for word in written("PYTHON=.venv/bin/python mlflow/start_server.sh") if "=" not in word]
    users = {
        "MLFLOW_BASIC_AUTH": "1",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
    }
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path}/users.db\n"
        "admin_username = admin\nadmin_password = a-long-one-of-this-test\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    server = start(command, MLFLOW_PORT=str(port), **(users if with_users else {}))
    assert answer(f"http://127.0.0.1:{port}/health", server)[0] == 200
    status, _ = answer(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0", server)
    assert status == (401 if with_users else 200)
