"""One study of two groups of worker processes on one PostgreSQL, as two machines would work on it."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cloud_assets.learning.search_space import StudyRecipe
from cloud_assets.lifecycle.hyperparameter_study import finished_trials
from cloud_assets_tests.lifecycle.test_study_trials import ROOT, begun_lines, data, states

__all__ = ["data"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
TRIALS = 40


def programs() -> Path | None:
    """Folder of PostgreSQL's server programs, which Debian keeps outside of PATH."""
    found = [Path(place) for place in [shutil.which("initdb")] if place]
    return (found or [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), None])[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a database of its own; the server refuses root, which gives way to the user nobody."""
    pytest.importorskip("psycopg2")
    if (initdb := programs()) is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "nobody" if getpass.getuser() == "root" else None
    # Not below pytest's own folder, into which no other user may look.
    with tempfile.TemporaryDirectory(prefix="study_postgresql_", ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        options = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        data, control = f"{folder}/data", initdb.with_name("pg_ctl")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        subprocess.run([initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"], **options)  # type: ignore[call-overload]
        subprocess.run([control, "-D", data, "-l", f"{folder}/log", "-o", settings, "-w", "start"], **options)  # type: ignore[call-overload]
        try:
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **options)  # type: ignore[call-overload]


def group(name: str, url: str, data: Path, tmp_path: Path) -> "subprocess.Popen[bytes]":
    """A process that runs the study with two workers in a workspace of its own."""
    script = tmp_path / f"{name}.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            from cloud_assets.lifecycle import study
            from cloud_assets_tests.lifecycle.studied_recipe import Bowl
            from cloud_assets_tests.lifecycle.test_study_trials import SPACE, StudyRecipe, run_study, training_run

            study.HEARTBEAT_SECONDS = 10  # a trial takes one second
            run = training_run(Path({str(data)!r}), Path({str(tmp_path / name)!r}))
            base = Bowl(seconds=0.3, log={str(tmp_path / "log")!r}, shape="round")
            run_study(StudyRecipe(trials={TRIALS}, workers=2, storage={url!r}, name="bowls"), SPACE, base, run)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)


def is_of(group: "subprocess.Popen[bytes]", process: int) -> bool:
    try:
        return os.getpgid(process) == group.pid
    except ProcessLookupError:
        return False


def test_forty_trials_of_two_groups_one_of_them_killed(server: str, data: Path, tmp_path: Path) -> None:
    import optuna

    groups = [group(name, server, data, tmp_path) for name in ("one", "other")]
    log = tmp_path / "log"
    try:
        deadline = time.monotonic() + 400
        while True:
            assert [each.poll() for each in groups] == [None, None], "a group ended before the other could be killed"
            assert time.monotonic() < deadline
            lines = begun_lines(log) if log.exists() else []
            # As if its machine had lost power, just after one of its trials began.
            if len(lines) >= 12 and len({line[0] for line in lines}) == 4 and is_of(groups[0], int(lines[-1][0])):
                os.killpg(groups[0].pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        assert groups[1].wait(600) == 0
    finally:
        for each in groups:
            with suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()

    stored = optuna.load_study(study_name="bowls", storage=server)
    assert not [trial for trial in stored.trials if trial.state.name == "RUNNING"]
    trials = finished_trials(stored)
    counted = [trial for trial in trials if trial.state != "interrupted"]
    interrupted = {trial.number for trial in trials if trial.state == "interrupted"}
    assert states(trials)["complete"] + states(trials)["pruned"] == len(counted) == TRIALS
    assert len({tuple(trial.parameters.values()) for trial in counted}) == TRIALS
    assert interrupted, "the killed group was at a trial"
    assert sorted(trial.retry_of for trial in counted if trial.retry_of is not None) == sorted(interrupted)
    # Each trial was trained once, and once more for each time that it was interrupted; one may have been killed before.
    begun = [line[1] for line in begun_lines(log)]
    assert len(set(begun)) == TRIALS
    assert len(begun) <= TRIALS + len(interrupted)


def test_address_without_driver_is_explained(server: str, data: Path, tmp_path: Path) -> None:
    from cloud_assets.errors import SourceUnreachable
    from cloud_assets.lifecycle.study import run_study
    from cloud_assets_tests.lifecycle.studied_recipe import Bowl
    from cloud_assets_tests.lifecycle.test_study_trials import SPACE, training_run

    run: Any = training_run(data, tmp_path / "work")
    recipe = StudyRecipe(trials=1, storage=server.replace("+psycopg2", ""))
    with pytest.raises(SourceUnreachable, match="driver"):
        run_study(recipe, SPACE, Bowl(), run)
