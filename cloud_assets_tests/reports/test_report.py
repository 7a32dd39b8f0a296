import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from cloud_assets.reports.evaluation import with_changed_settings
from cloud_assets.reports.report import SHOWN_ROWS, SYNTHETIC_BANNER, format_number, readable
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
    page = make_evaluation().html()
    references = References(page)
    loaded = [reference for reference in references.found if not reference.startswith("#")]
    assert len(loaded) == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in loaded)
    assert references.tags.isdisjoint({"script", "link", "iframe", "object"})
    assert not re.search(r"url\(|@import", page)


def test_the_contents_lead_to_every_figure_section_and_table() -> None:
    page = make_evaluation().html()
    links = [reference for reference in References(page).found if reference.startswith("#")]
    assert [link for link in links if page.count(f'id="{link[1:]}"') != 1] == []
    assert {"#figure-1", "#figure-2", "#section-1", "#table-1", "#table-3", "#notes", "#commands"} <= set(links)
    assert '<a href="#figure-1">Second</a>' in page


def test_every_figure_can_be_enlarged_without_a_script() -> None:
    page = make_evaluation().html()
    assert page.count('<label class="zoom"><input type="checkbox"') == page.count("<img ") == 2


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
    references = References(evaluation.html())
    assert "script" not in references.tags
    assert references.text.count("<script>alert(") >= 7


def test_simulated_data_are_announced() -> None:
    assert SYNTHETIC_BANNER not in make_evaluation().html()
    assert SYNTHETIC_BANNER in replace(make_evaluation(), is_synthetic=True).html()


def test_the_baseline_stands_beside_the_headline() -> None:
    tile = make_evaluation().page().tiles[0]
    assert (tile.label, tile.value, tile.remark) == ("IoU", "0.7000", "trivial baseline 0.5000")


def test_all_metrics_are_sorted_into_splits() -> None:
    table = make_evaluation().page().tables["all_metrics"]
    assert list(table.columns) == ["metric", "test", "validation", "trivial baseline"]
    assert table.to_numpy().tolist() == [["iou", 0.7, 0.8, 0.5]]
    assert '<td class="number">0.7000</td>' in make_evaluation().html()


def test_rules_stand_beside_the_metric_that_they_are_measured_by() -> None:
    metrics = {"iou": 0.7, "all_cloud_iou": 0.6, "all_clear_iou": 0.0, "auroc": 0.9}
    table = make_evaluation(metrics=metrics).page().tables["all_metrics"]
    assert list(table.columns) == ["metric", "test", "validation", "trivial baseline", "all cloud", "all clear"]
    assert table["metric"].tolist() == ["iou", "auroc"]
    assert table["all cloud"].iloc[0] == 0.6


def test_long_tables_are_cut_and_say_so() -> None:
    tables = {"per_patch": pd.DataFrame({"iou": [0.5] * (SHOWN_ROWS + 3)})}
    page = replace(make_evaluation(), tables=tables).html()
    assert f"<summary>Per patch ({SHOWN_ROWS + 3} rows)</summary>" in page
    assert page.count('<td class="number">0.5000</td>') == SHOWN_ROWS + 1  # and the baseline's IoU
    assert "… and 3 more rows in tables/per_patch.parquet" in page


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
    plain = make_evaluation(sections={"Recipe": recipe_section, "Data": {"patches": "12"}})
    evaluation = with_changed_settings(plain, recipe, declared)
    assert list(evaluation.sections) == ["Changed settings", "Recipe", "Data"]
    assert evaluation.sections["Changed settings"] == {
        "network: width": "16 (declared: 32)",
        "patience": "3 (declared: unset)",
    }
    page = evaluation.html()
    assert "<summary>Recipe (60 settings)</summary>" in page
    assert with_changed_settings(plain, recipe, recipe).sections["Changed settings"] == {
        "all settings": "as the task declares"
    }
