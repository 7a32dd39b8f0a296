"""What every family of models keeps, from the recipe to the scene: whoever changes anything runs these."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import FAMILIES, family_of, load_predictor
from cloud_assets.families.family import Family
from cloud_assets.families.served_model import _load_pyfunc
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.inference.bundle import CARD_FILE, ModelBundle
from cloud_assets.inference.drift_reference import reference_of
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.inference.onnx_export import export
from cloud_assets.inference.predictor import Predictor
from cloud_assets.learning.search_space import StudyRecipe
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.lifecycle.drift import described_answers, with_training_reference
from cloud_assets.lifecycle.export import exported_predictor
from cloud_assets.lifecycle.suspicious_labels import SuspicionRecipe, suspicious_labels
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.statistics import band_positions
from cloud_assets.patches.store import PatchStore
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import observe_scene, predict_scene
from cloud_assets_tests.any_family import evaluate_by
from cloud_assets_tests.families.samples import SAMPLES, FamilySample
from cloud_assets_tests.made_up_family import MADE_UP
from cloud_assets_tests.scenes.fakes import write_geotiff

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@dataclass(frozen=True)
class Trained:
    """A family's model, trained on its sample."""

    name: str
    run: TrainingRun
    bundle: ModelBundle

    @property
    def family(self) -> Family:
        return FAMILIES[self.name]

    @property
    def sample(self) -> FamilySample:
        return SAMPLES[self.name]

    @property
    def store(self) -> PatchStore:
        return self.run.store

    @property
    def splits(self) -> Splits:
        return self.run.splits

    @cached_property
    def predictor(self) -> Predictor:
        return load_predictor(self.bundle, "cpu")

    @property
    def patches(self) -> np.ndarray:
        """Digital numbers of three test patches, as the model reads them."""
        role = self.family.card_section.of(self.bundle.card).patches_role
        channels = band_positions(self.store.roles[role], self.bundle.card.bands)
        return self.store.array(role)[self.splits.indices("test")[:3]][:, channels]

    def scene(self, dn: np.ndarray) -> Path:
        """A patch (C, H, W) as a scene on disk."""
        nodata = None if np.issubdtype(dn.dtype, np.floating) else 0
        return write_geotiff(self.run.workspace / "scene.tif", dn, self.sample.bands, metres=10, nodata=nodata)


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != MADE_UP])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    sample = SAMPLES[request.param]
    store = sample.store(folder / "store")
    run = TrainingRun("task", "tiny", store, sample.split.split(store), folder / "training", progress=False)
    bundle = FAMILIES[request.param].train(sample.recipe, run)
    return Trained(request.param, run, with_training_reference(bundle, run))


def assert_same(found: dict[str, Any], expected: dict[str, Any], **tolerance: float) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **(tolerance or {"rtol": 0}))


def test_recipe_evaluator_and_model_name_their_family(trained: Trained) -> None:
    sample, card = trained.sample, trained.bundle.card
    assert trained.family.name == trained.name
    for what in (sample.recipe, sample.evaluator, card, trained.bundle):
        assert family_of(what) is trained.family
    assert isinstance(sample.recipe, trained.family.recipe)
    assert isinstance(sample.evaluator, trained.family.evaluator)
    assert card.training.recipe == sample.recipe.model_dump(mode="json")
    assert card.training.fingerprint == fingerprint(sample.recipe, trained.store, trained.splits)
    assert card.training.epochs_run == 2


def test_every_epoch_logs_the_default_metric_of_a_study(trained: Trained) -> None:
    assert all(np.isfinite(row[StudyRecipe().metric]) for row in trained.bundle.card.training.history)


def test_splits_of_other_patches_are_refused(trained: Trained, tmp_path: Path) -> None:
    foreign = Splits(trained.splits.table, {**trained.splits.details, "patches_version": "other"})
    run = replace(trained.run, splits=foreign, workspace=tmp_path)
    with pytest.raises(InvalidRecipe, match="the splits were made for other patches"):
        trained.family.train(trained.sample.recipe, run)


def test_a_saved_model_is_the_same_model(trained: Trained, tmp_path: Path) -> None:
    trained.bundle.save(tmp_path / "model")
    opened = ModelBundle.open(tmp_path / "model")
    assert opened.version == trained.bundle.version
    assert_same(load_predictor(opened, "cpu").predict(trained.patches), trained.predictor.predict(trained.patches))
    section = trained.family.card_section.of(opened.card)
    content = json.loads((tmp_path / "model" / CARD_FILE).read_text())["details"]
    assert section.details().items() <= content.items()


