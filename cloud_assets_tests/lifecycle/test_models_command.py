"""The registry from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_assets.command_line import app
from cloud_assets.errors import NoChampion
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.tracking import Tracker


@pytest.fixture
def registry(
    tracker: Tracker, tmp_path: Path, tiny_bundle: Callable[..., ModelBundle], monkeypatch: pytest.MonkeyPatch
) -> Tracker:
    """Two versions that were champions one after the other, and a third that waits."""
    for seed, tags in enumerate(
        (
            {"champion_since": "2026-01-01T00:00:00", "decision": "accepted: first"},
            {"champion_since": "2026-02-01T00:00:00", "decision": "accepted: second"},
            {"approval": "waiting", "decision": "waits for approval", "compared_with": "2"},
        )
    ):
        bundle = tiny_bundle(seed=seed)
        (tmp_path / str(seed)).mkdir()
        tracker.register(tracker.publish(tmp_path / str(seed), bundle), bundle, tags)
    tracker.set_alias("clouds", "champion", 2)
    tracker.set_alias("clouds", "challenger", 3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    monkeypatch.setenv("COLUMNS", "160")
    return tracker


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_champion_is_listed_approved_and_rolled_back(registry: Tracker) -> None:
    rows = run("list", "clouds").splitlines()
    assert any("champion" in row and "accepted: second" in row and "2026-02-01" in row for row in rows)
    assert any("challenger" in row and "waits for approval" in row for row in rows)
    assert "version 3 is champion" in run("approve", "clouds")
    assert "version 2 is champion instead of version 3" in run("rollback", "clouds", "--reason", "striped")
    assert "version 1 is champion instead of version 2" in run("rollback", "clouds", "--to", "1")
    assert "striped" in run("list", "clouds")
    with pytest.raises(NoChampion):
        run("approve", "clouds")


def test_a_challenger_is_rejected(registry: Tracker) -> None:
    assert "version 3 is rejected" in run("reject", "clouds", "--reason", "too slow")
    listed = run("list", "clouds").replace("│", " ")
    assert "rejected by hand: too slow" in " ".join(listed.split())  # a narrow terminal breaks the line
    assert registry.version_at("clouds", "champion").version == 2  # type: ignore[union-attr]


def test_without_a_task_all_that_have_models_are_listed(registry: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.reached() as client:
        client.create_registered_model("of another program")
        client.create_model_version("of another program", "file:///somewhere")
    listed = run("list")
    assert "clouds" in listed
    assert "of another program" not in listed
    assert "landsat_segmentation: no registered model" in run("list", "landsat_segmentation")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{registry.uri}.empty")
    assert "No registered model in" in run("list")
