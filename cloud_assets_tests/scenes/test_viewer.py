"""The viewer's server: files in ranges, nothing but the folder's, to this machine only; tiles and values."""

import http.client
import io
import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
from PIL import Image

from cloud_assets.errors import AlreadyRunning, InvalidScene
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets.scenes.viewer import serve
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, write_geotiff
from cloud_assets_tests.scenes.shown import shown

HEIGHT, WIDTH = 300, 420


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene without a georeference, a corner of it nodata."""
    dn = landsat_dn(cloudy_reflectance(HEIGHT, WIDTH))
    dn[:, :20, :30] = 0
    return write_geotiff(tmp_path_factory.mktemp("in") / "flight.tif", dn, crs=None), dn


@pytest.fixture(scope="module")
def products(scene, tmp_path_factory):
    from cloud_assets.lifecycle.model_references import load_model

    out = tmp_path_factory.mktemp("out")
    (out / "secret.txt").write_text("not for the browser")
    made = predict_scene(load_model("simulation", device="cpu"), scene[0], out, instrument="landsat8_l1").directory
    (made / "way_out.txt").symlink_to(out / "secret.txt")
    return made


@pytest.fixture(scope="module")
def address(products):
    with shown(products) as address:
        yield address


def get(address: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def tile(address: str, path: str) -> np.ndarray:
    status, content = get(f"{address}/tiles/{path}")
    assert status == 200
    return np.asarray(Image.open(io.BytesIO(content)))


def test_files_are_answered_in_ranges(address, products):
    status, content = get(f"{address}/files/mask.tif", Range="bytes=100-199")
    assert (status, content) == (206, (products / "mask.tif").read_bytes()[100:200])
    with rasterio.open(f"/vsicurl/{address}/files/mask.tif") as raster:
        assert raster.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/..%2fsecret.txt",
        "/files//etc/hostname",
        "/files/way_out.txt",
        "/secret.txt",
        "/../viewer.py",
        "/%2e%2e/viewer.py",
    ],
)
def test_nothing_outside_of_the_folder_is_served(address, path):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("GET", path)  # as it is: urllib would tidy it up
    assert connection.getresponse().status == 404
    connection.close()


def test_only_this_machine_is_answered(address):
    connection = http.client.HTTPConnection("127.0.0.2", urlsplit(address).port, timeout=5)
    with pytest.raises(OSError, match="refused"):
        connection.connect()
    assert get(f"{address}/layers", Host="elsewhere.example")[0] == 400


def test_tiles_are_the_pixels_of_the_files(address, products):
    with rasterio.open(products / "mask.tif") as raster:
        codes, table = raster.read(1), raster.colormap(1)
    right = tile(address, "mask/0/1/1")
    rows, columns = HEIGHT - 256, WIDTH - 256
    expected = np.array([table[code] for code in codes[256:, 256:].ravel()]).reshape(rows, columns, 4)
    np.testing.assert_array_equal(right[:rows, :columns], expected)
    assert not right[rows:].any()
    assert not right[:, columns:].any()
    whole = tile(address, "mask/1/0/0")
    assert whole[: HEIGHT // 2, : WIDTH // 2, 3].mean() > 250
    assert not whole[:9, :14].any()  # nodata


def test_the_scene_is_shown_in_its_own_pixels(address, scene):
    dn = scene[1]
    shades = tile(address, "scene/0/0/0")
    assert (shades[:20, :30, 3] == 0).all()
    assert (shades[20:, 30:, 3] == 255).all()
    seen, physical = shades[20:, 30:, 0].astype(float), (dn[0, 20:256, 30:256] * 2e-5 - 0.1).clip(0, 0.45)
    np.testing.assert_allclose(seen, 255 * (physical / 0.45) ** 0.75, atol=1.01)


def test_values_are_those_of_the_pixel(address, products, scene):
    row, column = 211, 307
    found = json.loads(get(f"{address}/values/{row}/{column}")[1])
    for name in ("mask", "probability", "validity"):
        with rasterio.open(products / f"{name}.tif") as raster:
            assert found[name][0][1] == raster.read(1)[row, column]
    with rasterio.open(products / "coverage.tif") as raster:
        assert [value for _, value in found["coverage"]] == raster.read()[:, 0, 1].tolist()
    red = scene[1][0, row, column] * 2e-5 - 0.1
    assert found["scene"][0] == ["red", pytest.approx(red, abs=1e-6)]
    nothing = json.loads(get(f"{address}/values/3/3")[1])
    assert nothing["mask"] == [["cloud class", None]]
    assert nothing["scene"][0] == ["red", None]


@pytest.mark.parametrize("path", [f"values/{HEIGHT}/0", "tiles/mask/0/2/0", "tiles/nothing/0/0/0"])
def test_what_is_not_there_is_not_found(address, path):
    assert get(f"{address}/{path}")[0] == 404


def test_a_report_is_shown_too(tmp_path):
    (tmp_path / "report.html").write_text("a report")
    with shown(tmp_path) as address:
        assert get(address) == (200, b"a report")
        assert get(f"{address}/layers")[0] == 404


def test_errors_say_what_to_do(products, address):
    with pytest.raises(InvalidScene, match=rf"inside of it: {products.name}\)"):
        serve(products.parent, 0, print, opens=False)
    champion = products.parent / "champion"  # has an item for catalogues, and nothing to show
    champion.mkdir()
    (champion / "stac_item.json").write_text((products / "stac_item.json").read_text())
    with pytest.raises(InvalidScene, match="holds neither products nor a report"):
        serve(champion, 0, print, opens=False)
    with pytest.raises(AlreadyRunning, match="--port 0"):
        serve(products, urlsplit(address).port or 0, print, opens=False)
