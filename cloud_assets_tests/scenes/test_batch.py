import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rich.console import Console
from typer.testing import CliRunner

from cloud_assets.command_line import app
from cloud_assets.errors import InvalidRecipe, InvalidScene, StorageFull
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.scenes.batch import SceneBatch
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.predict_command import parsed_products, run_batch
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets_tests.imagery.test_scene_reader import corrupt
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, make_bundle, write_geotiff

SMALL = SceneOptions(window=128, overlap=32)
DN = landsat_dn(cloudy_reflectance(140, 200))
BLOCKS = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


@pytest.fixture
def scenes(tmp_path):
    return [write_geotiff(tmp_path / "in" / f"{name}.tif", DN, **BLOCKS) for name in "abc"]


def make_batch(paths, out, **changes):
    return SceneBatch(paths, [make_bundle()], out, changes.pop("options", SMALL), instrument="landsat8_l1", **changes)


def test_a_scene_that_fails_does_not_stop_the_others(scenes, make_models, tmp_path):
    make_models()
    corrupt(scenes[1], 70, 100)
    outcomes = list(make_batch([*scenes, tmp_path / "none.tif"], tmp_path / "out").run(lambda pixels: None))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, False]
    assert "rows" in str(outcomes[1].error)
    assert "columns" in str(outcomes[1].error)
    assert isinstance(outcomes[3].error, InvalidScene)
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"a", "c"}


def test_a_library_that_fails_in_one_scene_does_not_stop_the_others(scenes, make_models, tmp_path):
    calls = []

    def fails_first(pixels):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of luck")
        return np.zeros((len(pixels), 1, *pixels.shape[2:]), np.float32)

    make_models(logits=fails_first)
    outcomes = list(make_batch(scenes, tmp_path / "out").run(lambda pixels: None))
    assert "RuntimeError: out of luck" in str(outcomes[0].error)
    assert [outcome.error for outcome in outcomes[1:]] == [None, None]


def test_two_scenes_of_one_name_do_not_overwrite_each_other(scenes, make_models, tmp_path):
    make_models()
    twin = write_geotiff(tmp_path / "elsewhere" / "a.tif", DN)
    outcomes = list(make_batch([scenes[0], twin], tmp_path / "out").run(lambda pixels: None))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert SceneProducts.open(tmp_path / "out" / "a").source == str(scenes[0])
    assert SceneProducts.open(tmp_path / "out" / "a_2").source == str(twin)


def test_radar_goes_with_its_scene_and_a_bad_one_fails_that_scene_only(scenes, make_models, tmp_path):
    make_models()
    linear = scenes[0].with_name("a_s1.tif")
    write_geotiff(linear, np.ones((2, 10, 10), np.float32), ("VV", "VH"), nodata=None)
    outcomes = list(make_batch(scenes, tmp_path / "out").run(lambda pixels: None))
    assert isinstance(outcomes[0].error, InvalidRecipe)
    assert [outcome.error for outcome in outcomes[1:]] == [None, None]


def test_radar_partners_in_the_list_are_no_scenes(scenes, make_models, tmp_path):
    make_models()
    partner = scenes[0].with_name("a_s1.tif")
    write_geotiff(partner, np.full((2, 10, 10), -9, np.float32), ("VV", "VH"), nodata=None)
    outcomes = list(make_batch([*scenes, partner], tmp_path / "out").run(lambda pixels: None))
    assert [outcome.path for outcome in outcomes] == scenes
    assert [outcome.error for outcome in outcomes] == [None] * 3


def test_progress_and_exit_code(scenes, make_models, tmp_path):
    make_models()
    batch = make_batch(scenes, tmp_path / "out")
    assert batch.megapixels == pytest.approx(3 * DN[0].size / 1e6)
    with (tmp_path / "log").open("w") as stream:
        assert run_batch(batch, Console(file=stream, width=400)) == 0
        assert run_batch(make_batch([*scenes, tmp_path / "none.tif"], tmp_path / "out"), Console(file=stream)) == 1
    text = (tmp_path / "log").read_text()
    assert text.count(" s, by ") == 3
    assert text.count("up to date") == 3
    assert "none.tif does not exist" in text


