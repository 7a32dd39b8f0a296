"""MLflow from the outside: what a user of the store, of the registry or of the served model finds there."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from cloud_assets.errors import InvalidReport, TrackingUnavailable
from cloud_assets.families import load_predictor
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.tracking import RUN_FILE, Tracker, default_uri, flattened
from cloud_assets_tests.reports.test_evaluation import make_evaluation

BundleFactory = Callable[..., ModelBundle]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: making its tables takes seconds, copying the file none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker(f"sqlite:///{path}").version_at("clouds", "champion")
    return path


@pytest.fixture
def tracker(tmp_path: Path, empty_store: Path) -> Tracker:
    path = tmp_path / "mlflow" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(empty_store.read_bytes())
    return Tracker(f"sqlite:///{path}")


def begun(tracker: Tracker, workspace: Path) -> str:
    recipe = {"network": {"width": 2}, "crop": 256}
    return tracker.begin(workspace, "clouds", "unet", recipe, {"fingerprint": "f"})


def test_default_store_is_absolute_and_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri() == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert default_uri() == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert default_uri() == "http://127.0.0.1:5000"


@pytest.mark.parametrize("name", ["a%20b", "100%", "what?", "a#b", "[x] y"])
def test_a_store_lies_where_its_path_says(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    (folder / "mlflow").mkdir(parents=True)
    (folder / "mlflow" / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    tracker = Tracker()
    (tmp_path / "workspace").mkdir()
    begun(tracker, tmp_path / "workspace")
    with closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM runs").fetchone() == (1,)


def test_nested_parameters_become_one_level() -> None:
    assert flattened({"a": {"b": {"c": 1}, "d": None}, "e": (1, 2)}) == {"a.b.c": "1", "a.d": "None", "e": "(1, 2)"}


def test_an_interrupted_training_goes_on_in_its_run(tracker: Tracker, tmp_path: Path) -> None:
    first = begun(tracker, tmp_path)
    tracker.log_epoch(first, 0, {"loss": 0.5})
    tracker.end(first, "KILLED")
    assert begun(Tracker(tracker.uri), tmp_path) == first
    client = MlflowClient(tracker.uri)
    run = client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"network.width": "2", "crop": "256"}
    assert run.data.metrics == {"loss": 0.5}


def test_another_store_does_not_know_the_run(tracker: Tracker, tmp_path: Path, empty_store: Path) -> None:
    first = begun(tracker, tmp_path)
    other = tmp_path / "other" / "mlflow.db"
    other.parent.mkdir()
    other.write_bytes(empty_store.read_bytes())
    assert begun(Tracker(f"sqlite:///{other}"), tmp_path) != first


def test_publishing_completes_what_an_outage_left_out(
    tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory
) -> None:
    bundle = tiny_bundle()
    run_id = begun(tracker, tmp_path)
    tracker.log_epoch(run_id, 0, {"loss": 0.5})
    assert tracker.publish(tmp_path, bundle) == run_id
    client = MlflowClient(tracker.uri)
    assert [(entry.step, entry.value) for entry in client.get_metric_history(run_id, "loss")] == [(0, 0.5), (1, 0.4)]
    assert [entry.step for entry in client.get_metric_history(run_id, "validation_iou")] == [0, 1]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_version"] == bundle.version
    assert tracker.publish(tmp_path, bundle) == run_id
    assert len(client.get_run(run_id).outputs.model_outputs) == 1
    assert len(client.get_metric_history(run_id, "loss")) == 2


def test_publishing_needs_no_earlier_run(tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory) -> None:
    run_id = tracker.publish(tmp_path, tiny_bundle())
    assert json.loads((tmp_path / RUN_FILE).read_text())["run_id"] == run_id
    assert tracker.known_run(tmp_path) == run_id
    assert MlflowClient(tracker.uri).get_run(run_id).data.params["network.width"] == "2"


def test_a_deleted_run_is_replaced(tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory) -> None:
    first = tracker.publish(tmp_path, tiny_bundle())
    MlflowClient(tracker.uri).delete_run(first)
    second = tracker.publish(tmp_path, tiny_bundle())
    assert second != first
    assert tracker.known_run(tmp_path) == second


def test_an_evaluation_is_logged_with_its_report(tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory) -> None:
    run_id = tracker.publish(tmp_path, tiny_bundle())
    evaluation = make_evaluation()
    tracker.log_evaluation(run_id, evaluation)
    client = MlflowClient(tracker.uri)
    assert client.get_run(run_id).data.metrics["test_iou"] == 0.7
    files = {file.path for file in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/metrics.json", "evaluation/report.html"} <= files
    before = client.get_metric_history(run_id, "test_iou")
    tracker.log_evaluation(run_id, evaluation)
    assert client.get_metric_history(run_id, "test_iou") == before


def test_the_evaluation_of_a_registered_model_comes_back(
    tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory
) -> None:
    bundle = tiny_bundle()
    run_id = tracker.publish(tmp_path, bundle)
    version = tracker.register(run_id, bundle, {})
    with pytest.raises(InvalidReport, match="keeps no evaluation of models:/clouds/1"):
        tracker.evaluation(version)
    tracker.log_evaluation(run_id, make_evaluation())
    assert tracker.evaluation(version).data_version == make_evaluation().data_version


def test_a_model_is_registered_once_and_aliases_move(
    tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory
) -> None:
    assert tracker.version_at("clouds", "champion") is None
    versions = []
    for seed in (0, 1, 0):
        bundle = tiny_bundle(seed=seed)
        workspace = tmp_path / str(seed)
        workspace.mkdir(exist_ok=True)
        run_id = tracker.publish(workspace, bundle)
        versions.append(tracker.register(run_id, bundle, {"iou": "0.7"}))
    assert [version.version for version in versions] == [1, 2, 1]
    tracker.set_alias("clouds", "champion", 2)
    champion = tracker.version_at("clouds", "champion")
    assert champion is not None
    assert champion.version == 2
    assert champion.tags["iou"] == "0.7"
    assert tracker.download(champion).version == tiny_bundle(seed=1).version
    tracker.tag_version(champion, {"decision": "kept"})
    assert tracker.version_at("clouds", "champion").tags["decision"] == "kept"  # type: ignore[union-attr]


def test_a_registered_version_says_in_words_what_it_is(
    tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory
) -> None:
    bundle = tiny_bundle()
    run_id = tracker.publish(tmp_path, bundle)
    client = MlflowClient(tracker.uri, tracker.uri)
    client.set_tag(run_id, "dagster_run_url", "http://127.0.0.1:3000/runs/abc")
    version = tracker.register(run_id, bundle, {"test_iou": "0.7", "is_synthetic": "true"}, "Clouds of a test.")
    assert client.get_registered_model("clouds").description == "Clouds of a test."
    first = client.get_model_version("clouds", "1").description
    assert first.startswith(f"**{bundle.card.variant}**, a segmentation model")
    assert "not decided yet" in first
    client.update_model_version("clouds", "1", f"By hand.\n\n{first}")
    client.update_registered_model("clouds", "By hand.")
    tracker.tag_version(version, {"decision": "accepted: better"})
    tracker.register(run_id, bundle, {}, "Clouds of a test.")
    second = client.get_model_version("clouds", "1").description
    assert second == f"By hand.\n\n{first}".replace("not decided yet", "accepted: better")
    assert client.get_registered_model("clouds").description == "By hand."
    assert "| IoU | 0.7000 |" in second
    assert "are simulated" in second
    assert f"(http://127.0.0.1:3000/assets/clouds/{bundle.card.variant}_model)" in second


def test_the_served_model_answers_in_a_fresh_process(
    tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory
) -> None:
    bundle = tiny_bundle()
    version = tracker.register(tracker.publish(tmp_path, bundle), bundle, {})
    tracker.set_alias("clouds", "champion", version.version)
    dn = np.random.default_rng(0).integers(5000, 25000, (2, 40, 56, 4), dtype=np.uint16)
    dn[0, :10] = 0
    np.save(tmp_path / "dn.npy", dn)
    script = """
        import sys, numpy as np, mlflow
        model = mlflow.pyfunc.load_model("models:/clouds@champion")
        answer = model.predict(np.load("dn.npy"))
        np.savez("answer.npz", **answer)
        tensor = model.metadata.get_input_schema().inputs[0]
        print(tensor.shape, tensor.type)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": tracker.uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(-1, -1, -1, 4) uint16"
    answer = np.load(tmp_path / "answer.npz")
    expected = load_predictor(bundle).predict(dn.transpose(0, 3, 1, 2))
    assert sorted(answer.files) == ["cloud_probability", "mask"]
    np.testing.assert_array_equal(answer["mask"], expected["mask"])
    assert (answer["mask"][0, :10] == 255).all()
    np.testing.assert_array_equal(answer["cloud_probability"], expected["cloud_probability"])


