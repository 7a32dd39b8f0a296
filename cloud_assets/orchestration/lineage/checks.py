"""Asset checks of a lineage, all cheap enough to run in the step that makes the asset.

A blocking check that fails stops the run there, so that nothing downstream is made from data that are wrong.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from cloud_assets.bands import CLASS_NAMES, UNLABELLED
from cloud_assets.datasets.catalog import SceneCatalog
from cloud_assets.families.classification.coverage_labels import percentage_mismatches
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.statistics import class_shares, implausible_values
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Comparison
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Gate

if TYPE_CHECKING:
    from cloud_assets.lifecycle.registered_champions import ChampionReport

MOST_BLANK = 0.6
"""Share of nearly blank patches above which something is wrong; a third is usual where scenes lie slanted in a grid."""
COVERAGE_TOLERANCE = 1.0
"""Percentage points by which a mask's cloud cover may differ from what its data set states."""
_LOOKED_AT = 500
SMALLEST_CLASS = 0.02
"""Share of a class below which it can hardly be learnt, nor its scores be believed."""
FLOORS: Mapping[str, float] = {"iou": 0.3, "accuracy": 0.4, "auroc": 0.6, "psnr_gain": 0.0}
"""Values below which nobody would use a model, whatever baselines reach; a gate's own minimum wins."""


def scene_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of raw scenes."""
    return [
        dg.AssetCheckSpec("complete", asset=asset, description="Everything that the data set lists can be used."),
        dg.AssetCheckSpec("no_twins", asset=asset, description="No pixels are in the data set under two names."),
    ]


def check_scenes(catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results of :func:`scene_checks`."""
    left_out = [str(item) for item in catalog.skipped]
    seen: dict[tuple[str, str], str] = {}
    twins = []
    for scene in catalog:
        # Windows of one file share its hash; they are no twins.
        windows = repr(sorted((name, band.index, band.window) for name, band in scene.bands.items()))
        first = seen.setdefault((scene.content_hash, windows), scene.scene_id)
        if first != scene.scene_id and scene.content_hash:
            twins.append(f"{scene.scene_id} = {first}")
    found = f"{len(catalog)} scenes, "
    return [
        _result("complete", not left_out, found + _listed(left_out, "left out"), severe=False),
        _result("no_twins", not twins, found + _listed(twins, "twins"), severe=False),
    ]


def patch_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of labelled patches."""
    return [
        dg.AssetCheckSpec(
            "class_codes", asset=asset, blocking=True, description="Masks hold cloud codes and 255 only."
        ),
        dg.AssetCheckSpec("blank_share", asset=asset, description=f"At most {MOST_BLANK:.0%} of patches were blank."),
        dg.AssetCheckSpec("duplicates", asset=asset, description="No two patches hold the same pixels."),
        dg.AssetCheckSpec(
            "stated_coverage",
            asset=asset,
            description=f"Masks are within {COVERAGE_TOLERANCE:g} points of the cover that the data set states itself.",
        ),
    ]


def check_patches(store: PatchStore, catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results of :func:`patch_checks`."""
    found: set[int] = set()
    if store.has_masks:
        step = max(1, len(store) // _LOOKED_AT)
        found = {int(code) for mask in store.masks[::step] for code in np.unique(mask)}
    unknown = sorted(found - set(CLASS_NAMES) - {UNLABELLED})
    dropped = store.manifest.dropped_blank
    blank = dropped / max(1, dropped + len(store))
    differing = [
        f"{scene} {measured:.1f} % (stated {stated:.1f} %)"
        for scene, measured, stated in percentage_mismatches(catalog, store, COVERAGE_TOLERANCE)
    ]
    hashes = store.index["content_hash"]
    doubled = store.index.loc[hashes.duplicated(keep=False), "patch_id"].tolist()
    return [
        _result("class_codes", not unknown, f"unknown codes {unknown}" if unknown else f"codes {sorted(found)}"),
        _result("blank_share", blank <= MOST_BLANK, f"{blank:.1%} of patches were blank", severe=False),
        _result("duplicates", not doubled, _listed(doubled, "patches hold the same pixels as another"), severe=False),
        _result("stated_coverage", not differing, _listed(differing, "masks disagree with it"), severe=False),
    ]


def value_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of labelled patches, besides those of their masks."""
    return [
        dg.AssetCheckSpec("every_scene_cut", asset=asset, description="Each scene has patches, or is accounted for."),
        dg.AssetCheckSpec(
            "value_ranges", asset=asset, description="Values are what the instrument measures; offsets were taken once."
        ),
        dg.AssetCheckSpec(
            "class_balance", asset=asset, description=f"No class has less than {SMALLEST_CLASS:.0%} of the labels."
        ),
    ]


def check_values(store: PatchStore, catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results of :func:`value_checks`."""
    unreadable = {item for item, _ in store.manifest.skipped}
    cut = set(store.index["scene_id"])
    absent = [scene.scene_id for scene in catalog if scene.scene_id not in cut and scene.scene_id not in unreadable]
    accounted = len(absent) <= store.manifest.dropped_blank
    counts = (
        f"{len(catalog)} scenes: {len(cut)} with {len(store)} patches, {len(unreadable)} unreadable, "
        f"{store.manifest.dropped_blank} blank patches"
    )
    problems = implausible_values(store)
    shares = class_shares(store)
    rare = [name for name, share in shares.items() if share < SMALLEST_CLASS]
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items()) or "these patches have no classes"
    return [
        _result(
            "every_scene_cut",
            accounted,
            counts + ("" if accounted else "; " + _listed(absent, "without any")),
            severe=False,
        ),
        _result("value_ranges", not problems, " ".join(problems) or "plausible"),
        _result("class_balance", not rare, said, severe=False),
    ]


