"""What steps need of a node: declared once, asked for by the run on a cluster."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.api import create_execution_plan
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from cloud_assets.definitions import defs
from cloud_assets.errors import InvalidRecipe
from cloud_assets.orchestration.jobs import SCENES_TAG, TASK_TAG
from cloud_assets.orchestration.task_definitions import task_definitions
from cloud_assets.settings import RESOURCES_TAG, StepResources, settings
from cloud_assets_tests.orchestration.small_task import definitions, small_task

LOCATION = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="cloud_assets.definitions"))
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), "clouds")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance whose runs queue as on a cluster."""
    monkeypatch.setenv("CLOUD_ASSETS_TRAINING_RESOURCES", "num_cpus=8,num_gpus=1,memory=32GB")
    example = yaml.safe_load((DEPLOY / "dagster.cluster.yaml").read_text())
    with instance_for_test({name: example[name] for name in ("run_coordinator", "concurrency")}) as instance:
        yield instance


def queued(instance: dg.DagsterInstance, steps: list[str] | None = None, **tags: str) -> dict[str, Any]:
    """What a run of some steps asks for once it is queued."""
    job = definitions(small_task(), Path(instance.root_directory)).resolve_job_def("clouds")
    plan = None if steps is None else create_execution_plan(job, step_keys_to_execute=steps)
    run = instance.create_run_for_job(
        job, execution_plan=plan, tags=tags, status=dg.DagsterRunStatus.NOT_STARTED, remote_job_origin=ORIGIN
    )
    run = instance.run_coordinator.submit_run(dg.SubmitRunContext(run, None))  # type: ignore[arg-type]
    assert run.status is dg.DagsterRunStatus.QUEUED
    found: dict[str, Any] = json.loads(run.tags[RESOURCES_TAG])
    return found


def test_a_run_asks_for_what_the_most_demanding_of_its_steps_needs(queue: dg.DagsterInstance) -> None:
    assert queued(queue) == {"num_cpus": 8, "num_gpus": 1, "memory": 32_000_000_000}
    few = queued(queue, ["clouds__raw_scenes", "clouds__labeled_patches"])
    assert few == {"num_cpus": 1, "num_gpus": 0, "memory": 0}


def test_the_tag_of_a_run_wins(queue: dg.DagsterInstance) -> None:
    assert queued(queue, **{RESOURCES_TAG: '{"num_cpus": 2}'}) == {"num_cpus": 2}


def test_runs_that_no_job_started_are_counted_by_task_and_scenes(queue: dg.DagsterInstance) -> None:
    """Those of backfills, and of a click on some assets."""

    def tags(*paths: list[str], **given: str) -> dict[str, str]:
        run = dg.DagsterRun(
            "__ASSET_JOB",
            asset_selection=frozenset(map(dg.AssetKey, paths)),
            tags={RESOURCES_TAG: "{}", **given},
            remote_job_origin=ORIGIN,
        )
        queued = queue.run_coordinator.submit_run(dg.SubmitRunContext(queue.add_run(run), None))  # type: ignore[arg-type]
        return {name: queued.tags[name] for name in (TASK_TAG, SCENES_TAG) if name in queued.tags}

    assert tags(["scenes", "scene_products"]) == {SCENES_TAG: "scenes"}
    assert tags(["clouds", "splits"], ["clouds", "champion"]) == {TASK_TAG: "clouds"}
    assert tags(["clouds", "splits"], ["scenes", "scene_products"]) == {}
    assert tags(["clouds", "splits"], **{TASK_TAG: "mine"}) == {TASK_TAG: "mine"}


def test_a_run_leaves_the_node_to_its_steps_where_each_is_a_job_of_its_own(
    queue: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_EXECUTOR", "ray")
    assert queued(queue) == {"num_cpus": 0.01}


def test_every_step_that_the_package_declares_says_what_it_needs() -> None:
    # A Ray job that asks for no CPU runs on the head node and is not counted.
    for asset in defs.assets or ():
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable:
            assert StepResources.model_validate_json(asset.op.tags[RESOURCES_TAG]).num_cpus >= 1


@pytest.mark.parametrize("said", ["eight", "cpus=8", "num_cpus=0", "num_gpus=-1", "memory=much"])
def test_resources_that_make_no_sense(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_SCENE_RESOURCES", said)
    with pytest.raises(InvalidRecipe, match=r"CLOUD_ASSETS_SCENE_RESOURCES.*num_cpus=8,num_gpus=1,memory=32GB"):
        settings()


@pytest.mark.skipif(find_spec("dagster_ray") is not None, reason="the extra is installed")
def test_the_executor_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_EXECUTOR", "ray")
    with pytest.raises(InvalidRecipe, match=r"cloud-assets\[cluster\]"):
        task_definitions(small_task())
