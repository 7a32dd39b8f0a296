"""Scenes by STAC items in the dialects of the public catalogues: files, lists, collections, addresses."""

import json
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pystac
import pytest

from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.stac_scene import gdal_path, open_stac, stac_scenes
from cloud_assets.imagery.tiling import Window
from cloud_assets_tests.scenes.fakes import write_geotiff

REFLECTANCE = {"blue": 0.05, "green": 0.08, "red": 0.06, "nir": 0.3}
BANDS = tuple(REFLECTANCE)
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
GEOMETRY = {"type": "Point", "coordinates": [9.0, 45.0]}


def write_assets(folder: Path, scale: float, offset: float, names=BANDS) -> None:
    for name, reflectance in zip(names, REFLECTANCE.values(), strict=True):
        ground = np.full((1, 40, 50), reflectance)
        ground[0, :, 25:] += 0.2
        dn = np.rint((ground - offset) / scale).astype(np.uint16)
        dn[0, :2] = 0
        write_geotiff(folder / f"{name}.tif", dn, None)


def write_item(path: Path, assets: dict, properties: dict, item_id="S2B_32TQM_20240131_0_L2A", **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = {"datetime": "2024-01-31T10:10:10Z", **properties}
    content = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [EO, RASTER],
        "id": item_id,
        "geometry": GEOMETRY,
        "bbox": [9, 45, 9, 45],
        "properties": stated,
        "links": [],
        "assets": assets,
        **more,
    }
    path.write_text(json.dumps(content))
    return path


def earth_search(folder: Path, *, offset=-0.1, applied=False, **properties) -> Path:
    """As Element 84's catalogue describes Sentinel-2: common names as keys, JPEG 2000 twins, an 8-bit picture."""
    assets = {"visual": {"href": "./TCI.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"]}}
    for name in BANDS:
        described = {
            "eo:bands": [{"name": name, "common_name": name}],
            "raster:bands": [
                {"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, "scale": 1e-4, "offset": offset}
            ],
        }
        assets[f"{name}-jp2"] = {
            "href": f"s3://far/away/{name}.jp2",
            "type": "image/jp2",
            "roles": ["data"],
            **described,
        }
        assets[name] = {"href": f"./{name}.tif", "type": pystac.MediaType.COG, "roles": ["data"], **described}
    assets["scl"] = {"href": "./SCL.tif", "type": pystac.MediaType.COG, "roles": ["data"]}
    stated = {"platform": "sentinel-2b", "constellation": "sentinel-2", "earthsearch:boa_offset_applied": applied}
    return write_item(folder / "item.json", assets, {**stated, **properties}, collection="sentinel-2-l2a")


def reflectance(source):
    with source.open(BANDS) as reader:
        dn = reader.read(Window(0, 0, 40, 50))
    assert (dn[:, :2] == source.profile.nodata).all()
    return (dn[:, 10, 10] * source.profile.scale + source.profile.offset).round(4)


EXPECTED = np.array(list(REFLECTANCE.values()))


@pytest.mark.parametrize(("has_offset", "applied"), [(True, False), (False, False), (False, True)])
def test_stated_offsets_are_applied_where_the_numbers_have_them(tmp_path, has_offset, applied):
    write_assets(tmp_path, 1e-4, -0.1 if has_offset else 0.0)
    source = open_stac(earth_search(tmp_path, applied=applied))
    assert (source.instrument, source.name) == ("sentinel2_l2a", "S2B_32TQM_20240131_0_L2A")
    assert list(source.bands) == ["B02", "B03", "B04", "B08"]
    np.testing.assert_allclose(reflectance(source), EXPECTED, atol=1e-4)
    assert any("harmonised" in note for note in source.warnings) == (not has_offset)


def planetary_computer_sentinel2(folder: Path) -> Path:
    """Own names as keys, no scale at all, the baseline among the properties."""
    own = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}
    write_assets(folder, 1e-4, -0.1, tuple(own.values()))
    assets = {
        key: {
            "href": f"./{key}.tif",
            "type": pystac.MediaType.COG,
            "roles": ["data"],
            "eo:bands": [{"name": key, "common_name": name, "description": f"Band - {name}"}],
        }
        for name, key in own.items()
    }
    properties = {"platform": "Sentinel-2B", "s2:processing_baseline": "05.10", "s2:product_type": "S2MSI2A"}
    name = "S2B_MSIL2A_20240131T101010_R022_T32TQM_20240131T121212"
    return write_item(folder / "item.json", assets, properties, name, collection="sentinel-2-l2a")


