"""Metadata and check results of scene products."""

from collections.abc import Mapping, Sequence

import dagster as dg

from cloud_assets.lifecycle.registered_champions import RegisteredChampions
from cloud_assets.orchestration.common.metadata import Metadata, counts_table, figure
from cloud_assets.scenes.product_checks import CLOUD_COVER, GEOREFERENCE, NODATA, Finding
from cloud_assets.scenes.product_record import SceneProducts

_DESCRIPTIONS = {
    CLOUD_COVER: "The mask's cloud cover is the recorded one, not far from other estimates, and not nearly everything.",
    GEOREFERENCE: "All rasters have the scene's coordinate reference system and lie on its pixels.",
    NODATA: "What was observed has a value in mask, probability and scores, and what was not has none.",
}
_SUSPICIONS = frozenset({CLOUD_COVER})
"""Checks that may fail on good products: an overcast scene looks like one that was misread."""
_SHOWN = (
    "cloud_percentage",
    "classifier_cloud_percentage",
    "usable_fraction",
    "valid_fraction",
    "anomaly_score",
    "synthetic_fraction",
    "seconds",
    "megapixels_per_second",
)


def scene_metadata(products: SceneProducts, champions: RegisteredChampions, findings: Sequence[Finding]) -> Metadata:
    """The products of one scene: pictures, numbers, files, models."""
    from cloud_assets.imagery.writing.pictures import of_class_file, png

    paths, statistics = products.paths, products.statistics
    metadata: Metadata = {
        "how": dg.MetadataValue.text(
            "made" if products.is_new else "unchanged: scene, models and options are as before"
        ),
        "quicklook": figure(paths["quicklook"].read_bytes(), f"{products.name} as the eye sees it"),
    }
    if "mask" in paths:
        metadata["mask"] = figure(png(of_class_file(paths["mask"])), f"cloud classes of {products.name}")
    shown = {name: statistics[name] for name in _SHOWN if name in statistics}
    metadata.update({name: dg.MetadataValue.float(round(value, 4)) for name, value in shown.items() if value == value})
    metadata["page"] = dg.MetadataValue.path(paths["page"])
    metadata["stac_item"] = dg.MetadataValue.path(paths["stac"])
    metadata["files"] = counts_table({name: str(path) for name, path in paths.items()}, "product", "file")
    metadata["models"] = counts_table(products.models, "model", "version")
    metadata["champions"] = _lines([*champions.versions, *champions.left_out])
    metadata["checks"] = _lines([f"{'✓' if one.passed else '✗'} {one.check}: {one.said}" for one in findings])
    if products.warnings:
        metadata["notes"] = _lines(products.warnings)
    metadata["scene"] = dg.MetadataValue.path(products.source)
    return metadata


def scene_check_specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of products."""
    return [dg.AssetCheckSpec(check, asset=asset, description=said) for check, said in _DESCRIPTIONS.items()]


def scene_check_results(findings: Mapping[str, Sequence[Finding]]) -> list[dg.AssetCheckResult]:
    """The results of :func:`scene_check_specs` for all scenes of a run."""
    results = []
    for check in _DESCRIPTIONS if findings else ():
        found = {scene: one for scene, several in findings.items() for one in several if one.check == check}
        failed = [f"{scene}: {one.said}" for scene, one in found.items() if not one.passed]
        results.append(
            dg.AssetCheckResult(
                check_name=check,
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN if check in _SUSPICIONS else dg.AssetCheckSeverity.ERROR,
                description="; ".join(failed) or f"{len(found)} scenes",
                metadata={"scenes": counts_table({scene: one.said for scene, one in found.items()}, "scene", "found")},
            )
        )
    return results


def _lines(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))
