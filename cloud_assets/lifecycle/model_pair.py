"""Two models of a task side by side on one page, patch by patch, by their evaluations on the same test split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from cloud_assets.errors import CloudAssetsError, InvalidReport
from cloud_assets.families import FAMILIES
from cloud_assets.families.segmentation.figures import disagreement_panels
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.model_references import is_registered, registered_version
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate, comparable, merged_notes, model_difference
from cloud_assets.reports.evaluation import TRIVIAL_RULES, Evaluation
from cloud_assets.reports.report import Page, Report, Tile, format_number, readable
from cloud_assets.settings import settings
from cloud_assets.tasks import TASKS

SHOWN_ENDS, _PICTURES = 100, 4  # how many patches the page shows of either end of the table, and as pictures
_MEASURES = {
    "wrong_percentage": ("per_patch", "share of wrong pixels (%)"),
    "class_error": ("per_sample", "classes away from the true one"),
    "distance_to_threshold": ("per_patch", "distance of the score from the model's own threshold"),
    "psnr_gain": ("per_patch", "gain of PSNR (dB)"),
}
"""What a family's evaluations tell of single patches: column, its table, in words."""
_KEYS = ("patch_id", "group", "row", "col", "height", "width", "truth")


@dataclass(frozen=True, kw_only=True)
class ModelPair(Report):
    """Two evaluations side by side; only its page is written."""

    file: ClassVar[str] = "model_pair.json"
    laid_out: Page

    def page(self) -> Page:
        """Both values, their difference, and what it is made of."""
        return self.laid_out


@dataclass(frozen=True)
class _Judged:
    evaluation: Evaluation
    store: Path  # where the patches are that it was evaluated on
    model: Callable[[], ModelBundle]


def _judged(reference: Path | str) -> _Judged:
    if not is_registered(reference):
        folder = Path(reference).absolute()
        model = folder.with_name(folder.name.removesuffix("_report") + "_model")
        return _Judged(Evaluation.open(folder), folder.with_name("labeled_patches"), lambda: ModelBundle.open(model))
    from cloud_assets.tracking import Tracker

    registry = Tracker()
    version = registered_version(registry, str(reference))
    store = Path(settings().home) / version.task / "labeled_patches"
    return _Judged(registry.evaluation(version), store, lambda: registry.download(version))


def compare_models(first: Path | str, second: Path | str) -> ModelPair:
    """Compares two evaluations by the metric of the task's gate, else the first that reports show.

    Either is a folder, or a registered model as :func:`~cloud_assets.load_model` takes it.

    Raises:
        NoModelForProduct: If the registry holds no such model.
        InvalidReport: If one is no evaluation or lacks the metric; if tasks, splits, test patches or settings differ.
    """
    judged = [_judged(reference) for reference in (first, second)]
    found = [one.evaluation for one in judged]
    same = found[0].variant == found[1].variant
    names = [f"{one.variant} {letter}" if same else one.variant for one, letter in zip(found, "AB", strict=True)]
    both, task = dict(zip(names, found, strict=True)), found[0].task
    gate = TASKS[task].gate if task in TASKS else Gate(metric=found[0].headline[0])
    comparable(both, gate)
    patches, said = _patches(both)
    metrics = pd.DataFrame({name: one.metrics for name, one in both.items()}).dropna().rename_axis("metric")
    metrics = metrics.drop([name for name in metrics.index if str(name).startswith(("validation_", *TRIVIAL_RULES))])
    metrics["difference"] = metrics[names[0]] - metrics[names[1]]
    figures, notes = {}, list(merged_notes(both))
    try:
        figures = _pictures(both, patches, judged)
    except (CloudAssetsError, OSError) as error:
        notes.append(f"There are no pictures of patches: {error}")
    if len(patches) > 2 * SHOWN_ENDS:
        notes.append(f"Of {len(patches)} test patches the table shows the {SHOWN_ENDS} at either end.")
        patches = pd.concat([patches.head(SHOWN_ENDS), patches.tail(SHOWN_ENDS)])
    recipes = [one.sections.get("Recipe", {}) for one in found]
    settings = {key: [recipe.get(key, "unset") for recipe in recipes] for key in {**recipes[0], **recipes[1]}}
    tiles = [Tile(name, format_number(one.metrics[gate.metric]), readable(gate.metric)) for name, one in both.items()]
    gap = found[0].metrics[gate.metric] - found[1].metrics[gate.metric]
    page = Page(
        title=f"{task}: {names[0]} and {names[1]}",
        subtitle=f"Two models on the same test split; differences are {names[0]} minus {names[1]}",
        is_synthetic=found[0].is_synthetic,
        tiles=[*tiles, Tile("Difference", f"{gap:+.4f}", f"{gate.better} is better")],
        summary=_verdict(both, gate),
        tables=({} if patches.empty else {"patches": patches}) | {"all_metrics": metrics.reset_index()},
        captions={"patches": f"For each test patch: {said}; sorted by the difference."},
        sections={
            "Settings that differ": {key: " and ".join(two) for key, two in settings.items() if two[0] != two[1]},
            **{f"Model {name}": one.sections.get("Model", {}) for name, one in both.items()},
            "Versions": {name: one.model_version for name, one in both.items()},
        },
    )
    caption = f"The {_PICTURES} patches whose shares of wrong pixels differ most. Errors: cloud against clear."
    return ModelPair(laid_out=page, figures=figures, captions={"largest_differences": caption}, notes=notes)


