"""Figures are looked at by people; what can be checked by a machine is checked here."""

import io
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from cloud_assets.families.segmentation.figures import Example, class_names, outcome_map, patch_panels
from cloud_assets.patches.store_writer import role_of
from cloud_assets.reports.figures import (
    CLASS_COLOURS,
    FALSE_COLOUR,
    OUTCOME_COLOURS,
    TRUE_COLOUR,
    composite,
    confusion_figure,
    learning_curves,
    precision_recall_figure,
    ranking_bars,
    reliability_figure,
    scene_bars,
)
from cloud_assets_tests.families.conftest import BANDS


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def share_of(picture: npt.NDArray[np.uint8], colour: str) -> float:
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return float((abs(picture - wanted) <= 1).all(axis=-1).mean())


def margins_are_white(picture: npt.NDArray[np.uint8]) -> bool:
    edges = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    return all((edge > 250).mean() > 0.98 for edge in edges)


def example(codes: tuple[int, ...]) -> Example:
    rng = np.random.default_rng(0)
    truth, mask = rng.choice(codes, (2, 32, 32)).astype(np.uint8)
    grey = np.full((32, 32, 3), 0.3, np.float32)
    return Example("a scene: 3 % wrong", {"true colour": grey}, truth, mask, rng.random((32, 32)).astype(np.float32))


@pytest.mark.parametrize("codes", [(0, 1), (0, 1, 2, 3, 255)])
def test_panels_show_every_class_and_outcome(codes: tuple[int, ...]) -> None:
    names = class_names(len(codes) > 2)
    picture = pixels(patch_panels([example(codes)] * 2, names))
    assert margins_are_white(picture)
    for name in names.values():
        assert share_of(picture, CLASS_COLOURS[name]) > 0.005, name
    for name in ("false cloud", "missed cloud"):
        assert share_of(picture, OUTCOME_COLOURS[name]) > 0.005, name


def test_the_error_map_is_right_in_every_case() -> None:
    truth = np.array([[1, 2, 0, 3, 1, 0, 255, 1]], np.uint8)
    mask = np.array([[2, 1, 0, 0, 3, 1, 1, 255]], np.uint8)
    wanted = [
        "cloud, found", "cloud, found", "clear, found", "clear, found", "missed cloud", "false cloud", "not scored",
        "not scored",
    ]  # fmt: skip
    painted = outcome_map(truth, mask)
    np.testing.assert_allclose(painted[0], [to_rgb(OUTCOME_COLOURS[name]) for name in wanted], atol=1e-6)


def test_classes_differ_for_colour_blind_readers() -> None:
    """Perceived lightness of classes side by side differs, whatever is seen of their hue."""

    def lightness(colour: str) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
        return float(116 * (np.dot([0.2126, 0.7152, 0.0722], linear)) ** (1 / 3) - 16)

    kinds = sorted(lightness(CLASS_COLOURS[name]) for name in ("clear", "thick cloud", "thin cloud", "cloud shadow"))
    assert min(np.diff(kinds)) > 14
    assert abs(lightness(OUTCOME_COLOURS["false cloud"]) - lightness(OUTCOME_COLOURS["missed cloud"])) > 20


def test_a_composite_keeps_grey_grey_and_marks_nodata() -> None:
    role = role_of("landsat8_l1", BANDS, np.uint16, (4, 8, 8))
    dn = np.tile(np.linspace(8_000, 30_000, 64).reshape(8, 8), (4, 1, 1)).astype(np.uint16)
    dn[:, 0, 0] = 0
    picture = composite(dn, role, TRUE_COLOUR)
    assert picture is not None
    assert np.ptp(picture, axis=-1).max() == 0
    assert picture[0, 0].tolist() == [0.5] * 3
    assert picture[0, 1, 0] < picture[4, 4, 0] < picture[7, 7, 0]
    assert composite(np.zeros_like(dn), role, TRUE_COLOUR) is not None


def test_there_is_no_false_colour_without_near_infrared() -> None:
    role = role_of("landsat8_l1", BANDS[:3], np.uint16, (3, 8, 8))
    assert composite(np.ones((3, 8, 8), np.uint16), role, FALSE_COLOUR) is None
    radar = role_of("sentinel1_grd", ("VV", "VH"), np.float32, (2, 8, 8))
    assert composite(np.zeros((2, 8, 8), np.float32), radar, TRUE_COLOUR) is None


def test_equal_figures_are_equal_files() -> None:
    table = np.array([[50_000, 3], [12_345_678, 900]])
    draw = [confusion_figure(table, ("clear", "cloud"), ("clear", "cloud")) for _ in range(2)]
    assert draw[0] == draw[1]
    assert margins_are_white(pixels(draw[0]))


def test_curves_are_left_out_where_there_is_nothing_to_draw() -> None:
    empty = np.zeros((2, 1000), np.int64)
    assert learning_curves((), 0) is None
    assert learning_curves([{"learning_rate": 0.1}], 0) is None
    assert learning_curves([{"loss": 0.1, "iou": 0.5}], 0) is None, "a point is no curve"
    assert precision_recall_figure(empty, (0, 0, ""), {}) is None
    assert reliability_figure(empty) is None
    assert scene_bars(pd.DataFrame({"group": ["a"], "iou": [math.nan], "cloud_truth_percentage": [0.0]})) is None


def test_curves_leave_their_labels_whole() -> None:
    histogram = np.random.default_rng(0).integers(1, 100, (2, 1000))
    history = [{"train_loss": 1 / epoch, "validation_iou": 1 - 1 / epoch, "seconds": 0.5} for epoch in range(1, 6)]
    scenes = pd.DataFrame({"group": ["a" * 90, "b"], "iou": [0.1, 1.0], "cloud_truth_percentage": [10.0, 100.0]})
    ranking = pd.DataFrame({"name": ["a variant", "rule"], "kind": ["variant", "baseline"], "iou": [0.8, 0.5]})
    for png in (
        learning_curves(history, 3),
        precision_recall_figure(histogram, (0.8, 0.7, "decision at threshold 0.4"), {"brightness threshold": (1, 0.4)}),
        reliability_figure(histogram),
        scene_bars(scenes),
        ranking_bars(ranking, "iou", "higher", 0.6),
    ):
        assert png is not None
        assert margins_are_white(pixels(png))
