"""A cluster on this machine: PostgreSQL, an S3 server, two Ray nodes, a Dagster daemon, each a process group.

All of it listens on the loopback interface, but Ray, which always listens on all: it runs with token authentication.
"""

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
BUCKET = "cloud-assets"
_PATIENCE = 900
"""Seconds that a service has to start; on a quiet machine each takes some ten."""
_STARTED = "Ray runtime started"
_MATERIALISE = """
mutation {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "cloud_assets.definitions", repositoryName: "__repository__", jobName: "__ASSET_JOB"
      assetSelection: [{path: %s}]
    }
    runConfigData: {}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_UNPRIVILEGED = "postgres"
"""PostgreSQL refuses to run as root; this user comes with its package."""


class Cluster:
    """The services, their environment, and what a test does to them."""

    def __init__(self) -> None:
        # Short: Ray keeps sockets in it, whose paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.folder.chmod(0o755)
        self._groups: dict[str, subprocess.Popen[bytes]] = {}
        self._database, self._store, self._ray, self._jobs, self._tracking = (_free_port() for _ in range(5))
        self.environment = self._environment()
        """What every process of the cluster gets, as in ``deploy/cluster.env.example``."""

    def _environment(self) -> dict[str, str]:
        self.token = secrets.token_hex(32)
        token = self.folder / "token"
        token.write_text(self.token)
        token.chmod(0o600)
        return {
            **plain_environment(),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://postgres@127.0.0.1:{self._database}/dagster",
            "DAGSTER_LOGS_BUCKET": BUCKET,
            "CLOUD_ASSETS_HOME": f"s3://{BUCKET}/home",
            "CLOUD_ASSETS_WORK": str(self.folder / "work"),
            "CLOUD_ASSETS_INBOX": str(self.folder / "inbox"),
            "CLOUD_ASSETS_SCENES_A_RUN": "4",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self._tracking}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._store}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self._jobs}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_START_TIMEOUT_SECONDS": "86400",
        }

    def start(self, workers: Sequence[str] = ("worker",)) -> None:
        """Starts all of it, with the head and so many further nodes."""
        self.start_database()
        self.start_tracking()
        self.start_store()
        self.start_head()
        for worker in workers:
            self.start_worker(worker)
        self._configure()
        wait_until(lambda: _answers(self._tracking), "MLflow", _PATIENCE)
        self.start_daemon()

    def restart(self, workers: Sequence[str] = ("worker",), **environment: str) -> None:
        """Starts nodes and daemon anew, with some variables changed."""
        for name in reversed([name for name in self._groups if name not in ("postgres", "store", "tracking")]):
            self.kill(name, signal.SIGTERM)
        self.environment |= environment
        self.start_head()
        for worker in workers:
            self.start_worker(worker)
        self.start_daemon()

    def stop(self) -> None:
        """Ends all of it, and leaves neither a process nor a file."""
        for name in reversed(list(self._groups)):
            self.kill(name, signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_database(self) -> None:
        """Starts PostgreSQL, on the data of before if there are any."""
        data = self.folder / "postgres"
        programs = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
        bin_folder = Path(next(one for one in programs if one)).resolve().parent
        user = _UNPRIVILEGED if os.getuid() == 0 else None
        if not data.is_dir():
            data.mkdir(mode=0o700)
            if user is not None:
                shutil.chown(data, user)
            made = [bin_folder / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"]
            subprocess.run(made, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
        options = [
            "-p",
            str(self._database),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={data}",
        ]
        self._begin("postgres", [bin_folder / "postgres", "-D", data, *options], user=user)
        wait_until(lambda: _answers(self._database), "PostgreSQL", _PATIENCE)
        for name in ("dagster", "mlflow"):
            if not self._sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
                self._sql(f"CREATE DATABASE {name}")

    def _sql(self, statement: str) -> list[Any]:
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self._database, user="postgres", dbname="postgres")
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def start_store(self) -> None:
        """Starts the S3 server, empty, with a bucket."""
        self._begin("store", [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(self._store)])
        wait_until(lambda: _answers(self._store), "the S3 server", _PATIENCE)
        self.bucket().meta.client.create_bucket(Bucket=BUCKET)

    def start_tracking(self) -> None:
        """Starts the MLflow server, with its records in PostgreSQL and its files in the bucket."""
        further = {
            "PYTHON": sys.executable,
            "MLFLOW_BACKEND_STORE_URI": self.environment["DAGSTER_POSTGRES_URL"].replace("/dagster", "/mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
            "MLFLOW_PORT": str(self._tracking),
        }
        self._begin("tracking", ["bash", ROOT / "mlflow" / "start_server.sh"], further=further)

    def bucket(self) -> Any:
        """The bucket, through a client of its own."""
        import boto3

        names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        address, region, key, secret = (self.environment[name] for name in names)
        return boto3.resource(
            "s3", endpoint_url=address, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret
        ).Bucket(BUCKET)

    def start_head(self) -> None:
        """Starts the head node, with one CPU."""
        ports = {"port": self._ray, "dashboard-port": self._jobs, "ray-client-server-port": _free_port()}
        self._start_node("head", ["--head", "--dashboard-host", "127.0.0.1", f"--temp-dir={self.folder}/ray"], ports)
        wait_until(lambda: _answers(self._jobs), "Ray's job server", _PATIENCE)

    def start_worker(self, name: str) -> None:
        """Starts a further node, with one CPU."""
        self._start_node(name, ["--address", self.ray_address], {})

    @property
    def ray_address(self) -> str:
        """Where a driver finds the nodes."""
        return f"127.0.0.1:{self._ray}"

    def _start_node(self, name: str, how: Sequence[str], ports: Mapping[str, int]) -> None:
        further = (
            "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port",
        )  # fmt: skip
        first = random.randrange(20_000, 31_000, 200)
        numbers = {
            **ports,
            **{one: _free_port() for one in further},
            "min-worker-port": first,
            "max-worker-port": first + 199,
        }
        small = ["--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "100000000", "--disable-usage-stats"]
        options = [f"--{option}={number}" for option, number in numbers.items()]
        temporary = self.folder / f"{name}-tmp"  # a machine's own: locks that hold back one machine lie there
        temporary.mkdir(exist_ok=True)
        program = [sys.executable, Path(__file__).with_name("patient_ray.py"), "start", "--block"]
        before = self.log(name).count(_STARTED) if (self.folder / f"{name}.log").is_file() else 0
        command = [*program, "--node-ip-address", "127.0.0.1", *how, *small, *options]
        patience = {"RAY_agent_register_timeout_ms": "600000", "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600"}
        self._begin(name, command, further={"TMPDIR": str(temporary), **patience})

        def has_started() -> bool:
            assert self._groups[name].poll() is None, self.log(name)
            return self.log(name).count(_STARTED) > before

        wait_until(has_started, f"the Ray node {name}", _PATIENCE)

    def _configure(self) -> None:
        """Makes the instance from ``deploy/dagster.cluster.yaml``, with shorter intervals and more patience."""
        home = Path(self.environment["DAGSTER_HOME"])
        home.mkdir()
        content = yaml.safe_load((ROOT / "deploy" / "dagster.cluster.yaml").read_text())
        content["run_monitoring"]["poll_interval_seconds"] = 5
        content["run_coordinator"]["config"] = {"dequeue_interval_seconds": 2}
        content["code_servers"] = {"local_startup_timeout": _PATIENCE}
        (home / "dagster.yaml").write_text(yaml.safe_dump(content))
        self.command("dagster", "instance", "info")

    def start_daemon(self) -> None:
        """Starts the process that takes runs from the queue."""
        self._begin("daemon", [BIN / "dagster-daemon", "run", "-m", "cloud_assets.definitions"])

    def _begin(
        self, name: str, command: Sequence[Any], user: str | None = None, further: Mapping[str, str] | None = None
    ) -> None:
        parts, environment = [str(part) for part in command], {**self.environment, **(further or {})}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._groups[name] = subprocess.Popen(
                parts, env=environment, cwd=self.folder, user=user,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends a service with all its processes: a node with what runs on it."""
        process = self._groups.pop(name)
        family = [process.pid, *_descendants(process.pid)]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        if how is not signal.SIGKILL:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        # Ray starts workers in sessions of their own, and a job's processes in another.
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)

    def processes(self, name: str) -> set[int]:
        """The processes of a service; of a node, also those of the jobs that run on it."""
        return {self._groups[name].pid, *_descendants(self._groups[name].pid)} if name in self._groups else set()

    def log(self, name: str) -> str:
        """What a service has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def command(self, *command: str) -> str:
        """Runs a command as on a machine of the cluster, and returns what it printed."""
        done = subprocess.run(
            [BIN / command[0], *command[1:]], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, mutation: str) -> Any:
        """Sends a mutation as a button of the user interface does, and returns the first field of the answer."""
        printed = self.command("dagster-graphql", "-m", "cloud_assets.definitions", "-t", mutation)
        answer = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
        return next(iter(answer["data"].values()))

    def materialise(self, *key: str) -> str:
        """Asks for an asset by itself, and returns the identifier of the run."""
        return str(self.ask(_MATERIALISE % json.dumps(key))["run"]["runId"])

    def launch(self, job: str, config: Mapping[str, Any], tags: Mapping[str, Any] | None = None) -> str:
        """Queues a run of a job and returns its identifier."""
        run = str(uuid.uuid4())
        (self.folder / "config.yaml").write_text(yaml.safe_dump(dict(config)))
        self.command(
            "dagster", "job", "launch", "-m", "cloud_assets.definitions", "-j", job, "-c", "config.yaml",
            "--tags", json.dumps(tags or {}), "--run-id", run,
        )  # fmt: skip
        return run


def plain_environment() -> dict[str, str]:
    """The environment of a process that belongs to no cluster."""
    ours = ("CLOUD_ASSETS_", "MLFLOW_", "DAGSTER_", "RAY_", "AWS_", "PYTEST_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "MPLBACKEND": "Agg",
    }


def wait_for_run(instance: dg.DagsterInstance, run: str, seconds: float = 2400) -> dg.DagsterRun:
    """Waits until a run and the runs that repeat it have ended; returns the last of them."""

    def ended() -> dg.DagsterRun | None:
        repeated = instance.get_runs(dg.RunsFilter(tags={"dagster/root_run_id": run}), limit=1)
        latest = repeated[0] if repeated else instance.get_run_by_id(run)
        assert latest is not None
        # A failed run is told a moment later whether it will be repeated.
        is_last = latest.status is not dg.DagsterRunStatus.FAILURE or latest.tags.get("dagster/will_retry") == "false"
        return latest if latest.is_finished and is_last else None

    found: dg.DagsterRun = wait_until(ended, f"the end of run {run}", seconds)
    return found


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60, pause: float = 0.5) -> Any:
    """Asks again and again until the answer counts as true, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds} s")


def processes_of(text: str) -> list[int]:
    """Processes with a text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _descendants(pid: int) -> list[int]:
    """Processes below one, whatever sessions they are in."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = list(parents.get(pid, []))
    for one in found:
        found += parents.get(one, [])
    return found
