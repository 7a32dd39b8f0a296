"""The tutorial notebook: its cells run in order, give what its text says, and are kept with what they printed."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "start" / "tutorial.ipynb"


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_its_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(code_cells()):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
    plt.close("all")
    assert (tmp_path / "tutorial_output" / "products" / "scene" / "index.html").is_file()
    assert np.array_equal(names["mask_of_scene"], names["answer"]["mask"])
    truth, found = names["truth"], names["found"]
    assert (truth & found).sum() / (truth | found).sum() > 0.6
    metrics = names["evaluation"].metrics
    assert metrics["iou"] > metrics["all_cloud_iou"]


def test_it_is_kept_executed_and_names_no_machine() -> None:
    for number, cell in enumerate(code_cells(), start=1):
        assert cell["execution_count"] == number
        assert all(output["output_type"] != "error" for output in cell["outputs"])
        assert all(output.get("name") != "stderr" for output in cell["outputs"])
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert "site-packages" not in text
