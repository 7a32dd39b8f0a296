"""A scene's products in a browser: layers, values under the cursor, full resolution, swipe, opacity."""

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cloud_assets.lifecycle.model_references import load_model
from cloud_assets.scenes.prediction import predict_scene
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, write_geotiff
from cloud_assets_tests.scenes.shown import shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
_COLOURS = """() => { const [mask] = document.querySelectorAll('.leaflet-swiped-pane img.leaflet-tile');
  const canvas = new OffscreenCanvas(256, 256).getContext('2d'); canvas.drawImage(mask, 0, 0);
  return Array.from(canvas.getImageData(0, 0, 256, 256).data); }"""


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_products_are_shown_with_their_values(page: "Page", tmp_path, crs) -> None:
    scene = write_geotiff(tmp_path / "scene.tif", landsat_dn(cloudy_reflectance(700, 900)), crs=crs)
    model = load_model("simulation", device="cpu")
    folder = predict_scene(model, scene, tmp_path / "out", instrument="landsat8_l1").directory
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with shown(folder) as address:
        page.goto(address)
        page.get_by_text("thin cloud", exact=True).wait_for()
        page.wait_for_load_state("networkidle")
        drawn = np.array(page.evaluate(_COLOURS)).reshape(256, 256, 4)
        assert len(np.unique(drawn.reshape(-1, 4), axis=0)) > 1  # clear and cloud
        view = page.locator("#map").bounding_box()
        assert view is not None
        middle = view["x"] + view["width"] / 2, view["y"] + view["height"] / 2
        page.mouse.move(*middle)
        page.get_by_text("row 350, column 450").wait_for()
        assert page.get_by_text("EPSG:32633").count() == (crs is not None)
        page.get_by_text(re.compile(r"cloud probability \d+")).wait_for()
        while page.get_by_label("Zoom in").get_attribute("aria-disabled") == "false":
            page.get_by_label("Zoom in").click()
            page.wait_for_timeout(400)
        page.wait_for_load_state("networkidle")
        assert any("/tiles/scene/0/" in url for url in asked)  # pixels as they are
        clip = "() => getComputedStyle(document.querySelector('.leaflet-swiped-pane')).clip"
        before = page.evaluate(clip)
        page.get_by_label("Swipe").fill("100")
        assert page.evaluate(clip) != before
        page.get_by_label("Opacity: Cloud mask").fill("0.2")
        layer = page.locator(".leaflet-swiped-pane .leaflet-layer").first
        assert layer.evaluate("layer => layer.style.opacity") == "0.2"
        page.get_by_role("checkbox", name="Cloud probability").check()
        page.wait_for_load_state("networkidle")
        assert any("/tiles/probability/" in url for url in asked)
        assert all(url.startswith((address, "data:")) for url in asked)  # no other machine is asked
