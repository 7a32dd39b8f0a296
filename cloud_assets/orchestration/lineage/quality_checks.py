"""Cheap checks of data quality on every stage: counts, value ranges, class balance, a floor for the metric."""

from collections.abc import Mapping, Sequence

import dagster as dg

from cloud_assets.datasets.catalog import SceneCatalog
from cloud_assets.patches.plausibility import class_shares, implausible_values
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.gate import Gate

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
        _warning("complete", not left_out, found + _listed(left_out, "left out")),
        _warning("no_twins", not twins, found + _listed(twins, "twins")),
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
        _warning("every_scene_cut", accounted, counts + ("" if accounted else "; " + _listed(absent, "without any"))),
        dg.AssetCheckResult(
            check_name="value_ranges",
            passed=not problems,
            severity=dg.AssetCheckSeverity.ERROR,
            description=" ".join(problems) or "plausible",
        ),
        _warning("class_balance", not rare, said),
    ]


def metric_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of an evaluation, besides its comparison with trivial rules."""
    return [dg.AssetCheckSpec("metric_floor", asset=asset, description="Good enough for anybody to use.")]


def check_metric(evaluation: Evaluation, gate: Gate) -> list[dg.AssetCheckResult]:
    """Results of :func:`metric_checks`."""
    floor = FLOORS.get(gate.metric) if gate.minimum is None else gate.minimum
    value = evaluation.metrics.get(gate.metric)
    said = f"{gate.metric} {'was not measured' if value is None else format(value, '.4f')}"
    if floor is None:
        return [_warning("metric_floor", value is not None, f"{said}; no floor is known for it")]
    passed = value is not None and not gate.is_better(floor, value)
    return [_warning("metric_floor", passed, f"{said}; the floor is {floor:g}")]


def _warning(name: str, passed: bool, said: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name, passed=bool(passed), severity=dg.AssetCheckSeverity.WARN, description=said
    )


def _listed(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}" + (f": {', '.join(items[:10])}" if items else "")
