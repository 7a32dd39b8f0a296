"""Asset checks of a lineage, all cheap enough to run in the step that makes the asset."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import dagster as dg
import numpy as np
import yaml

from cloud_assets.bands import CLASS_NAMES, UNLABELLED
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.families.classification.coverage_labels import percentage_mismatches
from cloud_assets.lifecycle.drift import DriftReport
from cloud_assets.lifecycle.model_references import ChampionReport
from cloud_assets.lifecycle.suspicious_labels import SuspiciousLabels
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.statistics import class_shares, implausible_values
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Comparison, Gate
from cloud_assets.reports.evaluation import Evaluation

MOST_BLANK = 0.6
"""Share of nearly blank patches above which something is wrong; a third is usual where scenes lie slanted in a grid."""
COVERAGE_TOLERANCE = 1.0  # percentage points by which a mask's cloud cover may differ from what its data set states
_LOOKED_AT = 500
SMALLEST_CLASS = 0.02  # share of a class below which it can hardly be learnt, nor its scores be believed
FLOORS: Mapping[str, float] = {"iou": 0.3, "accuracy": 0.4, "auroc": 0.6, "psnr_gain": 0.0}
"""Values below which nobody would use a model, whatever baselines reach; a gate's own minimum wins."""
SUSPICION = 0.5
"""From here on a label is a case for the labelling team: half of a patch's cloud is contradicted, or half a margin."""

_LIMITS = {"blank": MOST_BLANK, "tolerance": COVERAGE_TOLERANCE, "rare": SMALLEST_CLASS, "suspicion": SUSPICION}
_CHECKS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = yaml.load(
    files(__package__).joinpath("checks.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader
)
"""What is checked of each asset: name of the check -> what its failure means, and what it says of the asset."""
_GRADES: Final = {name: grade for checks in _CHECKS.values() for name, (grade, _) in checks.items()}


def check_specs(asset: dg.AssetKey, kind: str) -> list[dg.AssetCheckSpec]:
    """The checks of an asset; none for a kind of asset that has none."""
    return [
        dg.AssetCheckSpec(name, asset=asset, blocking=grade == "blocking", description=said.format_map(_LIMITS))
        for name, (grade, said) in _CHECKS.get(kind, {}).items()
    ]


def result(name: str, passed: bool, said: str, metadata: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    """The result of one of the checks."""
    severity = dg.AssetCheckSeverity.WARN if _GRADES[name] == "warning" else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=name, passed=bool(passed), severity=severity, description=said, metadata=metadata
    )


def check_scenes(catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results for raw scenes."""
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
        result("complete", not left_out, found + _listed(left_out, "left out")),
        result("no_twins", not twins, found + _listed(twins, "twins")),
    ]


def check_patches(store: PatchStore, catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results for labelled patches: masks, and what comes twice."""
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
        result("class_codes", not unknown, f"unknown codes {unknown}" if unknown else f"codes {sorted(found)}"),
        result("blank_share", blank <= MOST_BLANK, f"{blank:.1%} of patches were blank"),
        result("duplicates", not doubled, _listed(doubled, "patches hold the same pixels as another")),
        result("stated_coverage", not differing, _listed(differing, "masks disagree with it")),
    ]


def check_values(store: PatchStore, catalog: SceneCatalog) -> list[dg.AssetCheckResult]:
    """Results for labelled patches: whether they are all there, what they measure, and their classes."""
    unreadable = {item for item, _ in store.manifest.skipped}
    cut = set(store.index["scene_id"])
    absent = [scene.scene_id for scene in catalog if scene.scene_id not in cut and scene.scene_id not in unreadable]
    accounted = len(absent) <= store.manifest.dropped_blank
    counts = (
        f"{len(catalog)} scenes: {len(cut)} with {len(store)} patches, {len(unreadable)} unreadable, "
        f"{store.manifest.dropped_blank} blank patches" + ("" if accounted else "; " + _listed(absent, "without any"))
    )
    problems = implausible_values(store)
    shares = class_shares(store)
    rare = [name for name, share in shares.items() if share < SMALLEST_CLASS]
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items()) or "these patches have no classes"
    return [
        result("every_scene_cut", accounted, counts),
        result("value_ranges", not problems, " ".join(problems) or "plausible"),
        result("class_balance", not rare, said),
    ]


