"""Pages of results: every figure between markers is that of the file which the results command wrote."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"<!-- results: (\w+) -->")


@pytest.fixture(scope="module")
def results() -> ModuleType:
    specification = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["results"] = module
    specification.loader.exec_module(module)
    return module


def test_pages_show_what_the_files_hold(results: ModuleType) -> None:
    assert results.fill_pages(check=True) == [], "run: python benchmarks/results.py --pages"


def test_every_block_is_of_a_part_that_there_is(results: ModuleType) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = {name for page in pages for name in _BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert {"real_masks_iou", "operating_points"} <= names
    for name in names - {results.PARTS_BLOCK}:
        assert results.VIEWS.get(name, (name, None))[0] in results.PARTS


def test_files_name_all_that_is_needed_to_make_them_again(results: ModuleType) -> None:
    for path in results.NUMBERS.glob("*.json"):
        record = results.Record(**json.loads(path.read_text(encoding="utf-8")))
        assert record.name == path.stem
        assert record.command.startswith("python benchmarks/")
        assert all((record.machine, record.commit, record.date, record.seconds, record.seed))
        assert set(record.data) == set(results.PARTS[record.name].needs)


def test_a_printed_table_is_told_from_what_stands_beside_it(results: ModuleType) -> None:
    columns, rows, lines = results.parsed("12 patches\nrule | IoU | recall\na, b | 0.5 | 0.25\n\nmean 0.4\n")
    assert columns == ["rule", "IoU", "recall"]
    assert rows == [["a, b", "0.5", "0.25"]]
    assert lines == ["12 patches", "mean 0.4"]
    assert results.parsed("no table\n  indented\n") == ([], [], ["no table", "  indented"])


def test_what_lacks_its_data_or_fails_is_said(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert results.run("real_masks", None, tmp_path, quick=False).startswith("skipped: 38-cloud")
    assert "is not in " + str(tmp_path) in results.run("one_pair", tmp_path, tmp_path, quick=True)
    monkeypatch.setitem(results.PARTS, "patch_reading", results.Part("--no-such-option", "--no-such-option", 1))
    assert results.run("patch_reading", None, tmp_path, quick=True).startswith("failed: ")
    monkeypatch.setitem(results.PARTS, "not_there", results.Part("", "", 1))
    assert results.run("not_there", None, tmp_path, quick=True) == "skipped: there is no benchmarks/not_there.py"


def test_the_table_of_the_readme_is_the_iou_alone(results: ModuleType) -> None:
    sets = ("38-cloud (31)", "38-cloud, test split (5)", "oncloudn chip_1 (1)", "oncloudn chip_4 (1)")
    columns = ["rule", *(f"{name}: IoU, precision, recall" for name in sets), "Sentinel-2, clear (17): share"]
    cells = ["0.8, 0.9, 0.9", "0.7, 0.9, 0.9", "0.5, 1.0, 0.5", "0.6, 1.0, 0.6", "0.0123"]
    record = results.Record("real_masks", "python …", columns=columns, rows=[["simulation, strict", *cells]])
    assert results.best_of_readme(record).splitlines()[-1] == "| `simulation`, strict | 0.800 | 0.550 | 0.700 | 1.2% |"
