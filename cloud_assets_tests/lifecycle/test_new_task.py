"""From a folder of labelled images to a lineage, by the command line."""

import json

import dagster as dg
import numpy as np
import pytest
import rasterio
import yaml
from typer.testing import CliRunner

from cloud_assets.command_line import app
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.imagery.labelled_scenes import LabelledScenes
from cloud_assets.orchestration.task_component import own_tasks
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, write_geotiff


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "home"))
    for number in range(6):
        reflectance = cloudy_reflectance(64, 64, seed=number)
        corner = (500_000.0 + 10_000 * number, 4_600_000.0)
        write_geotiff(tmp_path / "data" / "images" / f"field_{number}.tif", landsat_dn(reflectance), corner=corner)
        mask = np.where(reflectance.mean(axis=0) > 0.3, 255, 0).astype(np.uint8)
        write_geotiff(tmp_path / "data" / "masks" / f"field_{number}.TIF", mask[None], None, corner=corner, nodata=None)
    return tmp_path / "data"


def run(data, *more):
    return CliRunner().invoke(app, ["new-task", "fields", "--data", str(data), "--instrument", "landsat8_l1", *more])


def test_the_file_says_what_was_found_and_is_a_task_of_the_definitions(data, tmp_path):
    result = run(data, "--steps", "5")
    assert result.exit_code == 0, result.output
    assert "6 images with masks: landsat8_l1, red, green, blue, nir, 64 x 64 pixels" in result.output
    assert "0 = clear, 255 = thick cloud" in result.output
    (task,) = own_tasks()
    assert task.name == "fields"
    assert task.dataset == LabelledScenes(
        path=data, instrument="landsat8_l1", codes={"0": "clear", "255": "thick cloud"}
    )
    assert list(task.variants) == ["unet", "unet_efficientnet_b2"]
    assert all(recipe.optimisation.steps == 5 for recipe in task.variants.values())
    assert run(data).exit_code != 0, "it is not replaced without being asked"
    assert run(data, "--kind", "coverage", "--force").exit_code == 0
    (task,) = own_tasks()
    assert list(task.variants) == ["mobilenet"]
    assert "nothing to learn for --kind classes" in run(data, "--kind", "classes", "--force").output
    classes = run(data, "--kind", "classes", "--code", "255=shadow", "--code", "0=clear", "--force")
    assert classes.exit_code == 0
    assert "nothing to learn" not in classes.output
    (task,) = own_tasks()
    assert {name: recipe.classes for name, recipe in task.variants.items()} == {"unet": "four"}
    assert task.gate.metric == "miou"


def test_results_in_an_object_store(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_ASSETS_HOME", "memory://bucket/home")
    monkeypatch.setenv("CLOUD_ASSETS_TASKS", str(tmp_path / "tasks"))
    assert "CLOUD_ASSETS_WORK" in str(run(data).exception)
    monkeypatch.setenv("CLOUD_ASSETS_WORK", str(tmp_path / "work"))
    assert run(data).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "tasks", "work"}


def test_codes_that_nothing_explains_are_asked_for_at_once(data):
    with rasterio.open(data / "masks" / "field_1.TIF", "r+") as raster:
        codes = raster.read(1)
        codes[:4] = 64
        codes[4:8] = 128
        raster.write(codes, 1)
    with pytest.raises(InvalidData, match=r"nothing explains 128, 64\. Say what each means: --code '128=thick cloud'"):
        raise run(data).exception
    result = run(data, "--code", "0=clear", "--code", "255=cloud", "--code", "64=thin", "--code", "128=shadow")
    assert "128 = cloud shadow" in result.output
    assert "thin cloud counts as cloud, shadow as clear" in result.output


def test_polygons_say_where_their_classes_come_from(data):
    for mask in (data / "masks").iterdir():
        mask.unlink()
    rings = [[[500_100 + x, 4_599_900 - y] for x, y in ((0, 0), (900, 0), (900, 900), (0, 0))]]
    one = {"type": "Feature", "properties": {"Klasse": "Wolke"}, "geometry": {"type": "Polygon", "coordinates": rings}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    everything = {"type": "FeatureCollection", "crs": crs, "features": [one]}
    (data / "masks" / "drawn.geojson").write_text(json.dumps(everything))
    assert "all polygons are taken for cloud; their attributes are Klasse" in run(data).output
    result = run(data, "--attribute", "Klasse", "--code", "Wolke=thin", "--force")
    assert "masks: Wolke = thin cloud; clear 9" in result.output


def test_a_polygon_among_black_and_white_masks_changes_nothing_about_them(data):
    corner = [500_000 + 50_000, 4_600_000]
    rings = [[[corner[0] + x, corner[1] - y] for x, y in ((0, 0), (1920, 0), (1920, 960), (0, 960), (0, 0))]]
    kind = {"kind": "fog"}
    one = {"type": "Feature", "properties": kind, "geometry": {"type": "Polygon", "coordinates": rings}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    (data / "masks" / "field_5.TIF").unlink()
    drawn = {"type": "FeatureCollection", "crs": crs, "features": [one]}
    (data / "masks" / "field_5.geojson").write_text(json.dumps(drawn))
    result = run(data)
    assert "0 = clear, 255 = thick cloud, cloud = thick cloud" in result.output
    with pytest.raises(InvalidData, match="nothing explains fog"):
        raise run(data, "--attribute", "kind", "--force").exception
    with pytest.raises(InvalidData, match=r"nothing explains 0, 255.*--code '0=clear' --code '255=unlabelled'"):
        raise run(data, "--attribute", "kind", "--code", "fog=thin", "--force").exception
    codes = ("--code", "0=clear", "--code", "255=thick")
    assert "fog = thin cloud" in run(data, "--attribute", "kind", "--code", "fog=thin", *codes, "--force").output


def test_the_lineage_of_the_task_materialises_to_its_splits(data):
    from cloud_assets.orchestration.task_definitions import task_definitions

    assert run(data, "--steps", "5").exit_code == 0
    definitions = task_definitions(own_tasks()[0])
    wanted = dg.AssetSelection.assets(*[["fields", name] for name in ("raw_scenes", "labeled_patches", "splits")])
    job = dg.define_asset_job("part", wanted)
    whole = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    assert whole.resolve_job_def("part").execute_in_process().success


def test_what_is_wrong_is_said(data, tmp_path):
    refused = run(data, "--kind", "weather")
    assert refused.exit_code == 2
    assert "'weather' is not one of" in refused.output
    for name in ("two words", "landsat_segmentation"):
        result = CliRunner().invoke(app, ["new-task", name, "--data", str(data), "--instrument", "landsat8_l1"])
        assert isinstance(result.exception, InvalidRecipe)
    assert isinstance(run(data, "--group-pattern", "field").exception, InvalidData)
    assert isinstance(run(data, "--group-pattern", "(").exception, InvalidRecipe)
    (tmp_path / "home" / "tasks").mkdir(parents=True)
    broken = tmp_path / "home" / "tasks" / "broken.yaml"
    broken.write_text(yaml.safe_dump({"attributes": {"name": "broken"}}))
    with pytest.raises(InvalidRecipe, match=r"broken\.yaml describes no task"):
        own_tasks()
