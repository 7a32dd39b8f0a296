"""The gallery: pages from the assets of a home, small pictures, and pages of other tasks left alone."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gallery import smaller_png, write_gallery
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.tasks import ALL_TASKS


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def evaluated(home: Path, task: str, variant: str, **changes: object) -> None:
    given = {
        "metrics": {"iou": 0.8, "baseline_iou": 0.3, "accuracy": 0.9},
        "model_version": "m",
        "patches_version": "p",
        "splits_version": "s",
        "is_synthetic": False,
        "figures": {"worst_patches": noise(300, 200)},
        "captions": {"worst_patches": "What went wrong."},
        "headline": ("iou",),
        "notes": ("Few scenes.",),
        "sections": {"Model": {"network": "unet"}, "Recipe": {"seed": "0"}},
    }
    Evaluation(task=task, variant=variant, **{**given, **changes}).save(home / task / f"{variant}_report")  # type: ignore[arg-type]


def test_a_page_has_numbers_figures_and_card(tmp_path: Path) -> None:
    evaluated(tmp_path / "home", "landsat_segmentation", "unet")
    pages = write_gallery([tmp_path / "empty", tmp_path / "home"], tmp_path / "docs", ALL_TASKS)
    assert list(pages) == ["landsat_segmentation"]
    text = pages["landsat_segmentation"].read_text()
    for part in ("| IoU | 0.8000 | 0.3000 |", "Few scenes.", "What went wrong.", "network: unet", "dagster job"):
        assert part in text
    assert "Synthetic" not in text
    assert "(landsat_segmentation/worst_patches.png)" in text
    assert (tmp_path / "docs" / "landsat_segmentation" / "worst_patches.png").is_file()
    assert "[Cloud masks for Landsat 8](landsat_segmentation.md)" in (tmp_path / "docs" / "README.md").read_text()


def test_synthetic_results_are_called_so(tmp_path: Path) -> None:
    evaluated(tmp_path / "home", "landsat_segmentation", "unet", is_synthetic=True)
    (page,) = write_gallery([tmp_path / "home"], tmp_path / "docs", ALL_TASKS).values()
    assert "Synthetic data" in page.read_text()
    assert "simulated data" in (tmp_path / "docs" / "README.md").read_text()


def test_pages_of_other_homes_stay_and_stay_listed(tmp_path: Path) -> None:
    evaluated(tmp_path / "one", "landsat_segmentation", "unet")
    evaluated(tmp_path / "two", "sar_to_optical", "cyclegan_rgb", metrics={"psnr_gain": 1.0})
    write_gallery([tmp_path / "one"], tmp_path / "docs", ALL_TASKS)
    before = (tmp_path / "docs" / "landsat_segmentation.md").read_text()
    write_gallery([tmp_path / "two"], tmp_path / "docs", ALL_TASKS)
    index = (tmp_path / "docs" / "README.md").read_text()
    assert "landsat_segmentation.md" in index
    assert "sar_to_optical.md" in index
    assert (tmp_path / "docs" / "landsat_segmentation.md").read_text() == before


def test_a_home_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--home"):
        write_gallery([tmp_path], tmp_path / "docs", ALL_TASKS)


def test_large_pictures_become_small_ones() -> None:
    small = smaller_png(noise(1600, 500))
    picture = Image.open(io.BytesIO(small))
    assert picture.width <= 1100
    assert len(small) <= 260_000
    assert picture.height == round(500 * picture.width / 1600)