def test_products_are_listed_by_name():
    assert parsed_products(None) is None
    assert parsed_products(" probability,mask ") == ("mask", "probability")
    with pytest.raises(InvalidRecipe, match="no such product: masks; there are mask, probability"):
        parsed_products("masks")
    with pytest.raises(InvalidRecipe):
        parsed_products(",")


def test_the_command_makes_products_from_a_model_folder(scenes, tmp_path):
    make_bundle().save(tmp_path / "model")
    arguments = ["predict", *map(str, scenes[:2]), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    arguments += ["--instrument", "landsat8_l1", "--window", "128", "--overlap", "32"]
    arguments += ["--products", "mask", "--products", "probability"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    made = SceneProducts.open(tmp_path / "out" / "a")
    assert set(made.files) == {"mask", "probability", "quicklook", "page", "stac"}
    assert made.back_end.startswith("torch")
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0
    assert again.output.count("up to date") == 2
    failing = CliRunner().invoke(app, [*arguments, "--overwrite", "--bands", "red,green"])
    assert failing.exit_code == 1
    assert "2 names were given" in failing.output


def test_the_command_needs_no_training_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    # Soft white spots over fields: on ground as grey as this file's other scenes the model sees veils.
    spots = (cloudy_reflectance(140, 200) - 0.08).mean(axis=0)
    fields = np.array([0.06, 0.08, 0.05, 0.3])[:, None, None] + np.clip(spots, 0, None)
    scenes = [write_geotiff(tmp_path / "in" / "a.tif", landsat_dn(fields))]
    arguments = ["predict", str(scenes[0]), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--instrument", "landsat8_l1", "--products", "mask"])
    assert result.exit_code == 0, result.output
    assert "by the model that comes with the package" in " ".join(result.output.split())
    made = SceneProducts.open(tmp_path / "out" / "a")
    with rasterio.open(made.paths["mask"]) as raster:
        found = np.isin(raster.read(1), (1, 2))
    with rasterio.open(scenes[0]) as raster:
        bright = raster.read((1, 2, 3)).mean(axis=0)
    assert found[bright > np.quantile(bright, 0.9)].mean() > 0.95
    assert found[bright < np.median(bright)].mean() < 0.2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model", "nowhere"], "neither the folder of a trained model nor"),
        (["--products", "fog"], "no such product"),
        (["--window", "64", "--overlap", "64"], "must be smaller"),
        (["--back-end", "abacus"], "abacus|Input should be"),
    ],
)
def test_the_command_names_wrong_options(scenes, tmp_path, extra, message):
    result = CliRunner().invoke(app, ["predict", str(scenes[0]), "--out", str(tmp_path / "out"), *extra])
    assert result.exit_code != 0
    said = f"{result.output} {result.exception}"
    import re

    assert re.search(message, said), said


_SCRIPT = """
import resource, sys, time
from pathlib import Path
import numpy as np
from cloud_assets.inference import back_ends
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.scenes.fakes import FakeBackEnd, bright_is_cloud, make_bundle

def slow(pixels):
    print("predicting", flush=True)
    time.sleep(float(sys.argv[3]))
    return bright_is_cloud(pixels)

back_ends.choose_back_end = lambda *_, **__: FakeBackEnd(slow)
if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
options = SceneOptions(window=64, overlap=16)
predict_scene(make_bundle(), Path(sys.argv[1]), Path(sys.argv[2]), options, instrument="landsat8_l1")
"""


def run_apart(*arguments: object) -> "subprocess.Popen[str]":
    """Makes products in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_killed_run_leaves_no_product_and_the_next_one_starts_clean(scenes, tmp_path):
    out = tmp_path / "out"
    process = run_apart(scenes[0], out, 30)
    assert process.stdout is not None
    assert "predicting" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not (out / "a").exists()
    left_over = [path for path in out.iterdir() if path.is_dir()]
    assert len(left_over) == 1
    assert left_over[0].name.startswith(".a-")
    finished = run_apart(scenes[0], out, 0)
    _, errors = finished.communicate(timeout=120)
    assert finished.returncode == 0, errors
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"a"}
    with rasterio.open(SceneProducts.open(out / "a").paths["mask"]) as raster:
        assert raster.shape == DN.shape[1:]


def test_a_scene_in_which_two_processes_died_comes_last_and_is_named(scenes, make_models, tmp_path):
    make_models()
    out = tmp_path / "out"
    for _ in range(2):
        process = run_apart(scenes[0], out, 30)
        assert process.stdout is not None
        assert "predicting" in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    outcomes = list(make_batch(scenes, out).run())
    assert [outcome.path for outcome in outcomes] == [scenes[1], scenes[2], scenes[0]]
    assert [outcome.products is None for outcome in outcomes] == [False, False, True]
    with pytest.raises(InvalidScene, match=r"a: 2 processes in a row died.*next run tries it again"):
        raise outcomes[2].error
    again = list(make_batch(scenes, out).run())
    assert [(outcome.path, outcome.error) for outcome in again] == [(scene, None) for scene in scenes]
    assert not list(out.glob(".*.deaths"))


@pytest.mark.parametrize("limit", [40_000, 270_000])
def test_a_full_disk_leaves_no_product_and_says_so(scenes, tmp_path, limit):
    """The limit on a file's size stands in for a full disk: writes fail in the same places."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    process = run_apart(scenes[0], tmp_path / "out", 0, limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert StorageFull.__name__ in errors, errors
    assert "Nothing half-written is left behind" in errors
    assert [path for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


def test_corrected_instrument_bands_or_scaling_make_the_products_again(make_models, tmp_path):
    make_models()
    scene = write_geotiff(tmp_path / "in" / "a.tif", DN, None)
    told = {"bands": ("red", "green", "blue", "nir"), "instrument": "landsat8_l1"}
    changes = [
        {},
        {},
        {"instrument": "landsat8_l2"},
        {},
        {"bands": ("blue", "green", "red", "nir")},
        {"scaling": Scaling(2e-5, 0.0)},
    ]
    options = SMALL.model_copy(update={"accept_other_level": True})
    new = []
    for change in changes:
        batch = SceneBatch([scene], [make_bundle()], tmp_path / "out", options, **{**told, **change})
        (outcome,) = batch.run()
        assert outcome.error is None
        new.append(outcome.products.is_new)
    assert new == [True, False, True, True, True, True]


def test_a_mask_beside_the_file_counts_in_the_products(make_models, tmp_path):
    make_models()
    scene = write_geotiff(tmp_path / "in" / "a.tif", DN, nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(scene, "r+") as raster:
        valid = np.ones(DN.shape[1:], bool)
        valid[:, :50] = False
        raster.write_mask(valid)
    assert scene.with_name("a.tif.msk").exists()
    (outcome,) = make_batch([scene], tmp_path / "out").run()
    with rasterio.open(outcome.products.paths["mask"]) as raster:
        assert (raster.read(1)[:, :50] == 255).all()
        assert not (raster.read(1)[:, 50:] == 255).any()


def test_a_composite_by_the_command_line_uses_masks_that_are_there(make_models, tmp_path, monkeypatch):
    make_models()
    bundle = make_bundle()
    bundle.save(tmp_path / "model")
    scenes = []
    for number, date in enumerate(("20240101", "20240117", "20240202")):
        reflectance = np.full((4, 96, 128), 0.1)
        reflectance[:, :, 40 * number : 40 * number + 30] = 0.8
        scenes.append(str(write_geotiff(tmp_path / "in" / f"s_{date}.tif", landsat_dn(reflectance))))
    arguments = ["composite", *scenes, "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    arguments += ["--instrument", "landsat8_l1", "--buffer", "60", "--kept", "red,nir"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "median of 3 scenes, 100.0 %" in result.output
    with rasterio.open(tmp_path / "out" / "composite" / "composite.tif") as raster:
        assert raster.descriptions == ("B4", "B5")
        np.testing.assert_allclose(raster.read() * raster.scales[0] + raster.offsets[0], 0.1, atol=1e-4)
    wider = CliRunner().invoke(app, ["150" if one == "60" else one for one in arguments])
    dates = [float(re.findall(r"([0-9.]+) clear dates", one.output)[0]) for one in (result, wider)]
    assert dates[1] < dates[0], "with another buffer masks are made again"
    undated = str(write_geotiff(tmp_path / "in" / "undated.tif", DN))
    refused = CliRunner().invoke(app, [*arguments[:1], undated, *arguments[1:-2], "--out", str(tmp_path / "none")])
    assert "no date of acquisition" in str(refused.exception)
    assert not (tmp_path / "none").exists(), "before any mask is made"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "scenes").rglob("mask.tif")}
    again = CliRunner().invoke(app, [*arguments, "--method", "latest", "--products", str(tmp_path / "out" / "scenes")])
    assert again.exit_code == 0, again.output
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "scenes").rglob("mask.tif")}


