"""A task may have variants that its job leaves out; those that exist compete, the others keep nobody waiting."""

from pathlib import Path

import dagster as dg
import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.lifecycle.promotion import Champion
from cloud_assets.orchestration.resources import AssetFolders
from cloud_assets.reports.comparison import Comparison
from cloud_assets_tests.orchestration.small_task import definitions, small_task, write_patches


def test_a_variant_joins_when_it_is_there_and_leaves_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_patches(tmp_path, range(10))
    job = definitions(small_task(), tmp_path).resolve_job_def("clouds")
    everything = definitions(small_task(), tmp_path).resolve_implicit_global_asset_job_def()
    results = tmp_path / "home" / "clouds"
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
        assert not (results / "second_model").exists()
        assert list(Comparison.open(results / "comparison").ranking) == ["first"]
        assert Champion.open(results / "champion").record.variant == "first"

        chosen = [dg.AssetKey(["clouds", f"second_{name}"]) for name in ("model", "report")]
        chosen += [dg.AssetKey(["clouds", name]) for name in ("comparison", "champion")]
        assert everything.execute_in_process(instance=instance, asset_selection=chosen).success
        assert list(Comparison.open(results / "comparison").ranking) == ["second", "first"]
        assert Champion.open(results / "champion").record.variant == "second"

        write_patches(tmp_path, range(10, 14))
        assert job.execute_in_process(instance=instance).success
        assert list(Comparison.open(results / "comparison").ranking) == ["first"]
        assert Champion.open(results / "champion").record.variant == "second"


def test_the_job_leaves_optional_variants_out(tmp_path: Path) -> None:
    keys = {
        key.path[1]
        for key in definitions(small_task(), tmp_path).resolve_job_def("clouds").asset_layer.executable_asset_keys
    }
    assert keys == {"raw_scenes", "labeled_patches", "splits", "first_model", "first_report", "comparison", "champion"}


def test_only_known_variants_are_optional_and_not_all() -> None:
    with pytest.raises(InvalidRecipe, match="third"):
        small_task(optional_variants=("third",))
    with pytest.raises(InvalidRecipe, match="would train none"):
        small_task(optional_variants=("first", "second"))


def test_models_and_evaluations_must_belong_together(tmp_path: Path) -> None:
    from upath import UPath

    write_patches(tmp_path, range(10))
    defs = definitions(small_task(), tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("clouds").execute_in_process(instance=instance).success
        config = {"ops": {"clouds__first_model": {"config": {"quality": 0.7}}}}
        everything = defs.resolve_implicit_global_asset_job_def()
        chosen = [dg.AssetKey(["clouds", "first_model"]), dg.AssetKey(["clouds", "champion"])]
        done = everything.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )
        assert not done.success
        failure = done.failure_data_for_node("clouds__champion")
        assert failure is not None
        assert "different models" in str(failure.error)
    found = AssetFolders(UPath(tmp_path / "home"), tmp_path / "cache")
    assert found.find(("clouds", "absent"), Champion) is None
