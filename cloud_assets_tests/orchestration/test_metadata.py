"""What materialisations show in the UI."""

import base64
import io
import re
import subprocess
import sys

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cloud_assets.orchestration.metadata import FIGURE_BYTES, comparison_metadata, figure
from cloud_assets.reports.comparison import Gate, compare
from cloud_assets_tests.reports.test_evaluation import make_evaluation


def png(height: int, width: int, noise: bool) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels if noise else pixels // 255).save(stream, "PNG")
    return stream.getvalue()


def picture(value: dg.MarkdownMetadataValue) -> tuple[bytes, str]:
    match = re.fullmatch(r"!\[caption\]\(data:image/(\w+);base64,(.+)\)", value.md_str or "")
    assert match is not None
    return base64.b64decode(match[2]), match[1]


def test_a_small_figure_is_shown_as_it_is() -> None:
    image = png(40, 60, noise=True)
    assert picture(figure(image, "caption")) == (image, "png")


@pytest.mark.parametrize("size", [(600, 900), (3000, 1200)])
def test_a_large_figure_is_made_smaller_in_its_proportions(size: tuple[int, int]) -> None:
    data, kind = picture(figure(png(*size, noise=True), "caption"))
    assert len(data) <= FIGURE_BYTES
    assert kind == "jpeg"
    shown = Image.open(io.BytesIO(data))
    assert shown.height / shown.width == pytest.approx(size[0] / size[1], rel=0.02)


def test_the_cost_of_a_block_is_its_own() -> None:
    # In a process of its own: one that has trained keeps freed memory, see keep_freed_memory.
    code = """
import numpy as np
from cloud_assets.orchestration.metadata import measured
with measured() as first:
    block = np.ones(40_000_000, np.float64)
del block
with measured() as second:
    pass
print(first["peak_memory_mb"] - second["peak_memory_mb"])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(answer.stdout.split()[-1]) > 200


def test_a_ranking_with_gaps_is_a_table() -> None:
    rules = pd.DataFrame({"baseline": ["bright"], "iou": [0.1]})
    evaluation = make_evaluation(metrics={"iou": 0.5, "f": 1.0}, tables={"baselines": rules})
    comparison = compare({"unet": evaluation}, Gate(metric="iou"))
    metadata = comparison_metadata(comparison, "report.html")
    records = [record.data for record in metadata["ranking"].records]
    assert records[1] == {"name": "bright", "kind": "baseline", "iou": 0.1, "f": ""}
    assert metadata["iou"] == 0.5