def _verdict(both: Mapping[str, Evaluation], gate: Gate) -> str:
    first, second = both.values()
    found = model_difference(first, second, gate.metric, gate.confidence)
    if found is None:
        return "There is no interval of the difference: the evaluations keep nothing to compute it from, or one scene."
    better = f"{list(both)[0 if gate.is_better(found.estimate, 0) else 1]} is better."
    if found.low <= 0 <= found.high:
        better = "which one is better cannot be told from this test split."
    return (
        f"{readable(gate.metric)} differs by {found.estimate:+.4f}, {found.confidence:.0%} interval {found.low:+.4f} "
        f"to {found.high:+.4f} (paired bootstrap over {found.groups} {found.unit}): {better}"
    )


def _patches(both: Mapping[str, Evaluation]) -> tuple[pd.DataFrame, str]:
    """One row a test patch with both models' values, largest difference first, and what they are."""
    for column, (name, said) in _MEASURES.items():
        tables = {model: one.tables[name] for model, one in both.items() if column in one.tables.get(name, ())}
        if len(tables) == 2:
            keys = [key for key in _KEYS if all(key in table for table in tables.values())]
            left, right = (table[keys].assign(**{model: table[column]}) for model, table in tables.items())
            if set(left["patch_id"]) != set(right["patch_id"]):
                said = f"{' and '.join(both)} were evaluated on different test patches."
                raise InvalidReport(f"{said} Evaluate both again on the same splits.")
            joined = left.merge(right, on=keys)
            joined["difference"] = joined[tables.keys()].diff(axis=1, periods=-1).iloc[:, 0]
            return joined.sort_values(["difference", "patch_id"], ascending=[False, True], ignore_index=True), said
    return pd.DataFrame(), ""


def _pictures(both: Mapping[str, Evaluation], patches: pd.DataFrame, judged: list[_Judged]) -> dict[str, bytes]:
    """What the models make of the patches that they differ on most."""
    if any("wrong_percentage" not in one.tables.get("per_patch", ()) for one in both.values()):
        return {}
    store = PatchStore.open(judged[0].store)
    bundles = [one.model() for one in judged]
    versions = [store.data_version, *(bundle.version for bundle in bundles)]
    if versions != [next(iter(both.values())).patches_version, *(one.model_version for one in both.values())]:
        raise InvalidReport("patches or models have changed since: run the jobs of both again.")
    most = patches.loc[patches["difference"].abs().nlargest(_PICTURES).index, "patch_id"]
    rows = [one.tables["per_patch"].set_index("patch_id", drop=False).loc[most] for one in both.values()]
    predictors = {name: FAMILIES[one.card.family].predictor(one) for name, one in zip(both, bundles, strict=True)}
    return {"largest_differences": disagreement_panels(predictors, store, rows)}