def test_an_answer_does_not_depend_on_the_company(trained: Trained) -> None:
    together = trained.predictor.predict(trained.patches)
    for number, dn in enumerate(trained.patches):
        alone = trained.predictor.predict(dn[np.newaxis])
        assert_same(alone, {name: values[number : number + 1] for name, values in together.items()})
    empty = trained.predictor.predict(trained.patches[:0])
    assert {name: values.shape[1:] for name, values in empty.items()} == {
        name: values.shape[1:] for name, values in together.items()
    }


def test_the_served_model_gives_the_same_answers(trained: Trained, tmp_path: Path) -> None:
    trained.bundle.save(tmp_path / "model")
    served = _load_pyfunc(str(tmp_path / "model")).predict(np.moveaxis(trained.patches, 1, -1))
    expected = trained.predictor.predict(trained.patches)
    assert_same(served, {name: expected[name] for name in expected.keys() - trained.family.not_served})


def test_the_exported_network_gives_the_same_answers(trained: Trained) -> None:
    if trained.family.why_not_exported:
        pytest.skip(f"{trained.name} models are not exported: {trained.family.why_not_exported}")
    inputs = trained.predictor.network_input(trained.patches)
    exported = export(trained.bundle, ExportRecipe(int8=False), inputs, inputs)
    found = exported_predictor(exported).predict(trained.patches)
    expected = trained.predictor.predict(trained.patches)
    # Half precision of the processor on one side only.
    measured = [name for name, values in expected.items() if np.issubdtype(values.dtype, np.floating)]
    assert_same({n: found[n] for n in measured}, {n: expected[n] for n in measured}, rtol=0, atol=0.02)


def test_a_scene_of_one_patch_gives_the_same_answer(trained: Trained, tmp_path: Path) -> None:
    sample, dn = trained.sample, trained.patches[0]
    options = SceneOptions(products=(sample.product,), window=32, overlap=0, back_end="torch", device="cpu")
    scene = trained.scene(dn)
    products = predict_scene(trained.bundle, scene, tmp_path, options, instrument=sample.instrument)
    assert sample.product in {product.name for product in trained.family.products}
    expected = trained.predictor.predict(dn[np.newaxis])[sample.answer][0]
    with rasterio.open(products.paths[sample.product]) as raster:
        found = raster.read()
    found = found[: expected.shape[0]] if expected.ndim == 3 else found[0]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=0, atol=sample.scene_tolerance)


def test_evaluations_say_how_good_the_model_and_a_trivial_rule_are(trained: Trained) -> None:
    evaluation = evaluate_by(trained.sample.evaluator, trained.bundle, trained.store, trained.splits)
    assert evaluation.model_version == trained.bundle.version
    headline = [name for name in evaluation.headline if name in evaluation.metrics]
    assert any(f"baseline_{name}" in evaluation.metrics for name in headline)
    assert {"baselines", "splits"} <= set(evaluation.tables)
    assert evaluation.figures


def test_drift_is_measured_alike_on_patches_and_scenes(trained: Trained) -> None:
    reference = reference_of(trained.bundle.card)
    assert reference.images
    assert reference.answers
    row = trained.splits.indices("test")[:1]
    of_patch = described_answers(trained.bundle, trained.store, row, "cpu")[int(row[0])]
    assert set(of_patch) == set(reference.answers)
    scene = open_scene(trained.scene(trained.patches[0]), instrument=trained.sample.instrument)
    (of_window,) = observe_scene(scene, trained.bundle, 1)
    assert set(of_window) == set(reference.images) | set(reference.answers)
    for name, value in of_patch.items():
        assert of_window[name] == pytest.approx(value, rel=1e-3), name


def test_labels_are_doubted(trained: Trained) -> None:
    labelled = trained.family.labelled_rows(trained.store)
    found = suspicious_labels(
        trained.bundle, trained.store, trained.splits, SuspicionRecipe(pictured=1), progress=False
    )
    assert found.looked_at == len(labelled) > 0
    assert (found.table["suspicion"] > 0).all()
    assert set(found.table["store_row"]) <= set(labelled.tolist())
