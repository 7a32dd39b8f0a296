"""What a job costs over the same calls in a plain script.

    python benchmarks/job_overhead.py [--rounds 3] [--steps 20]

The lineage of cloudsen12_segmentation on a small synthetic sample, from catalogue to champion: once as a Dagster job
from the command line, once as calls of the functions behind its assets that save what these save. Both take turns, each
in a fresh process and an empty folder with an MLflow store of its own; medians. The aim: 10 s and 2 % of the calls.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from starting import started

ROOT = Path(__file__).resolve().parents[1]
TASK, VARIANT = "cloudsen12_segmentation", "unet_efficientnet_b2"
PATCHES = {"size": 128}


def recipe(steps: int) -> dict[str, Any]:
    """What the training differs in from the task's own."""
    return {
        "crop": 64, "mirrored_border": 0, "simulated_fraction": 0.0, "simulated_validation": 0,
        "composited_fraction": 0.0, "optimisation": {"steps": steps, "budget_minutes": None, "threads": 1},
    }  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--calls", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.calls:
        calls(options.calls, options.steps)
        return
    for name in ("CLOUD_ASSETS_HOME", "MLFLOW_TRACKING_URI"):  # or a job would find the training of the one before
        os.environ.pop(name, None)
    found: dict[str, list[tuple[float, float]]] = {"job": [], "calls": []}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        from cloud_assets.datasets.samples.sample_writer import write_sample

        write_sample(data, ["cloudsen12"], scale=0.1, progress=False)
        os.environ["CLOUD_ASSETS_DATA"] = str(data)
        for turn in range(options.rounds + 1):
            for way in found:
                folder = Path(name) / way
                folder.mkdir()
                taken = in_folder(folder, words(way, folder, options.steps))
                shutil.rmtree(folder)
                if turn or not options.rounds:  # the first fills the disk's caches
                    found[way].append(taken)
    job, plain = (np.median(taken, axis=0) for taken in found.values())
    print("what", "seconds by the clock", "processor seconds", sep=" | ")
    for title, (clock, processor) in (("job", job), ("calls", plain), ("difference", job - plain)):
        print(title, f"{clock:.1f}", f"{processor:.1f}", sep=" | ")


def words(way: str, folder: Path, steps: int) -> list[str]:
    """The command of one way, as arguments of Python."""
    if way == "calls":
        return [__file__, "--calls", str(folder), "--steps", str(steps)]
    given = {"labeled_patches": PATCHES, f"{VARIANT}_model": recipe(steps)}
    config = folder / "config.json"
    config.write_text(json.dumps({"ops": {f"{TASK}__{name}": {"config": one} for name, one in given.items()}}))
    shutil.copy(ROOT / "dagster.yaml", folder)
    return ["-m", "dagster", "job", "execute", "-m", "cloud_assets.definitions", "-j", TASK, "-c", str(config)]


def in_folder(folder: Path, command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor of a command that is started in a folder."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        return started(command)
    finally:
        os.chdir(here)


def calls(folder: Path, steps: int) -> None:
    """The calls behind the assets."""
    from cloud_assets.families import family_of
    from cloud_assets.lifecycle.promotion import promote
    from cloud_assets.lifecycle.training import train_variant, workspace_of
    from cloud_assets.orchestration.config_schema import from_config
    from cloud_assets.patches.cutting import cut_patches
    from cloud_assets.reports.comparison import compare
    from cloud_assets.tasks import cloudsen12_segmentation
    from cloud_assets.tracking import Tracker

    task, tracker = cloudsen12_segmentation.TASK, Tracker(f"sqlite:///{folder}/mlflow.db")
    for name in ("raw_scenes", "splits", "model", "report", "comparison", "champion"):
        (folder / name).mkdir()
    catalog = task.dataset.catalog(Path(os.environ["CLOUD_ASSETS_DATA"]))
    catalog.save(folder / "raw_scenes")
    store = cut_patches(catalog, from_config(task.patches, PATCHES), folder / "labeled_patches")
    splits = task.split.split(store)
    splits.save(folder / "splits")
    trained = train_variant(
        task.name, VARIANT, from_config(task.variants[VARIANT], recipe(steps)), store, splits, folder / "training",
        tracker, tags={}, warn=print, progress=False,
    )  # fmt: skip
    trained.bundle.save(folder / "model")
    evaluation = family_of(task.evaluation).evaluate(task.evaluation, trained.bundle, store, splits)
    evaluation.save(folder / "report")
    if trained.run_id is not None:
        tracker.log_evaluation(trained.run_id, evaluation)
    comparison = compare({VARIANT: evaluation}, task.gate)
    comparison.save(folder / "comparison")
    workspace = workspace_of(folder / "training", task.name, VARIANT, trained.bundle.card.training.fingerprint)
    promote(task, trained.bundle, evaluation, workspace, store, splits, tracker).save(folder / "champion")


if __name__ == "__main__":
    main()
