"""What follows a champion by declaration: its evaluation is asked for once when it is another, and by nothing else."""

import dagster as dg
import pytest

from cloud_assets.definitions import defs
from cloud_assets.orchestration.champion_assets import effective_gate, when_dependencies_change
from cloud_assets.reports.comparison import Gate


def test_a_new_data_version_asks_once() -> None:
    @dg.asset
    def champion() -> None: ...

    @dg.asset(deps=[champion], automation_condition=when_dependencies_change())
    def evaluation() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None

        def asked() -> int:
            nonlocal cursor
            found = dg.evaluate_automation_conditions([champion, evaluation], instance=instance, cursor=cursor)
            cursor = found.cursor
            return found.total_requested

        def materialise(version: str) -> None:
            tags = {"dagster/data_version": version}
            instance.report_runless_asset_event(dg.AssetMaterialization("champion", tags=tags))

        assert asked() == 0
        materialise("one")
        assert asked() == 1
        assert asked() == 0
        materialise("one")
        assert asked() == 0
        materialise("two")
        assert asked() == 1
        assert asked() == 0


def test_only_what_follows_a_champion_is_declared_so() -> None:
    declared = {
        key.path[-1]
        for key, spec in ((spec.key, spec) for spec in defs.resolve_all_asset_specs())
        if spec.automation_condition is not None
    }
    assert declared == {"champion_evaluation", "exported_model"}


def test_the_environment_can_ask_for_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(metric="iou", margin=0.1)
    monkeypatch.delenv("CLOUD_ASSETS_APPROVAL", raising=False)
    assert effective_gate(gate) == gate
    monkeypatch.setenv("CLOUD_ASSETS_APPROVAL", "manual")
    assert effective_gate(gate) == Gate(metric="iou", margin=0.1, approval="manual")