def split_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of splits."""
    return [
        dg.AssetCheckSpec("no_leakage", asset=asset, blocking=True, description="No group is in two splits."),
        dg.AssetCheckSpec(
            "every_class", asset=asset, blocking=True, description="Each split has patches of each class."
        ),
        dg.AssetCheckSpec("no_shared_pixels", asset=asset, description="No pixels are in two splits under two names."),
    ]


def check_splits(splits: Splits, store: PatchStore) -> list[dg.AssetCheckResult]:
    """Results of :func:`split_checks`."""
    leaking = splits.leaking_groups()
    lacking = splits.class_problems()
    hashes = store.index["content_hash"].to_numpy()[splits.table["position"].to_numpy()]
    spread = splits.table.assign(content=hashes).groupby("content")["split"].nunique()
    shared = int((spread > 1).sum())
    return [
        _result("no_leakage", not leaking, _listed(leaking, "groups are in more than one split")),
        _result("every_class", not lacking, " ".join(lacking) or "all there"),
        _result("no_shared_pixels", not shared, f"{shared} patches have a twin in another split", severe=False),
    ]


def evaluation_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of an evaluation."""
    return [dg.AssetCheckSpec("better_than_trivial", asset=asset, description="Better than rules without learning.")]


def check_evaluation(evaluation: Evaluation, gate: Gate) -> list[dg.AssetCheckResult]:
    """Results of :func:`evaluation_checks`."""
    value = evaluation.metrics[gate.metric]
    rules = gate.trivial_values(evaluation.metrics)
    beaten = bool(rules) and all(gate.is_better(value, rule) for rule in rules.values())
    said = ", ".join(f"{name} {rule:.4f}" for name, rule in rules.items()) or "no trivial rule was measured"
    return [_result("better_than_trivial", beaten, f"{gate.metric} {value:.4f}; {said}", severe=False)]


def metric_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of an evaluation, besides its comparison with trivial rules."""
    return [dg.AssetCheckSpec("metric_floor", asset=asset, description="Good enough for anybody to use.")]


def check_metric(evaluation: Evaluation, gate: Gate) -> list[dg.AssetCheckResult]:
    """Results of :func:`metric_checks`."""
    floor = FLOORS.get(gate.metric) if gate.minimum is None else gate.minimum
    value = evaluation.metrics.get(gate.metric)
    said = f"{gate.metric} {'was not measured' if value is None else format(value, '.4f')}"
    if floor is None:
        return [_result("metric_floor", value is not None, f"{said}; no floor is known for it", severe=False)]
    passed = value is not None and not gate.is_better(floor, value)
    return [_result("metric_floor", passed, f"{said}; the floor is {floor:g}", severe=False)]


def comparison_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a comparison."""
    # Not blocking: the champion's step turns an unfit challenger down, and notes why.
    return [dg.AssetCheckSpec("best_passes_gate", asset=asset, description="The best variant is fit.")]


def check_comparison(comparison: Comparison) -> list[dg.AssetCheckResult]:
    """Results of :func:`comparison_checks`."""
    decision = comparison.decision
    said = f"{comparison.best}: {decision.reason}"
    if not decision.accepted:
        said += (
            ". Train longer or on more data (the same recipe is trained again with retrain: true), or change the gate."
        )
    return [_result("best_passes_gate", decision.accepted, said)]


def champion_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a champion."""
    return [
        dg.AssetCheckSpec("registry_agrees", asset=asset, blocking=True, description="The alias points to this model.")
    ]


def check_champion(model_version: str, registered_version: str | None) -> list[dg.AssetCheckResult]:
    """Results of :func:`champion_checks`.

    Args:
        model_version: Version of the champion's bundle.
        registered_version: The same as the registry's alias tells it; None if there is no alias.
    """
    said = f"champion {model_version}, alias {registered_version}"
    return [_result("registry_agrees", model_version == registered_version, said)]


def champion_evaluation_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of the present champion's evaluation on the labelled data of today."""
    return [
        dg.AssetCheckSpec("still_passes_gate", asset=asset, description="Today's data would let the champion through."),
    ]


def check_champion_evaluation(judged: "ChampionReport", gate: Gate) -> list[dg.AssetCheckResult]:
    """Results of :func:`champion_evaluation_checks`."""
    decision = gate.passes(judged.evaluation.metrics)
    said = (
        judged.said if decision.accepted else f"{judged.said} {decision.reason}. Train again: its job, or the schedule."
    )
    return [_result("still_passes_gate", decision.accepted, said, severe=False)]


def _result(name: str, passed: bool, said: str, *, severe: bool = True) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), severity=severity, description=said)


def _listed(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}" + (f": {', '.join(items[:10])}" if items else "")
