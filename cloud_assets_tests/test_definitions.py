"""The code location: what it holds, under which names, and how little loading it costs."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.definitions import defs
from cloud_assets.orchestration.jobs import DEMO, run_config
from cloud_assets.tasks import ALL_TASKS, cloudsen12_segmentation, landsat_segmentation
from cloud_assets.tasks.task import Task

HEAVY = (
    "torch",
    "mlflow",
    "rasterio",
    "lightning",
    "pandas",
    "matplotlib",
    "sklearn",
    "timm",
    "albumentations",
    "optuna",
)
RUN_CONFIGS = sorted(
    path.name.removesuffix(".yaml")
    for path in (Path(__file__).parents[1] / "cloud_assets" / "run_configs").glob("*.yaml")
)


def test_loading_imports_nothing_heavy() -> None:
    script = f"import sys, cloud_assets.definitions; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_warns_of_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", "import cloud_assets.definitions"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cloud_assets" not in done.stderr
    assert "BetaWarning" not in done.stderr


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_a_task_has_its_lineage(task: Task) -> None:
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs() if spec.group_name == task.name}
    names = ["raw_scenes", "labeled_patches", "splits", "comparison", "champion"]
    per_variant = [f"{variant}_{name}" for variant in task.variants for name in ("model", "report")]
    assert {f"{task.name}/{name}" for name in [*names, *per_variant]} <= keys


def test_every_asset_says_what_it_is() -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.kinds, name
        assert spec.owners, name
        assert spec.tags, name
        assert len(spec.description or "") > 15, name
        assert spec.code_version, name


def test_there_is_a_job_for_each_task_and_the_demo() -> None:
    jobs = {job.name for job in defs.resolve_all_job_defs()}
    assert {task.name for task in ALL_TASKS} | {DEMO} <= jobs


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_steps_run_in_turn_in_one_process(task: Task) -> None:
    assert defs.resolve_job_def(task.name).executor_def.name == "in_process"


@pytest.mark.parametrize("name", [*(task.name for task in ALL_TASKS), DEMO])
def test_a_job_needs_no_configuration(name: str) -> None:
    assert dg.validate_run_config(defs.resolve_job_def(name))


@pytest.mark.parametrize("name", RUN_CONFIGS)
def test_a_run_configuration_fits_its_job(name: str) -> None:
    job, size = name.rsplit(".", 1)
    assert size in ("quick", "full", "from_simulation", "half_hour")
    assert dg.validate_run_config(defs.resolve_job_def(job), run_config(job, size))


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("size", ["quick", "half_hour", "full"])
def test_each_task_comes_with_run_configurations(task: Task, size: str) -> None:
    assert f"{task.name}.{size}" in RUN_CONFIGS


@pytest.mark.parametrize("task", [cloudsen12_segmentation.TASK, landsat_segmentation.TASK], ids=lambda task: task.name)
def test_the_authors_recipes_learn_from_real_patches_alone(task: Task) -> None:
    config = run_config(task.name, "full")["ops"]
    trained = {name: step["config"] for name, step in config.items() if name.endswith("_model")}
    assert trained
    for settings in trained.values():
        chosen = {
            name: settings[name] for name in ("simulated_fraction", "simulated_validation", "composited_fraction")
        }
        assert not any(chosen.values())


def test_quick_configurations_start_from_nothing() -> None:
    for job in ("cloudsen12_segmentation", DEMO):
        step = run_config(job, "quick")["ops"]["cloudsen12_segmentation__unet_efficientnet_b2_model"]
        assert step["config"]["network"] == {"encoder_weights": "none"}


def test_the_demo_never_looks_for_real_data() -> None:
    config = dg.validate_run_config(defs.resolve_job_def(DEMO))
    scenes = config["ops"]["cloudsen12_segmentation__raw_scenes"]["config"]
    assert scenes["source"] == "sample"
