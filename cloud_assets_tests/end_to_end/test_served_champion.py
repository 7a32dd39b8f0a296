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
import torch

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.specifications import UNet
from cloud_assets.scenes.prediction import predict_array
from cloud_assets.tracking import Tracker
from cloud_assets_tests.end_to_end.workplace import Workplace
from cloud_assets_tests.orchestration.scene_place import make_champions
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_card

MODEL = "models:/landsat_segmentation@champion"
BORDER = 8
"""Pixels that the network sees around each."""
TOLERANCE = 0.02
"""Of a probability; scenes may run in half precision."""
DN = landsat_dn(cloudy_reflectance(64, 96))
DN[:, :10] = 0


def bright_bundle() -> ModelBundle:
    """A small U-Net that has learned that bright is cloud."""
    card = make_card(variant="unet", network=UNet(width=4, depth=1))
    torch.manual_seed(0)
    network = card.network.build(card.in_channels, card.out_channels)
    pixels = torch.from_numpy(INSTRUMENTS["landsat8_l1"].to_physical(DN[np.newaxis])).clip(0, 1)
    truth = (pixels.mean(dim=1, keepdim=True) > 0.3).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(pixels), truth).backward()
        optimiser.step()
    return ModelBundle(card, network.state_dict())


BUNDLE = bright_bundle()


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
    patches = np.moveaxis(DN, 0, -1)[np.newaxis]
    answer = requests.post(f"{address}/invocations", json={"inputs": patches.tolist()}, timeout=120)
    assert answer.ok, answer.text
    predictions = answer.json()["predictions"]
    mask = np.array(predictions["mask"], np.uint8)
    assert (mask[0, :10] == 255).all()
    mlflow.set_tracking_uri(store)
    loaded = mlflow.pyfunc.load_model(MODEL).predict(patches)
    np.testing.assert_array_equal(mask, loaded["mask"])
    # At its border a scene is read on as its mirror image; a patch ends there.
    inside = np.s_[10:-BORDER, BORDER:-BORDER]
    assert set(np.unique(mask[0][inside])) == {0, 1}
    expected = predict_array(BUNDLE, DN, RGBN, instrument="landsat8_l1")
    probability = expected["cloud_probability"][inside]
    np.testing.assert_allclose(np.array(predictions["cloud_probability"])[0][inside], probability, atol=TOLERANCE)
    is_clear_cut = np.abs(probability - 0.5) > TOLERANCE
    assert is_clear_cut.mean() > 0.9
    np.testing.assert_array_equal(mask[0][inside][is_clear_cut], expected["mask"][inside][is_clear_cut])
    wrong = requests.post(f"{address}/invocations", json={"inputs": patches[..., :3].tolist()}, timeout=120)
    assert wrong.status_code == 400
