"""Products of scenes as partitions: many scenes in one run, failures, checks, what is missing."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import rasterio

from cloud_assets.definitions import defs
from cloud_assets.errors import InvalidScene
from cloud_assets.orchestration.jobs import SCENE_JOB
from cloud_assets.orchestration.resources import Folders
from cloud_assets.orchestration.scene_assets import SCENE_PRODUCTS
from cloud_assets.scenes import batch
from cloud_assets.scenes.planning import SceneModels
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.tracking import Tracker
from cloud_assets_tests.imagery.test_scene_reader import corrupt
from cloud_assets_tests.orchestration.scene_place import make_champions, write_scene
from cloud_assets_tests.scenes.fakes import make_bundle

CONFIG: dict[str, Any] = {
    "ops": {"scenes__scene_products": {"config": {"window": 128, "back_end": "torch", "device": "cpu"}}}
}
CHECKS = ("cloud_cover_plausible", "georeference_of_the_scene", "no_unexpected_nodata")
Execute = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with one champion."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    make_champions(Tracker(uri), folder, make_bundle(variant="unet"))
    return uri


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def execute(
    instance: dg.DagsterInstance, inbox: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> Execute:
    """Runs the job over some scenes of the inbox; over all of them if none is named."""
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLOUD_ASSETS_INBOX", str(inbox))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)

    def run(*keys: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        tags = {"dagster/partition": keys[0]} if len(keys) == 1 else {}
        if len(keys) > 1:
            instance.add_dynamic_partitions("scenes", list(keys))
            first, last = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
            tags = {first: keys[0], last: keys[-1]}
        return defs.resolve_job_def(SCENE_JOB).execute_in_process(
            run_config=CONFIG, instance=instance, tags=tags, raise_on_error=raise_on_error
        )

    return run


def made(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
    """Partition -> metadata of its materialisation."""
    events = result.asset_materializations_for_node("scenes__scene_products")
    return {str(event.partition): event.metadata for event in events}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


def test_one_corrupt_scene_does_not_stop_the_others_of_its_run(
    execute: Execute, inbox: Path, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    class Counted(SceneModels):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            loads.append(1)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(batch, "SceneModels", Counted)
    scenes = [write_scene(inbox, number) for number in (1, 2, 3)]
    keys = [scene.name for scene in scenes]
    corrupt(scenes[1], 70, 100)
    result = execute(*keys, raise_on_error=False)
    assert not result.success
    assert set(made(result)) == {keys[0], keys[2]}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = str(failure.step_failure_data.error.cause.message)
    assert InvalidScene.__name__ in str(failure.step_failure_data.error.cause.cls_name)
    assert "1 of 3 scenes failed" in said
    assert keys[1] in said
    assert "rows" in said, "the window is named"
    assert loads == [1], "one load of the models"
    assert set(checks(result)) == set(CHECKS)
    assert {folder.name for folder in (tmp_path / "home" / "scenes").iterdir() if folder.is_dir()} == {
        scenes[0].stem,
        scenes[2].stem,
    }


def test_what_an_operator_sees(execute: Execute, inbox: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    key = write_scene(inbox, 1).name
    metadata = made(execute(key))[key]
    assert instance.get_dynamic_partitions("scenes") == [key], "the command line names what nobody has added yet"
    products = SceneProducts.open(tmp_path / "home" / "scenes" / Path(key).stem)
    assert metadata["how"].value == "made"
    assert metadata["cloud_percentage"].value == pytest.approx(products.statistics["cloud_percentage"], abs=1e-3)
    assert metadata["quicklook"].value.startswith("![")
    assert "data:image/png;base64," in metadata["mask"].value
    assert metadata["page"].value == str(products.paths["page"])
    champions = metadata["champions"].value
    assert "models:/landsat_segmentation/1" in champions
    assert "No champion of cloud_anomaly yet: scenes go without." in champions
    assert "no_unexpected_nodata" in metadata["checks"].value


def test_finished_scenes_are_told_as_unchanged_until_their_model_changes(
    execute: Execute, inbox: Path, store: str, tmp_path: Path
) -> None:
    keys = [write_scene(inbox, number).name for number in (1, 2)]
    first = {key: metadata["how"].value for key, metadata in made(execute()).items()}
    assert first == dict.fromkeys(keys, "made"), "without a partition: all that lie in the inbox"
    again = made(execute(*keys))
    assert all(metadata["how"].value.startswith("unchanged") for metadata in again.values())
    tracker = Tracker(store)
    make_champions(tracker, tmp_path / "other", make_bundle(variant="wider", task="landsat_segmentation"))
    try:
        assert made(execute(keys[0]))[keys[0]]["how"].value == "made"
    finally:
        tracker.set_alias("landsat_segmentation", "champion", 1)


def test_checks_fail_on_products_that_were_tampered_with(execute: Execute, inbox: Path, tmp_path: Path) -> None:
    key = write_scene(inbox, 1).name
    execute(key)
    folder = tmp_path / "home" / "scenes" / Path(key).stem
    with rasterio.open(folder / "probability.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        raster.crs = "EPSG:32634"
    with rasterio.open(folder / "mask.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        pixels = raster.read()
        pixels[:, 60:, 60:] = 255
        raster.write(pixels)
    result = execute(key)
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert [found[name].passed for name in CHECKS] == [False, False, False]
    assert found["cloud_cover_plausible"].severity is dg.AssetCheckSeverity.WARN
    assert found["georeference_of_the_scene"].severity is dg.AssetCheckSeverity.ERROR
    assert key in (found["no_unexpected_nodata"].description or "")


def test_without_any_champion_the_model_of_the_package_makes_the_mask(
    execute: Execute, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty/mlflow.db")
    (made,) = execute(write_scene(inbox, 1).name).asset_materializations_for_node("scenes__scene_products")
    assert "comes with the package" in str(made.metadata["champions"].value)


def test_a_champion_of_the_demo_makes_no_products(
    execute: Execute, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path}/demo/mlflow.db"
    make_champions(Tracker(store), tmp_path / "demo", make_bundle().with_card(is_synthetic_training_data=True))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    (made,) = execute(write_scene(inbox, 1).name).asset_materializations_for_node("scenes__scene_products")
    champions = str(made.metadata["champions"].value)
    assert "models:/landsat_segmentation/1 learnt from simulated patches and is left out" in champions
    assert "comes with the package" in champions


def test_an_empty_inbox_and_keys_that_are_none(execute: Execute, inbox: Path, instance: dg.DagsterInstance) -> None:
    inbox.mkdir()
    with pytest.raises(InvalidScene, match="There is no scene in"):
        execute()
    with pytest.raises(InvalidScene, match="leads out of the inbox"):
        execute("../secret.tif")
    with pytest.raises(InvalidScene, match="is gone"):
        execute("a.tif")
    assert instance.get_dynamic_partitions("scenes") == []


def test_products_reach_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_WORK", str(tmp_path))
    folders = Folders(home="memory://bucket/results")
    made_here = folders.scenes / "scene"
    made_here.mkdir(parents=True)
    for name in ("mask.tif", "products.json"):
        (made_here / name).write_text(name)
    folders.publish_scene(made_here)
    target = folders.results / "scenes" / "scene"
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "mask.tif": "mask.tif",
        "products.json": "products.json",
    }
    (target / "mask.tif").write_text("kept")
    folders.publish_scene(made_here)
    assert (target / "mask.tif").read_text() == "kept", "what is there already is not uploaded again"
    (made_here / "products.json").write_text("newer")
    folders.publish_scene(made_here)
    assert (target / "mask.tif").read_text() == "mask.tif"


def test_the_inbox_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLOUD_ASSETS_INBOX", raising=False)
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "home"))
    assert Folders().incoming == tmp_path / "home" / "inbox"
    monkeypatch.setenv("CLOUD_ASSETS_INBOX", "scenes/in")
    assert Folders().incoming == tmp_path / "scenes" / "in"
    assert Folders(inbox="given").incoming == tmp_path / "given"


def test_every_champion_is_upstream() -> None:
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == SCENE_PRODUCTS)
    upstream = {dep.asset_key.to_user_string() for dep in spec.deps}
    tasks = ("cloudsen12_segmentation", "landsat_segmentation", "coverage_classification", "cloud_anomaly")
    assert upstream == {"scenes/raw_scenes", "sar_to_optical/champion", *(f"{task}/champion" for task in tasks)}
