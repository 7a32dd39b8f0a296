"""What an operator sees: groups, an asset materialised by a click, its figure; registered models and their aliases.

Set ``BROWSER_TEST_SCREENSHOTS`` to a folder to keep pictures of the pages.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cloud_assets.tasks import ALL_TASKS
from cloud_assets_tests.browser.conftest import PATIENCE, TASK

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def keep(page: "Page", name: str) -> None:
    folder = os.environ.get("BROWSER_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_five_groups_are_there(page: "Page", dagster_ui: str) -> None:
    page.goto(f"{dagster_ui}/asset-groups")
    for task in ALL_TASKS:
        page.get_by_text(task.name, exact=True).first.wait_for()
    keep(page, "groups")


def test_a_click_materialises_an_asset_and_shows_its_figure(page: "Page", dagster_ui: str) -> None:
    page.goto(f"{dagster_ui}/assets/{TASK}/comparison?view=overview")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    # The reports lie in the home already, but this instance did not see them being made, and asks.
    with page.expect_response(lambda response: "launch" in (response.request.post_data or "").lower()):
        page.get_by_role("button", name="Confirm").click()
    page.goto(f"{dagster_ui}/runs")
    page.get_by_text("Success", exact=True).first.wait_for()
    page.goto(f"{dagster_ui}/assets/{TASK}/comparison?view=overview")
    page.get_by_text("best_variant", exact=True).first.wait_for()
    page.get_by_text("Show Markdown").first.click()
    figure = page.get_by_alt_text("IoU on the test split").first
    figure.wait_for()
    assert figure.evaluate("image => image.complete && image.naturalWidth > 200")
    keep(page, "figure")


def test_registered_models_and_their_aliases_are_shown(page: "Page", mlflow_ui: str) -> None:
    page.goto(f"{mlflow_ui}/#/models")
    page.get_by_text(TASK, exact=True).first.wait_for(timeout=PATIENCE * 1000)
    page.goto(f"{mlflow_ui}/#/models/{TASK}")
    for alias in ("champion", "challenger"):
        page.get_by_text(re.compile(rf"@\s*{alias}")).first.wait_for()
    keep(page, "models")
