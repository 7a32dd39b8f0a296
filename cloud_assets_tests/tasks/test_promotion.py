"""Who becomes champion, and what the registry says about it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pydantic import BaseModel

from cloud_assets.errors import GateNotPassed, InvalidModel, NothingToEvaluate, TrackingUnavailable
from cloud_assets.evaluation.evaluation import Evaluation
from cloud_assets.evaluation.gate import Gate
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.prediction.bundle import ModelBundle
from cloud_assets.tasks.landsat_segmentation import TASK
from cloud_assets.tasks.promotion import Champion, promote
from cloud_assets.tracking import Tracker


class FixedEvaluator(BaseModel):
    """Judges models by a list; counts how often it was asked."""

    values: dict[str, float] = {}
    asked: list[str] = []
    comparable: bool = True

    def evaluate(self, bundle: ModelBundle, store: PatchStore, splits: Splits, *, progress: bool = True) -> Evaluation:
        self.asked.append(bundle.version)
        if not self.comparable:
            raise NothingToEvaluate("the patches lack a band")
        return judged(bundle, self.values[bundle.version], splits)

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {}


def judged(bundle: ModelBundle, iou: float, splits: Any, synthetic: bool = False) -> Evaluation:
    card = bundle.card
    return Evaluation(
        card.task, card.variant, {"iou": iou, "baseline_iou": 0.2}, bundle.version, "p", splits.data_version, synthetic
    )


class OtherSplits:
    """Splits of another version, as far as promotion looks at them."""

    data_version = "other"


@pytest.fixture
def attempt(
    tracker: Tracker, tmp_path: Path, store: PatchStore, splits: Splits, tiny_bundle: Callable[..., ModelBundle]
) -> Callable[..., Champion]:
    """Puts a model up for promotion: by its seed, with its metric on the test split."""
    evaluator = FixedEvaluator()
    task = replace(TASK, name="clouds", evaluation=evaluator, gate=Gate(metric="iou", must_beat=("baseline_iou",)))

    def run(seed: int, iou: float, *, other_splits: bool = False, synthetic: bool = False, **values: Any) -> Champion:
        bundle = tiny_bundle(seed=seed)
        workspace = tmp_path / f"workspace{seed}"
        workspace.mkdir(exist_ok=True)
        used: Any = OtherSplits() if other_splits else splits
        evaluator.values.update(values.get("now", {}))
        evaluator.comparable = values.get("comparable", True)
        return promote(task, bundle, judged(bundle, iou, used, synthetic), workspace, store, used, tracker)

    run.asked = evaluator.asked  # type: ignore[attr-defined]
    return run


def aliases(tracker: Tracker) -> Mapping[str, int]:
    return {
        alias: version.version
        for alias in ("challenger", "champion")
        if (version := tracker.version_at("clouds", alias)) is not None
    }


def test_the_first_model_that_passes_is_champion(attempt: Callable[..., Champion], tracker: Tracker) -> None:
    champion = attempt(0, 0.5)
    assert champion.record.promoted
    assert aliases(tracker) == {"challenger": 1, "champion": 1}
    tags = MlflowClient(tracker.uri).get_model_version("clouds", "1").tags
    assert tags["decision"] == champion.record.reason
    assert "no champion yet" in champion.record.reason
    assert float(tags["test_iou"]) == 0.5


def test_a_better_model_takes_its_place(attempt: Callable[..., Champion], tracker: Tracker) -> None:
    first, second = attempt(0, 0.5), attempt(1, 0.6)
    assert second.record.promoted
    assert (second.record.previous_version, second.record.previous_value) == (1, 0.5)
    assert aliases(tracker) == {"challenger": 2, "champion": 2}
    assert first.data_version != second.data_version


def test_a_worse_model_stays_challenger(attempt: Callable[..., Champion], tracker: Tracker) -> None:
    first, second = attempt(0, 0.6), attempt(1, 0.5)
    assert not second.record.promoted
    assert "0.5000" in second.record.reason
    assert "0.6000" in second.record.reason
    assert second.bundle.version == first.bundle.version
    assert second.data_version == first.data_version
    assert aliases(tracker) == {"challenger": 2, "champion": 1}
    assert MlflowClient(tracker.uri).get_model_version("clouds", "2").tags["decision"].startswith("rejected")


def test_the_same_model_again_changes_nothing(attempt: Callable[..., Champion], tracker: Tracker) -> None:
    first = attempt(0, 0.6)
    before = MlflowClient(tracker.uri).get_model_version("clouds", "1").tags
    again = attempt(0, 0.6)
    assert not again.record.promoted
    assert again.data_version == first.data_version
    assert MlflowClient(tracker.uri).get_model_version("clouds", "1").tags == before
    assert len(MlflowClient(tracker.uri).search_model_versions("name = 'clouds'")) == 1


def test_on_another_test_split_the_champion_is_judged_anew(
    attempt: Any, tracker: Tracker, tiny_bundle: Callable[..., ModelBundle]
) -> None:
    attempt(0, 0.9)
    attempt(1, 0.5)
    assert attempt.asked == []
    present = tiny_bundle(seed=0).version
    third = attempt(2, 0.55, other_splits=True, now={present: 0.3})
    assert attempt.asked == [present]
    assert third.record.promoted
    assert third.record.previous_value == 0.3
    assert aliases(tracker)["champion"] == 3


def test_a_champion_that_cannot_be_judged_here_stays(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    second = attempt(1, 0.9, other_splits=True, comparable=False)
    assert not second.record.promoted
    assert "lack a band" in second.record.reason


def test_simulated_images_never_dethrone_a_champion_of_real_ones(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5, synthetic=True)
    assert attempt(1, 0.6, synthetic=True).record.promoted
    assert attempt(2, 0.7).record.promoted
    fourth = attempt(3, 0.9, synthetic=True)
    assert not fourth.record.promoted
    assert "simulated" in fourth.record.reason
    assert aliases(tracker) == {"challenger": 4, "champion": 3}


def test_a_champion_that_no_longer_loads_is_replaced(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.9)
    for card in Path(tracker.store_folder or "").rglob("model_card.json"):
        card.write_text("{")
    second = attempt(1, 0.5)
    assert second.record.promoted
    assert "cannot be loaded" in second.record.reason


def test_nothing_becomes_champion_that_fails_the_gate(attempt: Any, tracker: Tracker) -> None:
    with pytest.raises(GateNotPassed, match="baseline_iou"):
        attempt(0, 0.1)
    assert aliases(tracker) == {"challenger": 1}


def test_without_mlflow_nothing_is_decided(
    tmp_path: Path, store: PatchStore, splits: Splits, tiny_bundle: Callable[..., ModelBundle]
) -> None:
    (tmp_path / "file").write_text("no folder")
    bundle = tiny_bundle()
    with pytest.raises(TrackingUnavailable, match="is kept"):
        promote(
            replace(TASK, name="clouds"),
            bundle,
            judged(bundle, 0.5, splits),
            tmp_path,
            store,
            splits,
            Tracker(f"sqlite:///{tmp_path}/file/mlflow.db"),
        )


def test_a_champion_survives_its_folder(attempt: Callable[..., Champion], tmp_path: Path) -> None:
    champion = attempt(0, 0.5)
    champion.save(tmp_path / "champion")
    again = Champion.open(tmp_path / "champion")
    assert again.record == champion.record
    assert again.data_version == champion.data_version
    assert json.loads((tmp_path / "champion" / "decision.json").read_text())["promoted"] is True
    (tmp_path / "champion" / "decision.json").write_text("{}")
    with pytest.raises(InvalidModel, match=r"decision\.json"):
        Champion.open(tmp_path / "champion")
