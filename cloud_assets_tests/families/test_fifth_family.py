"""A fifth family is one folder and one line: its task's whole lineage runs without a change anywhere else."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from cloud_assets.errors import InvalidModel
from cloud_assets.families import FAMILIES, MODULES, family_of, load_predictor
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.inference.onnx_export import ExportedModel
from cloud_assets.lifecycle.drift import DriftReport
from cloud_assets.lifecycle.export import exported_predictor
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.lifecycle.suspicious_labels import SuspiciousLabels
from cloud_assets.reports.comparison import Gate
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets_tests.families.fifth_family.family import CoverEvaluator, CoverRecipe
from cloud_assets_tests.orchestration.small_task import definitions, small_task, write_patches

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def fifth_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "cover", "cloud_assets_tests.families.fifth_family.family")


@pytest.mark.usefixtures("fifth_family")
def test_a_fifth_family_has_the_whole_lineage(tmp_path: Path) -> None:
    write_patches(tmp_path, range(10))
    task = small_task(
        variants={"first": CoverRecipe(), "second": CoverRecipe()},
        evaluation=CoverEvaluator(),
        gate=Gate(metric="skill"),
        export=ExportRecipe(int8=False),
    )
    assert "cover" in FAMILIES
    everything = definitions(task, tmp_path).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        assert everything.execute_in_process(instance=instance).success
    results = tmp_path / "home" / "clouds"
    champion = Champion.open(results / "champion")
    assert champion.record.variant in ("first", "second")
    bundle = ModelBundle.open(results / f"{champion.record.variant}_model")
    assert family_of(bundle) is FAMILIES["cover"]
    evaluation = Evaluation.open(results / "champion_evaluation")
    assert evaluation.metrics["skill"] > 0.9
    assert SuspiciousLabels.open(results / "suspicious_labels").looked_at == 10
    assert not DriftReport.open(results / "drift_report").is_blind
    dn = np.random.default_rng(0).integers(6000, 9000, (2, 4, 32, 32)).astype(np.uint16)
    exported = ExportedModel.open(results / "exported_model")
    expected = load_predictor(bundle).predict(dn)["cover"]
    np.testing.assert_allclose(exported_predictor(exported).predict(dn)["cover"], expected, atol=0.02)


def test_models_and_recipes_of_unknown_families_are_told(tiny_bundle: Callable[..., ModelBundle]) -> None:
    for unknown in (tiny_bundle().with_card(family="cover"), CoverRecipe(), CoverEvaluator()):
        with pytest.raises(InvalidModel, match="'cover'; there are segmentation, classification, anomaly, translation"):
            family_of(unknown)
