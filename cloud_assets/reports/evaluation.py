"""The evaluation of one model on its task's test split: what it holds, and how the findings of a family become one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from cloud_assets.errors import InvalidReport, NoUsablePatches
from cloud_assets.reports.figures import learning_curves
from cloud_assets.reports.report import Page, Report, Tile, format_number, job_commands, readable
from cloud_assets.reports.statistics import metric_interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from cloud_assets.inference.bundle import ModelBundle, ModelCard
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore

Metrics = Mapping[str, float]
METRICS_FILE = "metrics.json"
CAPTIONS = {
    "learning_curves": "From the training record in the model card; validation split.",
    "splits": "No scene or region is in two splits.",
}
TRIVIAL_RULES = ("baseline", "all_cloud", "all_clear", "bright_share", "majority", "constant", "linear")
"""Rules without a network whose metrics evaluations state as ``<rule>_<metric>``; every champion has to beat them."""
_PREFIXES = {"validation_": "validation", **{f"{rule}_": rule.replace("_", " ") for rule in TRIVIAL_RULES}}
_PREFIXES["baseline_"] = "trivial baseline"
_FEW_SCENES = 10


class Evaluator(BaseModel, frozen=True, extra="forbid"):
    """How a task's models are evaluated: plain data, torch-free; the family that it names evaluates by it."""

    family: ClassVar[str]  # key in :data:`cloud_assets.families.FAMILIES`


@dataclass(frozen=True, kw_only=True)
class Evaluation(Report):
    """A model's evaluation on its task's test split.

    ``metrics.json`` in its folder is a flat object of finite numbers.

    Raises:
        InvalidReport: If a metric is not a finite number. What cannot be measured is left out and noted.
    """

    file: ClassVar[str] = "evaluation.json"
    remedy: ClassVar[str] = "Evaluate the model again."

    task: str
    variant: str
    metrics: Mapping[str, float]
    """Flat: the test split's metrics by their standard names, the validation split's with ``validation_`` before them,
    those of trivial rules with a prefix of :data:`TRIVIAL_RULES`."""
    model_version: str  # version of the :class:`ModelBundle` that was evaluated
    patches_version: str
    splits_version: str
    is_synthetic: bool  # True if the test data are simulated: the numbers then say nothing about real imagery
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the evaluator, as JSON. Numbers of different settings are not compared."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Models of other tasks that the evaluation compared with: their versions by the name of the task."""
    headline: Sequence[str] = ()  # names of the metrics that the report shows first
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labelled values for the report by heading: the data, the model, its training."""

    def __post_init__(self) -> None:
        wrong = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if wrong:
            raise InvalidReport(
                f"{self.task}/{self.variant}: the metrics {', '.join(wrong)} are not finite numbers. Leave out what "
                "the test split cannot tell and say so in the notes."
            )

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """``metrics.json``."""
        return {METRICS_FILE: dict(self.metrics)}

    def page(self) -> Page:
        """Headline metrics, what was evaluated and how, and all tables."""
        caption = "The same numbers as in metrics.json; there the split or the rule stands before the names."
        return Page(
            title=f"{self.task} / {self.variant}",
            subtitle=f"Evaluation on the test split, {self.made_at}",
            is_synthetic=self.is_synthetic,
            tiles=[self._tile(name) for name in self.headline if name in self.metrics],
            tables={**self.tables, "all_metrics": self._metrics_table()},
            captions={"all_metrics": caption},
            sections={
                **self.sections,
                "Versions": {
                    "model": self.model_version,
                    "patches": self.patches_version,
                    "splits": self.splits_version,
                    **{f"champion of {task}": version for task, version in self.references.items()},
                },
            },
            commands=job_commands(self.task),
        )

    def _tile(self, name: str) -> Tile:
        baseline = self.metrics.get(f"baseline_{name}")
        remark = "" if baseline is None else f"trivial baseline {format_number(baseline)}"
        return Tile(readable(name), format_number(self.metrics[name]), remark)

    def _metrics_table(self) -> "pd.DataFrame":
        """One row a metric, one column for the split or baseline that the prefix of its name tells."""
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for name, value in self.metrics.items():
            prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
            rows.setdefault(name.removeprefix(prefix), {})[_PREFIXES.get(prefix, "test")] = value
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["test", *_PREFIXES.values()], dtype=float)
        table = table.drop(columns=[name for name in list(_PREFIXES.values())[2:] if table[name].isna().all()])
        return table.rename_axis("metric").reset_index()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a family found out about a model on a test split."""

    test: Metrics  # metrics of the test split by their standard names
    validation: Metrics  # metrics of the validation split; empty where there are none
    rules: Mapping[str, Metrics]
    """Metrics of rules without a network on the same test samples, by the rules' names as readers see them."""
    stated_rules: Mapping[str, str]
    """Which rules' metrics go among the evaluation's: one of
    :data:`TRIVIAL_RULES` -> name of the rule."""
    tables: "Mapping[str, pd.DataFrame]"  # tables by name, besides those of baselines and splits
    figures: Mapping[str, bytes | None]
    """Figures by name, besides the learning curves; None for what the data do not allow."""
    captions: Mapping[str, str]  # one sentence for each figure or table
    notes: Sequence[str]  # what a reader has to know, most important first
    headline: Sequence[str]  # names of the metrics that are shown first
    model: Mapping[str, str] = field(default_factory=dict)  # more values for the section on the model
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # more sections, by heading


