"""Both user interfaces over a small workplace, and a browser that looks at them."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.tracking import Tracker
from cloud_assets_tests.patch_arrays import store_arrays

if TYPE_CHECKING:
    from playwright.sync_api import Page

TASK = "landsat_segmentation"
PATIENCE = 240
"""Seconds; a busy machine takes its time, and a test that waits for text costs nothing on a fast one."""
_ROOT = Path(__file__).resolve().parents[2]
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}  # no invitation to the community over the page
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    pytest.importorskip("playwright", reason="no Playwright: pip install -e '.[browser]'")
    return found


@pytest.fixture(scope="session")
def page(chromium: str) -> "Iterator[Page]":
    """A browser window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(_FLAGS))
        window = browser.new_page(viewport={"width": 1500, "height": 1000})
        window.set_default_timeout(PATIENCE * 1000)
        yield window
        browser.close()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[str, str], ModelBundle]) -> Mapping[str, str]:
    """Results, runs and a registry as a training leaves them, and the environment that names them."""
    folder = tmp_path_factory.mktemp("workplace")
    home = folder / "data" / TASK
    images = np.random.default_rng(0).integers(6000, 9000, (6, 4, 32, 32), np.uint16)
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[:, :16] = 1
    splits = ["train", "train", "validation", "validation", "test", "test"]
    store = store_arrays(
        home / "labeled_patches",
        images,
        masks,
        bands=("red", "green", "blue", "nir"),
        instrument="landsat8_l1",
        official_splits=splits,
    )
    divided = GroupedSplit().split(store)
    divided.save(home / "splits")
    tracker = Tracker(f"sqlite:///{folder}/mlflow/mlflow.db")
    for number, variant in enumerate(("unet", "attention_unet")):
        bundle = tiny(TASK, variant)
        versions = (bundle.version, store.data_version, divided.data_version)
        metrics = {"iou": 0.8 - number / 10, "all_cloud_iou": 0.3}
        Evaluation(TASK, variant, metrics, *versions, is_synthetic=True, headline=("iou",)).save(
            home / f"{variant}_report"
        )
        version = tracker.register(tracker.publish(folder / variant, bundle), bundle, {})
        tracker.set_alias(TASK, "champion" if variant == "unet" else "challenger", version.version)
    instance = folder / "dagster"
    instance.mkdir()
    (instance / "dagster.yaml").write_text(_INSTANCE)
    ours = ("CLOUD_ASSETS_", "MLFLOW_", "DAGSTER_HOME", "PYTEST_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "CLOUD_ASSETS_HOME": str(folder / "data"),
        "DAGSTER_HOME": str(instance),
        "MLFLOW_TRACKING_URI": tracker.uri,
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def dagster_ui(chromium: str, workplace: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of Dagster's web server."""
    port = _free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-m", "cloud_assets.definitions"]
    log = tmp_path_factory.mktemp("log") / "dagster.txt"
    with _server([*command, "-h", "127.0.0.1", "-p", str(port)], workplace, log):
        yield _answering(f"http://127.0.0.1:{port}", "/server_info", log)


@pytest.fixture(scope="session")
def mlflow_ui(chromium: str, workplace: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the tracking server, started by the project's own script."""
    port = _free_port()
    environment = {
        **workplace,
        "PYTHON": sys.executable,
        "MLFLOW_PORT": str(port),
        "MLFLOW_BACKEND_STORE_URI": workplace["MLFLOW_TRACKING_URI"],
        "MLFLOW_ARTIFACTS_DESTINATION": str(Path(workplace["DAGSTER_HOME"]).parent / "mlflow" / "artifacts"),
    }
    log = tmp_path_factory.mktemp("log") / "mlflow.txt"
    with _server(["bash", str(_ROOT / "mlflow" / "start_server.sh")], environment, log):
        yield _answering(f"http://127.0.0.1:{port}", "/health", log)


class _server:  # noqa: N801 - reads as a verb where it is used
    """A server while a ``with`` block runs; ended with all its children."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log

    def __enter__(self) -> None:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environment), cwd=self._log.parent, stdout=log, stderr=subprocess.STDOUT
            )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answering(address: str, path: str, log: Path) -> str:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(address + path, timeout=5):
                return address
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"{address} never answered:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def tiny() -> Callable[[str, str], ModelBundle]:
    """Makes segmentation models with random weights."""
    from cloud_assets.inference.bundle import ModelCard, Threshold, TrainingRecord
    from cloud_assets.networks.specifications import UNet
    from cloud_assets.patches.preprocessing import Preprocessing

    def make(task: str, variant: str) -> ModelBundle:
        record = TrainingRecord(
            recipe={"width": 2},
            seed=0,
            epochs_run=1,
            best_epoch=0,
            history=({"loss": 0.5},),
            patches_version="patches",
            splits_version="splits",
            fingerprint=variant,
            seconds=1.0,
            device="cpu",
        )
        card = ModelCard(
            task=task,
            variant=variant,
            family="segmentation",
            network=UNet(width=2, depth=1),
            in_channels=4,
            out_channels=2,
            preprocessing=Preprocessing(instrument="landsat8_l1", bands=("red", "green", "blue", "nir")),
            classes=("clear", "cloud"),
            threshold=Threshold(value=0.5, method="fixed", unit="cloud probability"),
            training=record,
            details={"cloud_classes": [1], "name": variant},
        )
        return ModelBundle(card, card.network.build(4, 2).state_dict())

    return make
