"""Metadata of materialisations: counts, tables, metrics, figures, links, cost."""

import base64
import io
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Comparison
from cloud_assets.reports.evaluation import Evaluation

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.lifecycle.promotion import PromotionRecord

Metadata = dict[str, Any]  # name -> a value of ``dg.MetadataValue``, or a plain one: text, number, path, or JSON

FIGURE_BYTES = 220_000
"""Largest inline figure: base64 makes a third more of it, and every look at the asset loads all of its figures."""

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@contextmanager
def measured() -> Iterator[Metadata]:
    """Measures the time and the peak memory of a block; the metadata that it yields are filled when the block ends."""
    started = time.monotonic()
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5", encoding="ascii")  # resets the peak that the kernel keeps of this process
    cost: Metadata = {}
    yield cost
    cost["seconds"] = round(time.monotonic() - started, 2)
    if _CLEAR_REFS.exists():
        line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) / 1000
    else:  # of the process so far
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1000)
    cost["peak_memory_mb"] = round(peak, 1)


def scenes_metadata(catalog: SceneCatalog, folder: Path) -> Metadata:
    """Raw scenes: where they are, how many, of what, and what had to be left out."""
    summary = catalog.summary()
    files = {band.path for scene in catalog for band in scene.bands.values()}
    size = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    shown = ("instruments", "splits", "labels", "label_types")
    return {
        "folder": folder,
        "size_mb": round(size / 1e6, 1),
        **{name: summary[name] for name in ("dataset", "scenes", "groups", "skipped", "with_truth")},
        "bands": ", ".join(summary["bands"]),
        "synthetic": catalog.is_synthetic,
        **{name: counts_table(summary[name], name.removesuffix("s")) for name in shown if summary[name]},
        **bullets(notes=catalog.notes, left_out=catalog.skipped[:50]),
    }


def patches_metadata(store: PatchStore) -> Metadata:
    """Patches: how many, how large, what they show."""
    summary = store.summary()
    metadata = {
        **{name: summary[name] for name in ("patches", "groups", "dropped_blank", "skipped_scenes")},
        "size_mb": summary["megabytes"],
        "mean_valid_percentage": round(100 * summary["mean_valid_fraction"], 2),
        "arrays": counts_table(summary["roles"], "role", "content"),
        "synthetic": store.is_synthetic,
        **bullets(notes=store.manifest.notes),
    }
    if summary["mean_coverage"]:
        metadata["class_balance"] = counts_table(summary["mean_coverage"], "class", "mean_percentage")
    return metadata


def splits_metadata(splits: Splits) -> Metadata:
    """Splits: patches, groups and classes in each."""
    rows: list[dict[str, str | int]] = [{"split": name, **counts} for name, counts in splits.summary().items()]
    return {
        "splits": dg.MetadataValue.table([dg.TableRecord(row) for row in rows]),
        "method": str(splits.details.get("method", "")),
        "patches": len(splits),
    }


def model_metadata(bundle: "ModelBundle") -> Metadata:
    """A trained model: size, threshold, how training went, validation metrics, learning curves."""
    from cloud_assets.reports.figures import learning_curves

    card, record = bundle.card, bundle.card.training
    metadata = {
        "size_mb": round(bundle.size / 1e6, 2),
        "bands": ", ".join(card.bands),
        "epochs": record.epochs_run,
        "best_epoch": record.best_epoch + 1,
        "training_seconds": round(float(record.seconds), 1),
        "device": record.device,
        "fingerprint": record.fingerprint,
        "recipe": dg.MetadataValue.json(record.recipe),
        **metric_values(card.metrics, "validation_"),
    }
    if card.threshold is not None:
        metadata["threshold"] = float(card.threshold.value)
    curves = learning_curves(record.history, record.best_epoch)
    if curves is not None:
        metadata["learning_curves"] = figure(curves, "learning curves")
    return metadata


def evaluation_metadata(evaluation: Evaluation, report: str) -> Metadata:
    """An evaluation: its headline metrics, all metrics, figures, and where the report is."""
    headline = {name: evaluation.metrics[name] for name in evaluation.headline if name in evaluation.metrics}
    return {
        **metric_values(headline or evaluation.metrics),
        "all_metrics": dg.MetadataValue.json(dict(evaluation.metrics)),
        "report": dg.MetadataValue.path(report),
        **figures(evaluation.figures, evaluation.captions),
        **bullets(notes=evaluation.notes),
    }


def comparison_metadata(comparison: Comparison, report: str) -> Metadata:
    """A comparison: the ranking, as table and figure."""
    return {
        "best_variant": comparison.best,
        comparison.gate.metric: float(comparison.metrics[comparison.best][comparison.gate.metric]),
        "ranking": table(comparison.table),
        "report": dg.MetadataValue.path(report),
        **figures(comparison.figures, comparison.captions),
    }


def promotion_metadata(record: "PromotionRecord") -> Metadata:
    """A promotion: who is champion, since which decision, and why."""
    elsewhere = {"task", "run_id", "patches_version", "splits_version", "is_synthetic", "decided"}
    return record.model_dump(mode="json", exclude=elsewhere, exclude_none=True)


def metric_values(metrics: Mapping[str, float], prefix: str = "") -> Metadata:
    """Metrics as numbers that the UI plots over materialisations, six digits of them."""
    return {prefix + name: float(f"{value:.6g}") for name, value in metrics.items()}


def bullets(**lines: Iterable[object]) -> Metadata:
    """Lists by name, an item a line; empty ones are left out."""
    texts = {name: "\n".join(f"- {line}" for line in items) for name, items in lines.items()}
    return {name: dg.MetadataValue.md(text) for name, text in texts.items() if text}


def counts_table(counts: Mapping[str, Any], key: str, value: str = "count") -> dg.TableMetadataValue:
    """A mapping as a table of two columns."""
    return dg.MetadataValue.table([dg.TableRecord({key: name, value: count}) for name, count in counts.items()])


def figure(png: bytes, caption: str) -> dg.MarkdownMetadataValue:
    """A picture that the UI shows inline, made smaller until it is at most :data:`FIGURE_BYTES`."""
    kind, data = "png", png
    if len(png) > FIGURE_BYTES:
        from PIL import Image

        kind, picture = "jpeg", Image.open(io.BytesIO(png)).convert("RGB")
        while len(data) > FIGURE_BYTES:
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=82, optimize=True)
            data = stream.getvalue()
            picture = picture.resize((max(1, picture.width * 4 // 5), max(1, picture.height * 4 // 5)))
    return dg.MetadataValue.md(f"![{caption}](data:image/{kind};base64,{base64.b64encode(data).decode('ascii')})")


def figures(figures: Mapping[str, bytes], captions: Mapping[str, str]) -> Metadata:
    """Pictures by name, inline, each with its caption."""
    return {f"figure_{name}": figure(png, captions.get(name, name)) for name, png in figures.items()}


def table(frame: "pd.DataFrame") -> dg.TableMetadataValue:
    """A table as the UI shows it, numbers rounded."""
    rounded = frame.round(4).astype(object).where(frame.notna(), "")
    return dg.MetadataValue.table(
        [dg.TableRecord({str(k): v for k, v in row.items()}) for row in rounded.to_dict("records")]
    )