@dataclass(frozen=True)
class EvaluationRun:
    """One evaluation: the model ready to predict, and the patches that it is judged on."""

    predictor: "Predictor"
    model_version: str
    store: "PatchStore"
    splits: "Splits"
    references: "Mapping[str, ModelBundle]" = field(default_factory=dict)
    """Models of other tasks to compare with, by the name of their task."""
    progress: bool = True

    @property
    def card(self) -> "ModelCard":
        """The card of the model."""
        return self.predictor.card

    def test_rows(self, *, needs_masks: bool) -> "npt.NDArray[np.int64]":
        """The rows of the test split.

        Raises:
            NoUsablePatches: If there are none, or no masks although the family needs them.
        """
        rows = self.splits.indices("test")
        if not len(rows) or (needs_masks and not self.store.has_masks):
            problem = "has no masks" if len(rows) else "is empty"
            raise NoUsablePatches(f"{self.card.task}/{self.card.variant}: the test split {problem}: look at it.")
        return rows


def evaluation_of(evaluator: Evaluator, run: EvaluationRun, found: Findings) -> Evaluation:
    """Puts an evaluation together."""
    import pandas as pd

    card, store, splits = run.card, run.store, run.splits
    metrics = {**found.test, **{f"validation_{name}": value for name, value in found.validation.items()}}
    for prefix, rule in found.stated_rules.items():
        metrics |= {f"{prefix}_{name}": value for name, value in found.rules.get(rule, {}).items()}
    figures = {**found.figures, "learning_curves": learning_curves(card.training.history, card.training.best_epoch)}
    notes = list(found.notes)
    if card.training.splits_version != splits.data_version:
        notes.append(
            "The model was trained with other splits than it is tested with here: some of the test patches may have "
            "been among its training patches, which flatters it."
        )
    return Evaluation(
        task=card.task,
        variant=card.variant,
        metrics=metrics,
        tables={
            "baselines": pd.DataFrame([{"baseline": name, **values} for name, values in found.rules.items()]),
            **found.tables,
            "splits": _splits_table(store, splits),
        },
        figures={name: png for name, png in figures.items() if png is not None},
        notes=(*notes, *inherited_notes(store, card)),
        headline=found.headline,
        captions={**CAPTIONS, **found.captions},
        sections=report_sections(store, card, model=found.model, **found.sections),
        model_version=run.model_version,
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=store.is_synthetic,
        recipe=evaluator.model_dump(mode="json"),
        references={task: bundle.version for task, bundle in run.references.items()},
    )


def with_changed_settings(evaluation: Evaluation, recipe: Mapping[str, Any], declared: Mapping[str, Any]) -> Evaluation:
    """The evaluation with a first section on what differs between the recipe trained with and the declared one."""
    used, default = _flattened(recipe), _flattened(declared)
    changed = {
        name.replace("_", " "): f"{used.get(name, 'unset')} (declared: {default.get(name, 'unset')})"
        for name in {**used, **default}
        if used.get(name) != default.get(name)
    }
    changed = changed or {"all settings": "as the task declares"}
    return replace(evaluation, sections={"Changed settings": changed, **evaluation.sections})


