import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from cloud_assets.reports.evaluate import with_changed_settings
from cloud_assets.reports.formatting import format_number, readable
from cloud_assets.reports.page import SHOWN_ROWS, SYNTHETIC_BANNER, render
from cloud_assets_tests.reports.test_evaluation import make_evaluation


class References(HTMLParser):
    """Collects everything that a browser would load or run, and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_from_anywhere() -> None:
    page = render(make_evaluation().page())
    references = References(page)
    assert len(references.found) == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in references.found)
    assert references.tags.isdisjoint({"script", "link", "iframe", "object"})
    assert not re.search(r"url\(|@import", page)


def test_everything_is_escaped() -> None:
    evil = '<script>alert("x")</script>'
    evaluation = replace(
        make_evaluation(),
        variant=evil,
        notes=(evil,),
        tables={evil: pd.DataFrame({evil: [evil]})},
        figures={evil: b"\x89PNG"},
        captions={evil: evil},
        sections={evil: {evil: evil}},
    )
    references = References(render(evaluation.page()))
    assert "script" not in references.tags
    assert references.text.count("<script>alert(") >= 7


def test_simulated_data_are_announced() -> None:
    assert SYNTHETIC_BANNER not in render(make_evaluation().page())
    assert SYNTHETIC_BANNER in render(replace(make_evaluation(), is_synthetic=True).page())


def test_the_baseline_stands_beside_the_headline() -> None:
    tile = make_evaluation().page().tiles[0]
    assert (tile.label, tile.value, tile.remark) == ("IoU", "0.7000", "trivial baseline 0.5000")


def test_all_metrics_are_sorted_into_splits() -> None:
    table = make_evaluation().page().tables[-1]
    assert list(table.columns) == ["metric", "test", "validation", "trivial baseline"]
    assert [list(row) for row in table.rows] == [["iou", "0.7000", "0.8000", "0.5000"]]


def test_long_tables_are_cut_and_say_so() -> None:
    tables = {"per_patch": pd.DataFrame({"iou": [0.5] * (SHOWN_ROWS + 3)})}
    view = replace(make_evaluation(), tables=tables).page().tables[0]
    assert len(view.rows) == SHOWN_ROWS
    assert view.more == "… and 3 more rows in tables/per_patch.parquet"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.1235"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (1234567, "1\u202f234\u202f567"),
        (float("nan"), "–"),
        ("x", "x"),
    ],
)
def test_numbers_are_written_for_readers(value: object, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("name", "heading"),
    [("per_scene", "Per scene"), ("iou", "IoU"), ("validation_f1", "Validation F1"), ("tp", "TP")],
)
def test_names_become_headings(name: str, heading: str) -> None:
    assert readable(name) == heading


def test_settings_that_differ_from_the_declared_ones_come_first_and_long_sections_are_folded() -> None:
    declared = {"network": {"width": 32}, "seed": 0, "loss": {"focal": 0.25}, "patience": None}
    recipe = {"network": {"width": 16}, "seed": 0, "loss": {"focal": 0.25}, "patience": 3}
    recipe_section = {f"optimisation: setting {number}": str(number) for number in range(60)}
    plain = make_evaluation(sections={"Recipe": recipe_section})
    evaluation = with_changed_settings(plain, recipe, declared)
    assert list(evaluation.sections) == ["Changed settings", "Recipe"]
    assert evaluation.sections["Changed settings"] == {
        "network: width": "16 (declared: 32)",
        "patience": "3 (declared: unset)",
    }
    page = render(evaluation.page())
    assert "<summary>Recipe (60 settings)</summary>" in page
    assert with_changed_settings(plain, recipe, recipe).sections["Changed settings"] == {
        "all settings": "as the task declares"
    }
