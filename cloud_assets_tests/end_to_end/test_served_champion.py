"""``mlflow models serve`` as the README has it: raw digital numbers by HTTP, the same answer as everywhere else."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests

from cloud_assets.scenes.arrays import predict_array
from cloud_assets.tracking import Tracker
from cloud_assets_tests.end_to_end.workplace import Workplace
from cloud_assets_tests.orchestration.scene_place import make_champions
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_bundle

MODEL = "models:/landsat_segmentation@champion"
BUNDLE = make_bundle(variant="unet")


@pytest.fixture(scope="module")
def store(workplace: Workplace) -> str:
    uri = f"sqlite:///{workplace.folder}/mlflow/mlflow.db"
    make_champions(Tracker(uri), workplace.folder / "trainings", BUNDLE)
    return uri


@pytest.fixture(scope="module")
def address(workplace: Workplace, store: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", MODEL]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**workplace.environment, "MLFLOW_TRACKING_URI": store}
    # The server starts with whatever Python comes first in the path.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with (workplace.folder / "server.txt").open("w") as log:
        server = subprocess.Popen(
            command, cwd=workplace.folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def wait_for(address: str, log: Path) -> None:
    for _ in range(240):
        try:
            if requests.get(f"{address}/ping", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_the_server_answers_as_the_library(address: str, store: str, workplace: Workplace) -> None:
    wait_for(address, workplace.folder / "server.txt")
    dn = landsat_dn(cloudy_reflectance(64, 96))
    dn[:, :10] = 0
    patches = np.moveaxis(dn, 0, -1)[np.newaxis]
    answer = requests.post(f"{address}/invocations", json={"inputs": patches.tolist()}, timeout=120)
    assert answer.ok, answer.text
    predictions = answer.json()["predictions"]
    mask = np.array(predictions["mask"], np.uint8)
    assert (mask[0, :10] == 255).all()
    assert len(np.unique(mask)) >= 2
    expected = predict_array(dn, RGBN, BUNDLE, instrument="landsat8_l1")
    np.testing.assert_array_equal(mask[0], expected["mask"])
    mlflow.set_tracking_uri(store)
    loaded = mlflow.pyfunc.load_model(MODEL).predict(patches)
    np.testing.assert_array_equal(mask, loaded["mask"])
    wrong = requests.post(f"{address}/invocations", json={"inputs": patches[..., :3].tolist()}, timeout=120)
    assert wrong.status_code == 400
