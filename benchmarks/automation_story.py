"""The platform running by itself, as one story on the sample, with the daemon running and nothing but files moved.

1. Two scenes with masks drawn in haste arrive: patches and splits are made, a challenger is trained (a few steps, to
   begin with), and becomes champion.
2. A scene is put into the inbox: its products are made by that champion.
3. More scenes and corrected masks arrive and the budget is raised; the daemon is killed and started again while the
   challenger is trained: it is better and becomes champion, and the scene's products are made again.
4. The training masks are spoiled: the challenger is rejected, with the reason; champion and products stay.

    python benchmarks/automation_story.py story

Everything lies in the folder given: data, results, MLflow store, Dagster instance. To look at them:
``DAGSTER_HOME=$PWD/story/dagster dagster-webserver -m cloud_assets.definitions`` and ``mlflow ui --backend-store-uri
sqlite:///story/mlflow/mlflow.db``. Trainings take seconds, so the scores mean nothing, and with six test scenes the
gate goes by the difference alone. Ends with an error if any part of the story does not come true.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

TASK = "landsat_segmentation"
SENSORS = (f"{TASK}_new_labelled_data", f"{TASK}_data_version_changed", "champion_changed", "inbox")
COLOURS = ("red", "green", "blue", "nir")
PATCHES_A_SCENE = 2
VALIDATION, TEST = 2, 6
FIRST_SCENES = 2
RUN_CONFIG = f"""
ops:
  {TASK}__unet_model:
    config: &tiny
      network: {{width: 8, depth: 3}}
      crop: 128
      simulated_fraction: 0.0
      simulated_validation: 0
      composited_fraction: 0.0
      optimisation: {{max_epochs: 1, steps_per_epoch: STEPS, batch_size: 4, learning_rate: 0.005, budget_minutes: null}}
  {TASK}__attention_unet_model:
    config: *tiny
  {TASK}__comparison:
    config: {{margin: 0.005, evidence: estimate}}