def landsat_collection2(folder: Path) -> Path:
    """USGS and the Planetary Computer: common names as keys, bands named by the sensor."""
    names = ("blue", "green", "red", "nir08")
    write_assets(folder, 2.75e-5, -0.2, names)
    assets = {
        key: {
            "href": f"./{key}.tif",
            "type": pystac.MediaType.COG,
            "roles": ["data"],
            "eo:bands": [{"name": f"OLI_B{number}", "common_name": key}],
            "raster:bands": [{"scale": 2.75e-5, "offset": -0.2, "nodata": 0, "unit": None}],
        }
        for number, key in enumerate(names, start=2)
    }
    assets["qa_pixel"] = {"href": "./qa.tif", "type": pystac.MediaType.COG, "roles": ["cloud"]}
    assets["rendered_preview"] = {"href": "./p.png", "type": "image/png", "roles": ["overview"]}
    stated = {"platform": "landsat-9", "instruments": ["oli", "tirs"], "landsat:correction": "L2SP"}
    return write_item(
        folder / "item.json", assets, stated, "LC09_L2SP_193028_20230615_02_T1", collection="landsat-c2-l2"
    )


def version_1_1(folder: Path) -> Path:
    """STAC 1.1 as Copernicus writes it: one list of bands, scale beside it, a file for each resolution."""
    write_assets(folder, 1e-4, -0.1)
    assets = {}
    for own, name in {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}.items():
        for metres in (60, 20, 10):
            assets[f"{own}_{metres}m"] = {
                "href": f"./{name}.tif" if metres == 10 else f"./none_{own}.tif",
                "type": "image/tiff",
                "gsd": metres,
                "roles": ["data", "reflectance"],
                "bands": [{"name": own, "eo:common_name": name}],
                "raster:scale": 1e-4,
                "raster:offset": -0.1,
                "nodata": 0,
            }
    properties = {"platform": "sentinel-2a", "processing:level": "L2"}
    return write_item(folder / "item.json", assets, properties, "x", collection="sentinel-2-l2a", stac_version="1.1.0")


@pytest.mark.parametrize("write", [planetary_computer_sentinel2, landsat_collection2, version_1_1])
def test_dialects_of_catalogues(tmp_path, write):
    np.testing.assert_allclose(reflectance(open_stac(write(tmp_path))), EXPECTED, atol=1e-4)


def test_one_file_with_all_bands(tmp_path):
    dn = np.stack([np.full((40, 50), round(value * 1e4) + 1000, np.uint16) for value in REFLECTANCE.values()])
    dn[:, :2] = 0
    write_geotiff(tmp_path / "stack.tif", dn, None)
    bands = [{"name": name, "eo:common_name": name, "raster:scale": 1e-4, "raster:offset": -0.1} for name in BANDS]
    assets = {"data": {"href": "./stack.tif", "type": "image/tiff", "bands": bands, "nodata": 0}}
    item = write_item(tmp_path / "item.json", assets, {"platform": "sentinel-2c"}, "x", collection="sentinel-2-l1c")
    source = open_stac(item)
    assert source.instrument == "sentinel2_l1c"
    np.testing.assert_allclose(reflectance(source), EXPECTED, atol=1e-4)


def test_what_a_user_states_goes_before_the_item(tmp_path):
    write_assets(tmp_path, 1e-4, -0.1)
    source = open_stac(earth_search(tmp_path, platform="unknown"), "sentinel2_l1c", Scaling(1e-4, 0.0))
    assert source.instrument == "sentinel2_l1c"
    np.testing.assert_allclose(reflectance(source), EXPECTED + 0.1, atol=1e-4)


def test_an_item_changes_with_its_files(tmp_path):
    write_assets(tmp_path, 1e-4, -0.1)
    before = open_stac(earth_search(tmp_path)).fingerprint
    assert open_stac(earth_search(tmp_path)).fingerprint == before
    assert open_stac(earth_search(tmp_path, updated="2025-01-01T00:00:00Z")).fingerprint != before


def test_a_list_of_items_and_a_collection_are_their_scenes(tmp_path):
    for place in ("a", "b"):
        write_assets(tmp_path / place, 1e-4, -0.1)
        earth_search(tmp_path / place)
    items = [json.loads((tmp_path / place / "item.json").read_text()) | {"id": place} for place in ("a", "b")]
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = asset["href"].replace("./", f"./{item['id']}/")
    listed = tmp_path / "search.json"
    listed.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    found = stac_scenes(listed)
    assert [str(one) for one in found] == [f"{listed}#a", f"{listed}#b"]
    assert open_stac(found[1]).name == "b"
    np.testing.assert_allclose(reflectance(open_stac(found[0])), EXPECTED, atol=1e-4)
    extent = pystac.Extent(pystac.SpatialExtent([[9, 45, 9, 45]]), pystac.TemporalExtent([[None, None]]))
    collection = pystac.Collection("c", "d", extent).to_dict()
    collection["links"] = [{"rel": "item", "href": f"./{place}/item.json"} for place in ("a", "b")]
    (tmp_path / "collection.json").write_text(json.dumps(collection))
    found = stac_scenes(tmp_path / "collection.json")
    assert [Path(str(one)).parent.name for one in found] == ["a", "b"]