def test_a_server_that_is_away_is_noticed_soon() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="MLFLOW_TRACKING_URI"):
        Tracker(f"http://127.0.0.1:{port}").version_at("clouds", "champion")
    assert time.monotonic() - started < 30


def test_a_store_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrackingUnavailable, match="file"):
        Tracker(f"sqlite:///{tmp_path}/file/mlflow.db").version_at("clouds", "champion")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_trainings_at_once_lose_nothing(tracker: Tracker, tmp_path: Path, tiny_bundle: BundleFactory) -> None:
    """Eight processes against one SQLite store, each a whole training: run, epochs, model, evaluation, version."""
    script = f"""
        import sys
        from pathlib import Path
        from cloud_assets_tests.reports.test_evaluation import make_evaluation
        from cloud_assets.inference.bundle import ModelBundle
        from cloud_assets.tracking import Tracker
        tracker = Tracker("{tracker.uri}")
        workspace = Path("{tmp_path}") / sys.argv[1]
        bundle = ModelBundle.open(workspace / "model")
        run = tracker.begin(workspace, "clouds", "unet", {{"optimisation": {{"seed": sys.argv[1]}}}}, {{}})
        for epoch in range(30):
            tracker.log_epoch(run, epoch, {{"loss": 1.0 / (epoch + 1), "iou": epoch / 30}})
        tracker.publish(workspace, bundle)
        tracker.log_evaluation(run, make_evaluation(model_version=bundle.version))
        tracker.register(run, bundle, {{}})
    """
    for number in range(8):
        tiny_bundle(seed=number).save(tmp_path / str(number) / "model")
    command = [sys.executable, "-c", textwrap.dedent(script)]
    workers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(8)]
    for worker in workers:
        _, errors = worker.communicate(timeout=3000)
        assert worker.returncode == 0, errors
    client = MlflowClient(tracker.uri)
    found = client.search_runs([client.get_experiment_by_name("clouds").experiment_id])
    assert sorted(run.data.params["optimisation.seed"] for run in found) == [str(number) for number in range(8)]
    for run in found:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test_iou"] == 0.7
        for metric in ("loss", "iou"):
            assert {entry.step for entry in client.get_metric_history(run.info.run_id, metric)} >= set(range(30))
        assert "evaluation/metrics.json" in {file.path for file in client.list_artifacts(run.info.run_id, "evaluation")}
    versions = client.search_model_versions("name = 'clouds'")
    assert {version.run_id for version in versions} == {run.info.run_id for run in found}
    assert len(versions) == 8


def test_parallel_first_starts_lose_nothing(tmp_path: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from cloud_assets.tracking import Tracker
        tracker = Tracker("sqlite:///{tmp_path}/mlflow/mlflow.db")
        workspace = Path("{tmp_path}") / sys.argv[1]
        workspace.mkdir()
        run = tracker.begin(workspace, "clouds", "unet", {{"seed": 1}}, {{}})
        for epoch in range(5):
            tracker.log_epoch(run, epoch, {{"loss": 1.0 / (epoch + 1)}})
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("clouds")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 5 for run in runs)
    assert experiment.artifact_location == (tmp_path / "mlflow" / "artifacts" / "clouds").as_uri()
