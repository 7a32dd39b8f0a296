"""``CLOUD_ASSETS_RANK_RESOURCES``: Ray Train's workers on two nodes are the ranks of one training."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec

import pytest

from cloud_assets.errors import InvalidRecipe, TrainingFailed
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.callbacks import LAST_CHECKPOINT
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.cluster.machines import Cluster
from cloud_assets_tests.learning.test_ranks import assert_same_curve, on
from cloud_assets_tests.toy_task import toy_recipe, toy_run, toy_splits, toy_store

__all__ = ["toy_recipe", "toy_run", "toy_splits", "toy_store"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two Ray nodes of one CPU each, and this process as a driver of theirs whose ranks need one CPU."""
    if find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed")
    cluster = Cluster()
    try:
        cluster.start_head()
        cluster.start_worker("worker")
        for name, value in cluster.environment.items():
            if name.startswith("RAY_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("CLOUD_ASSETS_RANK_RESOURCES", "num_cpus=1")
        import ray  # which reads how to prove itself when it is imported

        # By itself a driver takes the machine's own address, where these nodes do not listen.
        monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        ray.init(cluster.ray_address)
        yield cluster
        ray.shutdown()
    finally:
        cluster.stop()


def ranks() -> list[int]:
    """Process identifiers of the workers that train."""
    found = subprocess.run(["pgrep", "-f", "ray::.*RayTrainWorker"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.usefixtures("nodes")
def test_ranks_on_two_nodes_learn_as_one_and_what_ends_one_ends_all(
    toy_recipe: Callable[..., Segmentation], toy_run: Callable[..., TrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    recipe = toy_recipe(max_epochs=3, weight_averaging=0.9, plateau_patience=0, steps_per_epoch=3, budget_minutes=60)
    told: list[tuple[int, int]] = []
    whole = train_by(recipe, toy_run("whole"))
    parts = train_by(on(recipe, 2), toy_run("parts", on_epoch=lambda epoch, _: told.append((epoch, os.getpid()))))
    assert told == [(epoch, os.getpid()) for epoch in range(3)]
    assert len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
    assert_same_curve(parts, whole)

    def kill_one(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == 1:
            os.kill(ranks()[0], signal.SIGKILL)

    run = toy_run("killed", on_epoch=kill_one)
    with pytest.raises(TrainingFailed, match=r"toy/unet: one of 2 ranks died.*goes on from the last checkpoint"):
        train_by(toy_recipe(devices=2, max_epochs=500, patience=None, steps_per_epoch=1), run)
    assert (run.checkpoints / LAST_CHECKPOINT).exists()

    def stop(epoch: int, metrics: Mapping[str, float]) -> None:
        raise InvalidRecipe("the listener's own.")

    with pytest.raises(InvalidRecipe, match="the listener's own"):
        train_by(on(recipe, 2), toy_run("stopped", on_epoch=stop))
    monkeypatch.delenv("CLOUD_ASSETS_RANK_RESOURCES")
    assert_same_curve(train_by(recipe, toy_run("stopped")), whole)