def test_a_folder_that_holds_the_scene_or_other_files_is_never_replaced(scenes, make_models, tmp_path, monkeypatch):
    make_models()
    for name in ("LC08_X", "a"):  # the scene's own folder, and somebody's notes where its products would go
        (tmp_path / "data" / name).mkdir(parents=True)
    own = write_geotiff(tmp_path / "data" / "LC08_X" / "LC08_X.tif", DN)
    notes = tmp_path / "data" / "a" / "notes.txt"
    notes.write_text("mine")
    monkeypatch.chdir(tmp_path / "data")
    options = SMALL.model_copy(update={"overwrite": True})
    (tmp_path / "out").mkdir()
    (first,) = make_batch([Path("../in/a.tif")], tmp_path / "out").run()
    (again,) = make_batch([scenes[0]], tmp_path / "out").run()
    assert first.products.name == again.products.name == "a", "another spelling, the same scene"
    outcomes = list(make_batch([Path("LC08_X/LC08_X.tif"), scenes[0]], Path(), options=options).run())
    assert all("holds files of yours" in str(outcome.error) for outcome in outcomes)
    assert own.is_file()
    assert notes.read_text() == "mine"


def test_namesakes_keep_their_products_whatever_comes_later(scenes, make_models, tmp_path):
    make_models()
    first, second, earlier = (write_geotiff(tmp_path / number / "s.tif", DN) for number in "120")
    assert [one.products.name for one in make_batch([first, second], tmp_path / "out").run()] == ["s", "s_2"]
    again = list(make_batch([earlier, first, second], tmp_path / "out").run())
    assert [(one.products.name, one.products.is_new) for one in again] == [("s_3", True), ("s", False), ("s_2", False)]
    (alone,) = make_batch([second], tmp_path / "out").run()
    assert (alone.products.name, alone.products.is_new) == ("s_2", False)