"""
FEW_STEPS, MANY_STEPS = 8, 120
SCENE = "LC08_L1TP_193024_20260101_red_green_blue_nir"
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Story:
    """A folder with everything in it, its daemon, and what is told."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self.patience = patience
        self.began = time.monotonic()
        self.told: set[tuple[str, str]] = set()
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.data = folder / "data" / "38-cloud" / "38-Cloud_training"
        self.products = folder / "results" / "scenes"
        os.environ.update(
            {
                "CLOUD_ASSETS_DATA": str(folder / "data"),
                "CLOUD_ASSETS_HOME": str(folder / "results"),
                "CLOUD_ASSETS_INBOX": str(folder / "inbox"),
                "CLOUD_ASSETS_RUN_CONFIGS": str(folder / "run_configs"),
                "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
                "DAGSTER_HOME": str(folder / "dagster"),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "OMP_NUM_THREADS": "1",
            }
        )
        for name in ("data/38-cloud", "results", "inbox", "run_configs", "dagster", "archive"):
            (folder / name).mkdir(parents=True)
        shutil.copy(Path(__file__).parents[1] / "dagster.production.yaml", folder / "dagster" / "dagster.yaml")
        self.budget(FEW_STEPS)
        self.instance = dg.DagsterInstance.get()

    def say(self, text: str) -> None:
        """Prints a line with the time since the beginning."""
        print(f"[{time.monotonic() - self.began:6.0f} s] {text}", flush=True)

    def budget(self, steps: int) -> None:
        """Sets how many steps the trainings take that start by themselves."""
        path = self.folder / "run_configs" / f"{TASK}.yaml"
        path.write_text(RUN_CONFIG.replace("STEPS", str(steps)))

    def start_daemon(self) -> None:
        """Starts the daemon, which starts a code server and that the runs: a group of processes of their own."""
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "cloud_assets.definitions"]
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemons.append(
                subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
            )
        self.say("$ dagster-daemon run -m cloud_assets.definitions")

    def end(self) -> None:
        """Ends the daemons with all that they started."""
        for daemon in self.daemons:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait()

    def switch_on(self) -> None:
        """Switches the sensors on, from the command line."""
        for name in SENSORS:
            command = [str(Path(sys.executable).with_name("dagster")), "sensor", "start", name]
            done = subprocess.run(
                [*command, "-m", "cloud_assets.definitions"],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
            self.say(f"$ dagster sensor start {name} -m cloud_assets.definitions")

    def until(self, what: str, true: Callable[[], bool]) -> None:
        """Waits, and tells of every run that begins or ends."""
        waited = time.monotonic()
        while not true():
            self._tell_of_runs()
            if time.monotonic() - waited > self.patience:
                raise SystemExit(f"It never came true: {what}. See {self.folder}/daemon.log.")
            time.sleep(2)
        self._tell_of_runs()
        self.say(f"→ {what}")

    def _tell_of_runs(self) -> None:
        for run in reversed(self.instance.get_runs(limit=20)):
            if (run.run_id, run.status.value) not in self.told and run.status in (
                *FINISHED,
                dg.DagsterRunStatus.STARTED,
            ):
                self.told.add((run.run_id, run.status.value))
                cause = run.tags.get("cloud_assets/started_by") or run.tags.get("dagster/sensor_name", "")
                self.say(f"  run {run.run_id[:8]} of {run.job_name} ({cause}): {run.status.value}")

    def decision(self) -> dict[str, object]:
        """The latest decision on the champion, empty before the first."""
        path = self.folder / "results" / TASK / "champion" / "decision.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def idle(self) -> bool:
        """Whether every run is finished."""
        return all(run.status in FINISHED for run in self.instance.get_runs(limit=50))


def main() -> None:
    """Tells the story."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="A new folder for everything.")
    parser.add_argument("--patience", type=float, default=1800, help="Longest wait for one thing to happen, seconds.")
    options = parser.parse_args()
    story = Story(options.folder.absolute(), options.patience)
    scenes = _sample(story)
    story.start_daemon()
    try:
        _tell(story, scenes)
    finally:
        story.end()
    story.say("The story came true.")


def _tell(story: Story, scenes: list[str]) -> None:
    story.switch_on()
    held_out = scenes[: VALIDATION + TEST]
    training = scenes[VALIDATION + TEST :]
    story.say(
        f"1. {FIRST_SCENES} training scenes with masks drawn in haste arrive, {len(held_out)} to validate and test"
    )
    _deliver(story, held_out)
    _deliver(story, training[:FIRST_SCENES], _hasty)
    story.until("patches and splits are there", lambda: (story.folder / "results" / TASK / "splits").is_dir())
    story.until("the first champion", lambda: story.decision().get("version") == 1 and story.idle())
    story.say(f"   {story.decision()['reason']}")

    story.say("2. A scene is put into the inbox")
    _scene(story, held_out[-1])
    story.until("its products are there", lambda: any(story.products.glob("*/index.html")) and story.idle())
    first_page = next(story.products.glob("*/index.html")).stat().st_mtime

    story.say(f"3. {len(training) - FIRST_SCENES} more scenes and corrected masks arrive")
    story.budget(MANY_STEPS)
    _deliver(story, training)
    challenger = f"{TASK}_data_version_changed"
    before = len(_runs(story, challenger))
    story.until("a challenger is being trained", lambda: len(_runs(story, challenger)) > before)
    story.daemons[-1].kill()
    story.daemons[-1].wait()
    story.say("   the daemon was killed in the middle; it is started again")
    story.start_daemon()
    story.until("a decision on the second challenger", lambda: story.decision().get("challenger_version") == 2)
    story.say(f"   {story.decision()['reason']}")
    assert story.decision()["promoted"] is True, "the challenger was not promoted"
    story.until(
        "the scene's products are made again",
        lambda: next(story.products.glob("*/index.html")).stat().st_mtime > first_page and story.idle(),
    )
    second_page = next(story.products.glob("*/index.html")).stat().st_mtime

    story.say("4. The training masks are spoiled")
    _deliver(story, training, lambda mask: 255 - mask)
    story.until("a decision on the third challenger", lambda: story.decision().get("challenger_version") == 3)
    story.until("no run is left", story.idle)
    story.say(f"   {story.decision()['reason']}")
    assert story.decision()["promoted"] is False, "the worse challenger was promoted"
    assert story.decision()["version"] == 2, "the champion is another one"
    assert next(story.products.glob("*/index.html")).stat().st_mtime == second_page, "the products were made again"
    command = [str(Path(sys.executable).with_name("cloud-assets")), "models", "list", TASK]
    print(
        subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "180"}).stdout
    )


def _runs(story: Story, cause: str) -> list[dg.DagsterRun]:
    filters = dg.RunsFilter(tags={"cloud_assets/started_by": cause}, statuses=[dg.DagsterRunStatus.STARTED, *FINISHED])
    return list(story.instance.get_runs(filters))


def _sample(story: Story) -> list[str]:
    """Puts the sample's training patches into the archive; returns the names of their scenes."""
    command = [str(Path(sys.executable).with_name("cloud-assets")), "sample", str(story.folder / "sample")]
    if not (story.folder / "sample").exists():
        subprocess.run([*command, "--dataset", "38-cloud"], check=True, capture_output=True)
    source = story.folder / "sample" / "38-cloud" / "38-Cloud_training"
    archive = story.folder / "archive"
    by_scene: dict[str, list[Path]] = {}
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    for path in sorted((source / "train_gt").iterdir()):
        with rasterio.open(path) as raster:
            share = (raster.read(1) > 0).mean()
        if 0.1 < share < 0.9:
            by_scene.setdefault(re.split(r"_by_\d+_", path.stem)[1], []).append(path)
    scenes = sorted(name for name, paths in by_scene.items() if len(paths) >= PATCHES_A_SCENE)
    splits = ["validation"] * VALIDATION + ["test"] * TEST + ["train"] * len(scenes)
    with (archive / "splits.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["name", "scene_id", "split"])
        for scene, split in zip(scenes, splits, strict=False):
            for path in by_scene[scene][:PATCHES_A_SCENE]:
                table.writerow([path.stem.removeprefix("gt_"), scene, split])
                for colour in ("gt", *COLOURS):
                    target = archive / scene / f"train_{colour}"
                    target.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source / f"train_{colour}" / path.name.replace("gt_", f"{colour}_", 1), target)
    story.say(f"{len(scenes)} scenes of the sample, {PATCHES_A_SCENE} patches each")
    return scenes


def _deliver(story: Story, scenes: list[str], redraw: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
    """Puts scenes among the data, their masks drawn anew if so wished; files of theirs that are there are replaced."""
    shutil.copy(story.folder / "archive" / "splits.csv", story.data.parent / "splits.csv")
    for scene in scenes:
        shutil.copytree(story.folder / "archive" / scene, story.data, dirs_exist_ok=True)
        for path in sorted((story.data / "train_gt").glob(f"*_{scene}.TIF")) if redraw else ():
            with rasterio.open(path, "r+") as raster:
                raster.write(redraw(raster.read(1)), 1)


def _hasty(mask: np.ndarray) -> np.ndarray:
    """A mask that is drawn an eighth of the patch beside the clouds."""
    return np.roll(mask, (48, 48), axis=(0, 1))


def _scene(story: Story, scene: str) -> None:
    """Puts a patch of a test scene into the inbox, as a GeoTIFF of four bands."""
    paths = [sorted((story.folder / "archive" / scene / f"train_{colour}").iterdir())[0] for colour in COLOURS]
    bands = []
    for path in paths:
        with rasterio.open(path) as raster:
            bands.append(raster.read(1))
    pixels = np.stack(bands)
    place = rasterio.transform.from_origin(500_000, 5_400_000, 30, 30)
    profile = {"count": 4, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    with rasterio.open(
        story.folder / "inbox" / f"{SCENE}.tif", "w", driver="GTiff", crs="EPSG:32632", transform=place, **profile
    ) as raster:
        raster.write(pixels)


if __name__ == "__main__":
    main()
