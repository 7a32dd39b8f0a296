"""Checks of what people watch: drift, in two grades, and suspicious labels."""

import dagster as dg

from cloud_assets.lifecycle.drift_report import DriftReport
from cloud_assets.lifecycle.suspicious_labels import SuspiciousLabels

NO_DRIFT, NO_SEVERE_DRIFT = "no_drift", "no_severe_drift"
SUSPICION = 0.5
"""From here on a label is a case for the labelling team: half of a patch's cloud is contradicted, or half a margin."""


def drift_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a drift report."""
    return [
        dg.AssetCheckSpec(NO_DRIFT, asset=asset, description="New data look like the training data."),
        dg.AssetCheckSpec(
            NO_SEVERE_DRIFT,
            asset=asset,
            description="New data are not so different that the task should be trained again. The sensor "
            "<task>_retraining_on_drift, if switched on, does that.",
        ),
    ]


def check_drift(report: DriftReport) -> list[dg.AssetCheckResult]:
    """Results of :func:`drift_checks`: what the last batches say, not older ones."""
    said = "; ".join(
        f"{batch.name}: {batch.level}, p {batch.p_value:.3g}, {batch.feature} D {batch.ks:.2f}, PSI {batch.psi:.2f}"
        for batch in report.latest
    )
    said = said or " ".join(report.notes) or "nothing new"
    advice = " Label some of the new data and train again: the same labels make the same model."
    severe = report.level == "severe"
    return [
        dg.AssetCheckResult(
            check_name=NO_DRIFT,
            passed=report.level == "steady" and not report.is_blind,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
        ),
        dg.AssetCheckResult(
            check_name=NO_SEVERE_DRIFT,
            passed=not severe,
            severity=dg.AssetCheckSeverity.ERROR,
            description=said + advice if severe else said,
            metadata={"retraining_requested": severe},
        ),
    ]


def label_checks(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Checks of a list of suspicious labels."""
    what = f"No label is contradicted with a suspicion of {SUSPICION:g} or more."
    return [dg.AssetCheckSpec("labels_agree", asset=asset, description=what)]


def check_labels(labels: SuspiciousLabels) -> list[dg.AssetCheckResult]:
    """Results of :func:`label_checks`."""
    doubted = labels.table.loc[labels.table["suspicion"] >= SUSPICION, "patch_id"].tolist()
    said = f"{len(doubted)} of {labels.looked_at} labels" + (f": {', '.join(doubted[:10])}" if doubted else "")
    return [
        dg.AssetCheckResult(
            check_name="labels_agree", passed=not doubted, severity=dg.AssetCheckSeverity.WARN, description=said
        )
    ]
