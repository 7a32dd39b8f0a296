"""The command ``export-patches`` where results lie in an object store."""

from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from cloud_assets.command_line import app
from cloud_assets.orchestration.resources import AssetStore, Folders
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.toy_task import SPLIT_SIZES, toy_splits, toy_store

__all__ = ["toy_splits", "toy_store"]


def test_patches_come_from_the_object_store(
    toy_store: PatchStore,
    toy_splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_ASSETS_HOME", f"memory://bucket/{tmp_path.name}")
    monkeypatch.setenv("CLOUD_ASSETS_WORK", str(tmp_path / "work"))
    store = AssetStore(folders=Folders()).create_io_manager()
    for name, value in {"labeled_patches": toy_store, "splits": toy_splits}.items():
        store.handle_output(dg.build_output_context(asset_key=["toy", name]), value)
    result = CliRunner().invoke(app, ["export-patches", "tree", "--task", "toy", "--format", "png"])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "tree").rglob("*.png"))) == sum(SPLIT_SIZES.values())