class _Ranges(SimpleHTTPRequestHandler):
    """Byte ranges, which the standard library's server lacks."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = data[int(wanted[1]) : int(wanted[2] or len(data)) + 1] if wanted else data
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = lambda *args: _Ranges(*args, directory=str(tmp_path))  # noqa: E731
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_item_by_its_address_is_read_over_the_network(tmp_path, server):
    write_assets(tmp_path / "far", 1e-4, -0.1)
    earth_search(tmp_path / "far")
    source = open_stac(f"{server}/far/item.json")
    assert source.location == f"{server}/far/item.json"
    assert source.bands["B02"].raster.path == f"/vsicurl/{server}/far/blue.tif"
    np.testing.assert_allclose(reflectance(source), EXPECTED, atol=1e-4)
    with pytest.raises(InvalidScene, match=r"none\.json"):
        open_stac(f"{server}/none.json")


def test_files_beside_an_item_are_preferred_to_its_addresses(tmp_path):
    write_assets(tmp_path, 1e-4, -0.1)
    item = earth_search(tmp_path)
    item.write_text(item.read_text().replace('"./', '"https://nowhere.invalid/data/'))
    np.testing.assert_allclose(reflectance(open_stac(item)), EXPECTED, atol=1e-4)


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("s3://bucket/a/b.tif", "/vsis3/bucket/a/b.tif"),
        ("gs://bucket/b.tif", "/vsigs/bucket/b.tif"),
        ("https://host/b.tif?sig=a%2Fb", "/vsicurl/https://host/b.tif?sig=a%2Fb"),
        ("/data/b.tif", "/data/b.tif"),
        ("file:///data/b.tif", "/data/b.tif"),
    ],
)
def test_addresses_as_gdal_reads_them(href, path):
    assert gdal_path(href) == path


def test_what_is_no_scene_says_why(tmp_path):
    write_assets(tmp_path, 1e-4, -0.1)
    with pytest.raises(InvalidScene, match="night scenes"):
        open_stac(earth_search(tmp_path, **{"view:sun_elevation": -12.5}))
    with pytest.raises(InvalidScene, match="which instrument took"):
        open_stac(write_item(tmp_path / "item.json", {}, {"platform": "skysat"}, "x"))
    with pytest.raises(InvalidScene, match="Found: qa"):
        open_stac(write_item(tmp_path / "item.json", {"qa": {"href": "./qa.tif"}}, {}), "sentinel2_l2a")
    for text in ("[]", "{}", "{", '{"type": "Topology"}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InvalidScene, match=r"bad\.json"):
            stac_scenes(tmp_path / "bad.json")
    item = earth_search(tmp_path)
    (tmp_path / "red.tif").unlink()
    with pytest.raises(InvalidData, match=r"red\.tif"):
        open_stac(item)


def test_a_scaling_that_says_nothing_is_none_and_nodata_may_be_a_word(tmp_path):
    write_assets(tmp_path / "in a folder", 1e-4, 0.0)
    assets = {
        name: {
            "href": f"file://{tmp_path}/in%20a%20folder/{name}.tif",
            "type": pystac.MediaType.COG,
            "eo:bands": [{"name": name, "common_name": name}],
            "raster:bands": [{"nodata": "nan", "data_type": "uint16", "scale": 1.0, "offset": 0.0}],
        }
        for name in BANDS
    }
    source = open_stac(write_item(tmp_path / "item.json", assets, {"constellation": "sentinel-2"}), "sentinel2_l2a")
    np.testing.assert_allclose(reflectance(source), EXPECTED)
    for asset in assets.values():
        asset["raster:bands"][0]["scale"] = 1e-4
    source = open_stac(write_item(tmp_path / "item.json", assets, {"constellation": "sentinel-2"}), "sentinel2_l2a")
    np.testing.assert_allclose(reflectance(source), EXPECTED)


def test_the_catalogues_nodata_counts_beside_a_scaling_that_says_nothing(tmp_path):
    for name, value in REFLECTANCE.items():
        ground = np.full((1, 40, 50), value, np.float32)
        ground[:, :2] = -9999
        write_geotiff(tmp_path / f"{name}.tif", ground, None, nodata=None)
    assets = {
        name: {
            "href": f"./{name}.tif",
            "type": pystac.MediaType.COG,
            "eo:bands": [{"name": name, "common_name": name}],
            "raster:bands": [{"nodata": -9999, "data_type": "float32", "scale": 1.0, "offset": 0.0}],
        }
        for name in BANDS
    }
    source = open_stac(write_item(tmp_path / "item.json", assets, {"constellation": "sentinel-2"}), "sentinel2_l2a")
    np.testing.assert_allclose(reflectance(source), EXPECTED)