def test_more_radar_scenes_than_scenes_are_refused(scenes, make_models, tmp_path):
    make_models()
    with pytest.raises(InvalidRecipe, match="2 radar scenes for 1 scenes"):
        make_batch(scenes[:1], tmp_path / "out", radar=scenes[1:])


def test_radar_that_no_model_reads_is_refused(scenes, make_models, tmp_path):
    make_models()
    radar = write_geotiff(tmp_path / "radar.tif", np.full((2, 10, 10), -9, np.float32), ("VV", "VH"), nodata=None)
    with pytest.raises(InvalidRecipe, match="None of the models reads radar"):
        make_batch(scenes, tmp_path / "out", radar=[radar])


def test_scenes_without_a_place_on_earth_are_a_collection_too(make_models, tmp_path):
    make_models()
    scene = write_geotiff(tmp_path / "a.tif", DN, crs=None)
    with (tmp_path / "log").open("w") as stream:
        assert run_batch(make_batch([scene], tmp_path / "out"), Console(file=stream)) == 0
    assert (tmp_path / "out" / "collection.json").is_file()


@pytest.mark.parametrize(
    ("crs", "corner"),
    [("ESRI:54009", (-18e6, 8.9e6)), ('LOCAL_CS["site",UNIT["metre",1]]', (0, 0))],
    ids=["beyond the projection", "of a site"],
)
def test_grids_that_have_no_footprint_are_masked_all_the_same(make_models, tmp_path, crs, corner):
    make_models()
    place = rasterio.transform.from_origin(*corner, 30, 30)
    scene = write_geotiff(tmp_path / "a.tif", DN, crs=crs, transform=place)
    (outcome,) = make_batch([scene], tmp_path / "out").run()
    assert outcome.error is None
    assert outcome.products.paths["mask"].is_file()


def test_a_link_to_products_stays_a_link(scenes, make_models, tmp_path):
    make_models()
    (tmp_path / "far" / "a").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "far" / "a")
    for options in (SMALL, SMALL.model_copy(update={"overwrite": True})):
        (outcome,) = make_batch(scenes[:1], tmp_path / "out", options=options).run()
        assert outcome.error is None
    assert (tmp_path / "out" / "a").is_symlink()
    assert (tmp_path / "far" / "a" / "mask.tif").is_file()