def interval_note(per_scene: "pd.DataFrame", metric: str) -> list[str]:
    """A sentence on the confidence interval of a metric over scenes; none for fewer than two scenes."""
    interval = metric_interval(per_scene, metric)
    if interval is None:
        return []
    rough = ", few scenes: a rough guide" if interval.groups < _FEW_SCENES else ""
    return [
        f"{readable(metric)} {interval.estimate:.3f}, 95 % interval {interval.low:.3f} to {interval.high:.3f} "
        f"(bootstrap over {interval.groups} scenes{rough})."
    ]


def inherited_notes(store: "PatchStore", card: "ModelCard") -> tuple[str, ...]:
    """Notes that a report takes over: those of the patches, and that a time limit ended the training if it did."""
    if card.training.stopped_by != "time limit":
        return tuple(store.manifest.notes)
    limit = f"The time limit ended the training after {card.training.steps_run} steps, before the learning rate had"
    return (*store.manifest.notes, f"{limit} run its course: on another machine the model would be another.")


def report_sections(
    store: "PatchStore", card: "ModelCard", *, model: Mapping[str, str] | None = None, **sections: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """Labelled values that say what was evaluated, by their headings: data, model, training; for every task."""
    manifest, preprocessing, record = store.manifest, card.preprocessing, card.training
    low, high = preprocessing.clip
    network = _flattened(card.network.model_dump())
    described = {"network": ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in network.items())}
    described["bands"] = f"{', '.join(preprocessing.bands)} ({preprocessing.instrument})"
    described["scaling"] = f"clipped to {low:g} … {high:g}, {preprocessing.normalisation.replace('_', ' ')}"
    if card.classes:
        described["classes"] = ", ".join(card.classes)
    if card.threshold is not None:
        described["threshold"] = f"{card.threshold.unit} ≥ {card.threshold.value:.3g} ({card.threshold.method})"
    if card.patch_size is not None:
        described["patch size"] = f"{card.patch_size} px"
    ended = {} if record.stopped_by is None else {"ended by": f"{record.stopped_by}, after {record.steps_run} steps"}
    return {
        "Recipe": {name.replace("_", " "): text for name, text in _flattened(record.recipe).items()},
        "Data": {
            "data set": manifest.dataset,
            "pixels": "simulated" if store.is_synthetic else "real imagery",
            "patches": f"{len(store)} from {store.index['group'].nunique()} scenes or regions",
            **{
                name: f"{role.shape[0]} bands ({', '.join(role.bands)}) of {role.instrument}, "
                f"{role.shape[1]} × {role.shape[2]} px, {role.dtype}"
                for name, role in store.roles.items()
            },
            "left out": f"{len(manifest.skipped)} unreadable scenes, {manifest.dropped_blank} nearly blank patches",
        },
        "Model": {**described, **(model or {})},
        **sections,
        "Training": {
            "trained on": "simulated patches" if card.is_synthetic_training_data else "real imagery",
            "patches": record.patches_version,
            "splits": record.splits_version,
            "epochs": f"{record.epochs_run}, weights of epoch {record.best_epoch + 1} kept",
            **ended,
            "time": f"{record.seconds / 60:.1f} min on {record.device}",
            "seed": str(record.seed),
            "fingerprint": record.fingerprint,
            "finished": card.created.isoformat(timespec="seconds"),
        },
        "Software": dict(card.software),
    }


def _splits_table(store: "PatchStore", splits: "Splits") -> "pd.DataFrame":
    """One row a split: ``split``, ``patches``, ``groups``, ``valid_percentage``; with masks ``cloud_percentage``."""
    import pandas as pd

    chosen = {split: store.index.loc[splits.indices(split)] for split in ("train", "validation", "test")}
    rows = [
        {
            "split": split,
            "patches": len(patches),
            "groups": int(patches["group"].nunique()),
            "cloud_percentage": float(patches["cloud_percentage"].mean()),
            "valid_percentage": 100 * float(patches["valid_fraction"].mean()),
        }
        for split, patches in chosen.items()
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{name}: ")
        elif value is not None:
            flat[prefix + name] = _text(value)
    return flat


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