def check_splits(splits: Splits, store: PatchStore) -> list[dg.AssetCheckResult]:
    """Results for splits."""
    leaking, lacking = splits.leaking_groups(), splits.class_problems()
    hashes = store.index["content_hash"].to_numpy()[splits.table["position"].to_numpy()]
    spread = splits.table.assign(content=hashes).groupby("content")["split"].nunique()
    shared = int((spread > 1).sum())
    return [
        result("no_leakage", not leaking, _listed(leaking, "groups are in more than one split")),
        result("every_class", not lacking, " ".join(lacking) or "all there"),
        result("no_shared_pixels", not shared, f"{shared} patches have a twin in another split"),
    ]


def check_evaluation(evaluation: Evaluation, gate: Gate) -> list[dg.AssetCheckResult]:
    """Results for an evaluation: against trivial rules, and against the metric's floor."""
    value = evaluation.metrics.get(gate.metric)
    rules = gate.trivial_values(evaluation.metrics)
    floor = FLOORS.get(gate.metric) if gate.minimum is None else gate.minimum
    measured = f"{gate.metric} {'was not measured' if value is None else format(value, '.4f')}"
    beaten = value is not None and bool(rules) and all(gate.is_better(value, rule) for rule in rules.values())
    against = ", ".join(f"{name} {rule:.4f}" for name, rule in rules.items()) or "no trivial rule was measured"
    fit = value is not None and not (floor is not None and gate.is_better(floor, value))
    needed = "no floor is known for it" if floor is None else f"the floor is {floor:g}"
    return [
        result("better_than_trivial", beaten, f"{measured}; {against}"),
        result("metric_floor", fit, f"{measured}; {needed}"),
    ]


def check_comparison(comparison: Comparison) -> list[dg.AssetCheckResult]:
    """Results for a comparison."""
    decision = comparison.decision
    remedy = comparison.gate.remedy(comparison.metrics[comparison.best], comparison.best_interval)
    said = f"{comparison.best}: {decision.reason}{remedy}"
    return [result("best_passes_gate", decision.accepted, said)]


def check_champion(model_version: str, registered_version: str | None) -> list[dg.AssetCheckResult]:
    """Results for a champion: the version of its bundle, and that behind the registry's alias (None: no alias)."""
    said = f"champion {model_version}, alias {registered_version}"
    return [result("registry_agrees", model_version == registered_version, said)]


def check_champion_evaluation(judged: ChampionReport, gate: Gate) -> list[dg.AssetCheckResult]:
    """Results for the present champion on the labelled data of today."""
    decision = gate.passes(judged.evaluation.metrics)
    advice = "" if decision.accepted else f" {decision.reason}. Train again: its job, or the schedule."
    return [result("still_passes_gate", decision.accepted, judged.said + advice)]


def check_drift(report: DriftReport) -> list[dg.AssetCheckResult]:
    """Results for a drift report: what the last batches say, not older ones."""
    said = "; ".join(
        f"{batch.name}: {batch.level}, p {batch.p_value:.3g}, {batch.feature} D {batch.ks:.2f}, PSI {batch.psi:.2f}"
        for batch in report.latest
    )
    said = said or " ".join(report.notes) or "nothing new"
    severe = report.level == "severe"
    advice = " Label some of the new data and train again: the same labels make the same model." if severe else ""
    return [
        result("no_drift", report.level == "steady" and not report.is_blind, said),
        result("no_severe_drift", not severe, said + advice, {"retraining_requested": severe}),
    ]


def check_labels(labels: SuspiciousLabels) -> list[dg.AssetCheckResult]:
    """Results for a list of suspicious labels."""
    doubted = labels.table.loc[labels.table["suspicion"] >= SUSPICION, "patch_id"].tolist()
    return [result("labels_agree", not doubted, _listed(doubted, f"of {labels.looked_at} labels"))]


def _listed(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}" + (f": {', '.join(items[:3])}{', …' * (len(items) > 3)}" if items else "")
