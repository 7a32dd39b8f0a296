"""Tables and pictures of the benchmarks, from made-up figures."""

import importlib
import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Tiling, Window
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.scenes.fakes import make_bundle

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Imports a benchmark by its name, as running it does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name: str) -> ModuleType:
        return sys.modules.get(name) or importlib.import_module(name)

    return load


def test_models_and_back_ends_are_all_combined_but_where_one_is_named(script):
    chosen = script("frontier").chosen(["a=folder/a", "b=models:/x@champion,onnxruntime"], ["auto", "torch"])
    assert chosen == {
        "a": ("folder/a", "auto"),
        "a, torch": ("folder/a", "torch"),
        "b": ("models:/x@champion", "onnxruntime"),
    }


def test_the_frontier_is_sorted_by_speed_and_drawn(script, tmp_path):
    frontier = script("frontier")
    sets = ("38-cloud", "38-cloud, test split", "oncloudn chip_1", "oncloudn chip_4")
    taken = {"cpu": 4.0, "megapixels": 4.0, "peak": 300.0, "total": 900.0, "first_cpu": 5.0, "ran": ""}
    times = {
        "simulation": {**taken, "seconds": 2.0, "first_seconds": 2.4, "ran": "torch float32 on cpu"},
        "threshold on brightness": {**taken, "seconds": 0.2, "first_seconds": 0.2},
        "s2cloudless": {**taken, "seconds": 16.0, "first_seconds": 16.0},
    }
    quality = {"simulation": dict.fromkeys(sets, 0.8), "threshold on brightness": dict.fromkeys(sets, 0.6)}
    methods = {name: (name, "") for name in times}
    rows = frontier.table(methods, times, quality, busy=False)
    assert [row["method"] for row in rows] == ["threshold on brightness", "simulation", "s2cloudless"]
    assert [row["mean cloud IoU"] for row in rows] == ["0.600", "0.800", "–"]
    assert [row["seconds a megapixel"] for row in rows] == ["0.050", "0.500", "4.000"]
    assert [row["first scene, seconds a megapixel"] for row in rows] == ["0.050", "0.600", "4.000"]
    frontier.draw(rows, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    speed_alone = frontier.table(methods, times, {}, busy=True)
    assert {row["mean cloud IoU"] for row in speed_alone} == {"–"}


def test_a_scene_is_measured_with_what_limits_it(script, tmp_path):
    throughput = script("scene_throughput")
    make_bundle(instrument="sentinel2_l1c").save(tmp_path / "model")
    arguments = Namespace(
        folder=tmp_path, side=300, small_side=260, back_end="torch", window=None, overlap=None, memory=None,
        model=str(tmp_path / "model"), products="mask,probability", seconds=0.01,
    )  # fmt: skip
    names = ("make", "large", "small", "bare", "single", "disk", "plain")
    rows = {name: [throughput.MEASUREMENTS[name](arguments)] for name in names}
    table = throughput.table(rows, cores=2)
    assert {len(row) for row in table} == {5}
    printed = {row[0]: row[1:] for row in table}
    assert float(printed["end to end"][0]) > 0
    assert float(printed["end to end / min(bare model, disk)"][1]) > 0
    assert float(printed["disk"][2]) >= 0
    assert float(printed["disk"][3]) > float(printed["disk"][2])


def test_bands_in_jpeg_2000_are_a_scene_that_the_product_reads(script, tmp_path):
    reading = script("jpeg2000_reading")
    files = reading.write_bands(tmp_path, reading.BANDS, 300, 400)
    source = open_scene(tmp_path / reading.NAME)
    assert (source.instrument, source.grid.height, source.grid.width) == ("sentinel2_l1c", 300, 400)
    with source.open(reading.BANDS) as reader, rasterio.open(files[0]) as red:
        found = reader.read(Window(20, 30, 64, 64))
        np.testing.assert_array_equal(found[0], red.read(1, window=((20, 84), (30, 94))))
    tiling = Tiling.plan(300, 400, 256, 32, border=32, multiple=128)
    reading.one_by_one(files, tiling, 10_000_000)
    reading.as_the_product(tmp_path / reading.NAME, reading.BANDS, tiling)


def test_all_bands_in_jpeg_2000_have_the_sizes_of_the_archives_files(script, tmp_path):
    reading = script("jpeg2000_reading")
    bands = INSTRUMENTS["sentinel2_l1c"].names
    reading.write_bands(tmp_path, bands, 300, 600)
    tiling = Tiling.plan(300, 600, 256, 32, border=32, multiple=128)
    with open_scene(tmp_path / reading.NAME, instrument="sentinel2_l1c").open(bands) as reader:
        assert reader.read(tiling.window((0, 0))).shape == (13, 256, 256)
    sizes = {}
    for path in (tmp_path / reading.NAME).iterdir():
        with rasterio.open(path) as raster:
            sizes.setdefault(raster.shape, set()).add(path.stem[-3:])
    assert {shape: len(names) for shape, names in sizes.items()} == {(300, 600): 4, (150, 300): 6, (50, 100): 3}
    for in_strips in (True, False):
        reading.as_the_product(tmp_path / reading.NAME, bands, tiling, in_strips=in_strips)


@pytest.mark.parametrize("length", [300, 1000, 1001, 2048, 10_980])
def test_the_windows_of_a_peer_cover_a_side(script, length):
    seen = np.zeros(length, int)
    for part in script("peers")._spread(length):
        seen[part] += 1
        assert part.stop - part.start == min(1000, length)
    assert seen.min() >= 1


def test_memory_of_a_piece_of_work_is_its_own(script, tmp_path, monkeypatch):
    """In a process of its own, as the benchmarks run: threads of earlier tests give memory back when they like."""
    measuring = script("measuring")
    (tmp_path / "work.py").write_text(
        "import json, measuring\n"
        "earlier = bytearray(300_000_000)\n"
        "del earlier\n"
        "print(json.dumps(measuring.measured(lambda: bytearray(200_000_000))))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(measuring.__file__).parent))
    taken = json.loads(measuring.apart(str(tmp_path / "work.py")))
    assert 150 < taken["peak"] < 250
    assert taken["seconds"] > 0


def test_the_one_command_hands_on_what_each_part_knows(script):
    run = script("run")
    assert run.further("frontier", ["a=b"], ["torch"], busy=True) == "--busy --models a=b --back-ends torch"
    assert run.further("training", ["a=b"], [], busy=True) == "--busy"
    assert run.further("starting", ["a=b"], [], busy=True) == ""
    assert set(run.PARTS.values()) <= set(script("results").PARTS)


def test_the_page_of_benchmarks_has_a_place_for_every_table(script, tmp_path):
    run, results = script("run"), script("results")
    assert set(run.PARTS.values()) == {block["name"] for block in results.BLOCK.finditer(run.PAGE.read_text())}
    record = results.Record(
        "starting", "python benchmarks/starting.py", columns=["what", "s"], rows=[["import dagster", "1.00"]]
    )
    (tmp_path / "starting.json").write_text(json.dumps(asdict(record)))
    run.fill(run.PAGE, tmp_path / "page.md", tmp_path)
    assert "| import dagster | 1.00 |" in (tmp_path / "page.md").read_text()


def test_data_sets_of_any_size_are_read(script, tmp_path):
    scaling = script("data_scaling")
    scaling.write_patches(tmp_path, 50, 16)
    found = scaling.measure(tmp_path)
    assert set(found) == {"catalogue", "store", "splits"}
    assert all(one["seconds"] > 0 for one in found.values())
    assert len(PatchStore.open(tmp_path / "store")) == 50


def test_cutting_is_put_next_to_reading(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["patch_cutting.py", "--patches", "10", "--rounds", "1"])
    script("patch_cutting").main()
    cells = dict(line.split(" | ", 1) for line in capsys.readouterr().out.splitlines() if " | " in line)
    read, cut = (float(cells[way].split(" | ")[0]) for way in ("reading on all cores", "raw files to store"))
    assert float(cells["store / reading"].split(" | ")[0]) == pytest.approx(cut / read, abs=0.02, rel=0.05)


def test_formats_of_patches_are_compared(script, tmp_path):
    reading = script("patch_reading")
    images = np.random.default_rng(0).integers(1, 9000, (6, 4, 16, 16)).astype(np.uint16)
    masks = np.zeros((6, 16, 16), np.uint8)
    bands, instrument = ("red", "green", "blue", "nir"), "landsat8_l1"
    simulated = store_arrays(tmp_path / "simulated", images, masks, bands=bands, instrument=instrument)
    rates = reading.both_rates(simulated, list(zip(images, masks, strict=True)), tmp_path)
    assert next(iter(rates)).startswith("patch store")
    assert len(rates) == 6
    assert all(rate > 0 for pair in rates.values() for rate in pair)
