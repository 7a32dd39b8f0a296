"""Who becomes champion, and what the registry says about it."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cloud_assets.errors import AlreadyRunning, InvalidModel, NoChampion, NoUsablePatches, TrackingUnavailable
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.promotion import Champion, approve, promote, reject, rollback
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate
from cloud_assets.reports.evaluation import Evaluation, Evaluator
from cloud_assets.tasks.landsat_segmentation import TASK
from cloud_assets.tracking import Tracker
from cloud_assets_tests.made_up_family import MADE_UP, MadeUpFamily


class FixedEvaluator(Evaluator):
    """Gives models metrics from a list; counts how often it was asked."""

    family: ClassVar[str] = MADE_UP
    asked: ClassVar[list[str]] = []
    values: ClassVar[dict[str, float]] = {}
    comparable: ClassVar[bool] = True
    meanwhile: ClassVar[Any] = None
    windows: int = 200
    """A setting that the metric depends on: with 500 it is 0.2 higher."""

    def judge(self, bundle: ModelBundle, store: PatchStore, splits: Splits) -> Evaluation:
        self.asked.append(bundle.version)
        bundle.network()
        if not self.comparable:
            raise NoUsablePatches("the patches lack a band")
        if FixedEvaluator.meanwhile is not None:
            FixedEvaluator.meanwhile()
        bonus = 0.2 if self.windows == 500 else 0.0
        return judged(bundle, self.values[bundle.version] + bonus, splits)


def judged(bundle: ModelBundle, iou: float, splits: Any, synthetic: bool = False) -> Evaluation:
    """An evaluation over twelve scenes that scatter around the metric, differently for each model."""
    card = bundle.card
    scatter = np.random.default_rng(card.training.seed).normal(scale=0.01, size=12)
    scenes = pd.DataFrame({"group": [f"{n:02d}" for n in range(12)], "iou": iou + scatter - scatter.mean()})
    return Evaluation(
        task=card.task,
        variant=card.variant,
        metrics={"iou": iou, "baseline_iou": 0.2},
        model_version=bundle.version,
        patches_version="p",
        splits_version=splits.data_version,
        is_synthetic=synthetic,
        tables={"per_scene": scenes},
    )


@pytest.fixture
def attempt(
    tracker: Tracker, tmp_path: Path, store: PatchStore, splits: Splits, tiny_bundle: Callable[..., ModelBundle]
) -> Callable[..., Champion]:
    """Puts a model up for promotion: by its seed, with its metric on the test split."""
    FixedEvaluator.asked.clear()
    FixedEvaluator.values.clear()

    def run(seed: int, iou: float, *, other_splits: bool = False, synthetic: bool = False, **values: Any) -> Champion:
        gate = Gate(metric="iou", **values.get("gate", {}))
        task = replace(TASK, name="clouds", evaluation=FixedEvaluator(), gate=gate)
        bundle = tiny_bundle(seed=seed)
        FixedEvaluator.values.setdefault(bundle.version, iou)
        FixedEvaluator.meanwhile = values.get("meanwhile")
        workspace = tmp_path / f"workspace{seed}"
        workspace.mkdir(exist_ok=True)
        used = Splits(splits.table.iloc[::-1].reset_index(drop=True), splits.details) if other_splits else splits
        FixedEvaluator.values.update(values.get("now", {}))
        FixedEvaluator.comparable = values.get("comparable", True)
        evaluation = replace(judged(bundle, iou, used, synthetic), **values.get("stated", {}))
        return promote(task, bundle, evaluation, workspace, store, used, tracker)

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
    present = tiny_bundle(seed=0).version
    third = attempt(2, 0.55, other_splits=True, now={present: 0.3})
    assert FixedEvaluator.asked == [present]
    assert third.record.promoted
    assert third.record.previous_value == 0.3
    assert aliases(tracker)["champion"] == 2


def test_a_champion_that_cannot_be_judged_here_stays(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    second = attempt(1, 0.9, other_splits=True, comparable=False)
    assert not second.record.promoted
    assert "lack a band" in second.record.reason


def test_the_champion_is_evaluated_by_the_settings_that_the_challenger_was(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    # With the declared 200 windows the champion has 0.5, with the 500 of this run 0.7.
    second = attempt(1, 0.6, stated={"recipe": {"windows": 500}})
    assert not second.record.promoted
    assert second.record.previous_value == pytest.approx(0.7)
    assert attempt(2, 0.8, stated={"recipe": {"windows": 500}}).record.promoted


def test_the_champion_is_compared_with_the_references_that_the_challenger_was(
    attempt: Any, tracker: Tracker, tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]
) -> None:
    attempt(0, 0.5)
    reference = tiny_bundle(seed=7, task="masks")
    (tmp_path / "reference").mkdir()
    tracker.register(tracker.publish(tmp_path / "reference", reference), reference, {})
    assert attempt(1, 0.6, stated={"references": {"masks": reference.version}}).record.promoted
    assert MadeUpFamily.references == {"masks": reference.version}
    third = attempt(2, 0.9, stated={"references": {"masks": "deleted"}})
    assert not third.record.promoted
    assert "model deleted of masks, which is not registered any more" in third.record.reason


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


def test_weights_that_do_not_fit_their_network_are_no_champion(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.9)
    for path in Path(tracker.store_folder or "").rglob("model_card.json"):
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, "network": {**card["network"], "width": 3}}))
    second = attempt(1, 0.5)
    assert second.record.promoted
    assert "cannot be loaded" in second.record.reason


def test_a_card_of_another_schema_version_is_told_and_replaced(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.9)
    for path in Path(tracker.store_folder or "").rglob("model_card.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))
    second = attempt(1, 0.5)
    assert second.record.promoted
    assert "version 1, cannot be loaded" in second.record.reason
    worse = pytest.raises(NoChampion, match="rollback clouds")
    for path in Path(tracker.store_folder or "").rglob("model_card.json"):
        path.write_text("{")
    with worse:
        attempt(2, 0.1)
    assert aliases(tracker)["champion"] == 2


def test_a_difference_within_the_noise_is_no_reason_to_change(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    second = attempt(1, 0.501)
    assert not second.record.promoted
    assert second.record.difference_low < 0 < second.record.difference_high
    assert "interval of the paired difference over 12 scenes" in second.record.reason
    assert tracker.version_at("clouds", "challenger").tags["decision"] == second.record.reason  # type: ignore[union-attr]
    assert attempt(2, 0.55, gate={"margin": 0.02}).record.promoted
    assert not attempt(3, 0.56, gate={"margin": 0.02}).record.promoted


def test_a_deleted_champion_is_none(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.6)
    MlflowClient(tracker.uri).delete_model_version("clouds", "2")
    third = attempt(2, 0.4)
    assert third.record.promoted
    assert "no champion yet" in third.record.reason
    assert aliases(tracker)["champion"] == third.record.version


def test_mlflow_away_in_the_middle_decides_nothing_and_the_next_run_does(
    attempt: Any, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(0, 0.5)
    real = MlflowClient.set_registered_model_alias

    def away(client: MlflowClient, name: str, alias: str, version: str) -> None:
        if alias == "champion":
            raise MlflowException("the server is away")
        real(client, name, alias, version)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", away)
        with pytest.raises(TrackingUnavailable):
            attempt(1, 0.6)
    assert aliases(tracker) == {"challenger": 2, "champion": 1}
    assert attempt(1, 0.6).record.promoted
    assert aliases(tracker)["champion"] == 2
    assert len(tracker.versions("clouds")) == 2


def test_a_champion_that_changes_meanwhile_is_the_one_to_beat(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.7)
    tracker.set_alias("clouds", "champion", 1)  # as another machine would, which this one's lock cannot hold back
    changes = iter([2])

    def meanwhile() -> None:
        for version in changes:
            tracker.set_alias("clouds", "champion", version)

    third = attempt(2, 0.6, meanwhile=meanwhile)
    assert not third.record.promoted
    assert third.record.previous_version == 2
    assert aliases(tracker) == {"challenger": 3, "champion": 2}


def test_two_retrainings_at_once_promote_one_after_the_other(
    tracker: Tracker, tmp_path: Path, store: PatchStore, splits: Splits, tiny_bundle: Callable[..., ModelBundle]
) -> None:
    FixedEvaluator.meanwhile, FixedEvaluator.comparable = None, True
    task = replace(TASK, name="clouds", evaluation=FixedEvaluator(), gate=Gate(metric="iou"))
    values = {seed: 0.5 + 0.1 * seed for seed in range(3)}
    bundles = {seed: tiny_bundle(seed=seed) for seed in values}
    FixedEvaluator.values.update({bundles[seed].version: value for seed, value in values.items()})

    def one(seed: int) -> Champion:
        workspace = tmp_path / f"workspace{seed}"
        workspace.mkdir()
        evaluation = judged(bundles[seed], values[seed], splits)
        return promote(task, bundles[seed], evaluation, workspace, store, splits, Tracker(tracker.uri))

    first = one(0)
    with ThreadPoolExecutor(2) as threads:
        records = [champion.record for champion in threads.map(one, (1, 2))]
    best = next(record for record in records if record.challenger_variant and record.challenger_value == 0.7)
    other = next(record for record in records if record is not best)
    assert first.record.version == 1
    assert best.promoted
    assert aliases(tracker)["champion"] == best.version
    # Whoever came second was compared with the champion that the first one had left.
    if other.promoted:
        assert best.previous_version == other.version
    else:
        assert other.previous_version == best.version


def test_a_challenger_waits_for_approval(attempt: Any, tracker: Tracker) -> None:
    with pytest.raises(NoChampion, match="models approve clouds"):
        attempt(0, 0.5, gate={"approval": "manual"})
    assert aliases(tracker) == {"challenger": 1}
    approve(tracker, "clouds")
    second = attempt(1, 0.6, gate={"approval": "manual"})
    assert second.record.waits_for_approval
    assert not second.record.promoted
    assert second.record.version == 1
    assert second.record.reason.startswith("waits for approval")
    assert aliases(tracker) == {"challenger": 2, "champion": 1}
    assert approve(tracker, "clouds").version == 2
    assert aliases(tracker) == {"challenger": 2, "champion": 2}
    assert "approved by hand" in tracker.version_at("clouds", "champion").tags["decision"]  # type: ignore[union-attr]
    with pytest.raises(NoChampion, match="no challenger"):
        approve(tracker, "clouds")


def test_approval_is_of_the_comparison_that_was_seen(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.6)
    attempt(2, 0.7, gate={"approval": "manual"})
    tracker.set_alias("clouds", "champion", 1)
    with pytest.raises(AlreadyRunning, match="another champion"):
        approve(tracker, "clouds")
    assert approve(tracker, "clouds", 3).version == 3


def test_what_a_person_rejected_is_not_promoted_later(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.6, gate={"approval": "manual"})
    reject(tracker, "clouds", "sees clouds over snow")
    again = attempt(1, 0.6)
    assert not again.record.promoted
    assert "was rejected" in again.record.reason
    with pytest.raises(NoChampion, match="is the champion"):
        reject(tracker, "clouds", "no", 1)


def test_a_rollback_returns_to_the_champion_before_and_stays(attempt: Any, tracker: Tracker) -> None:
    for seed, iou in enumerate((0.5, 0.6, 0.7)):
        attempt(seed, iou)
    back, now = rollback(tracker, "clouds", "striped masks")
    assert (back and back.version, now.version) == (3, 2)
    assert aliases(tracker)["champion"] == 2
    again = attempt(2, 0.7)
    assert not again.record.promoted
    assert "striped masks" in again.record.reason
    assert aliases(tracker)["champion"] == 2
    assert rollback(tracker, "clouds", "still striped")[1].version == 1
    with pytest.raises(NoChampion, match="no champion before version 1"):
        rollback(tracker, "clouds", "worse")
    assert approve(tracker, "clouds", 3).version == 3
    assert rollback(tracker, "clouds", "named", 2)[1].version == 2
    with pytest.raises(NoChampion, match="It has: 3, 2, 1"):
        rollback(tracker, "clouds", "named", 7)


def test_a_rollback_to_what_no_longer_loads_changes_nothing(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.6)
    for card in Path(tracker.store_folder or "").rglob("model_card.json"):
        card.write_text("{")
    with pytest.raises(InvalidModel):
        rollback(tracker, "clouds", "why not")
    assert aliases(tracker)["champion"] == 2
    assert "rolled_back" not in tracker.version_at("clouds", "champion").tags  # type: ignore[union-attr]


def test_a_rollback_from_a_deleted_champion(attempt: Any, tracker: Tracker) -> None:
    attempt(0, 0.5)
    attempt(1, 0.6)
    MlflowClient(tracker.uri).delete_model_version("clouds", "2")
    back, now = rollback(tracker, "clouds", "deleted by mistake")
    assert back is None
    assert now.version == 1
    assert aliases(tracker)["champion"] == 1


def test_nothing_becomes_champion_that_fails_the_gate(attempt: Any, tracker: Tracker) -> None:
    with pytest.raises(NoChampion, match="Baseline IoU"):
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
