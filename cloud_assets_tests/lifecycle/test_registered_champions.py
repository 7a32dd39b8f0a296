"""Models for scenes where nobody names one."""

from pathlib import Path

import pytest

from cloud_assets.errors import NoChampion
from cloud_assets.lifecycle.model_references import champion_of, models_for_scenes
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tracking import Tracker
from cloud_assets_tests.orchestration.scene_place import make_champions
from cloud_assets_tests.scenes.fakes import make_bundle


def test_a_champion_of_a_simulated_sample_is_not_taken_in_silence(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db")
    models = models_for_scenes(tracker, ALL_TASKS)
    assert [bundle.card.variant for bundle in models.bundles] == ["simulation_only"]
    make_champions(tracker, tmp_path, make_bundle(variant="demo").with_card(is_synthetic_training_data=True))
    models = models_for_scenes(tracker, ALL_TASKS)
    assert [bundle.card.variant for bundle in models.bundles] == ["simulation_only"]
    assert models.said[0].startswith("models:/landsat_segmentation/1 learnt from simulated patches and is left out")
    assert "comes with the package" in models.said[1]
    make_champions(tracker, tmp_path, make_bundle(variant="wider", bands=("red", "green", "nir")))
    models = models_for_scenes(tracker, ALL_TASKS)
    assert [bundle.card.variant for bundle in models.bundles] == ["wider"]
    assert models.said == ("segmentation by models:/landsat_segmentation/2 (wider)",)
    assert models.without == tuple(task.name for task in ALL_TASKS if task.name != "landsat_segmentation")


def test_another_model_does_not_stand_in_for_a_champion_that_is_to_be_judged(tmp_path: Path) -> None:
    with pytest.raises(NoChampion, match="no champion to judge"):
        champion_of(Tracker(f"sqlite:///{tmp_path}/mlflow.db"), ALL_TASKS[0])
