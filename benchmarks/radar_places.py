"""Does radar-to-optical translation hold at real places that it never saw, and does it see them the right way up?

    python benchmarks/radar_places.py FOLDER [--bands rgb_nir,…] [--rows "pix2pix; cyclegan; …"] [--steps 100]
        [--sample FOLDER] [--workspace radar_places] [--pictures FOLDER]

FOLDER holds sen12ms/ with pairs of at least two places. Each place is left out once: every row of the table is trained
on the pairs of the other places and predicts those of this one, by the task's recipe with a small network, crops of 64
pixels and few steps; the last weights count. 'sample' learns from the synthetic sample alone, '… then real' goes on
from there with the real pairs. Beside them stand the mean colour of the other places and a linear regression. Figures
are means over places; the correlation is that within a place, mean over bands. The last two columns count places: with
a gain over the mean colour, and with a positive correlation. Interrupted, run it again with the same workspace.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.families import family_of, load_predictor
from cloud_assets.families.translation.batches import Pairs
from cloud_assets.families.translation.evaluate import MEAN_COLOUR, baselines
from cloud_assets.families.translation.metrics import TranslationScores, with_gain
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.search_space import with_parameters
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.tasks.sar_to_optical import TASK

Pictures = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Rule = Callable[[Pictures], Pictures]
COLUMNS = ("psnr", "psnr_gain", "ssim", "sam", "mae", "correlation")
COUNTED = ("psnr_gain", "correlation")
SMALL: Mapping[str, Any] = {
    "network.width": 12,
    "discriminator.width": 8,
    "crop": 64,
    "statistics_patches": 8,
    "pictures": 0,
    "collapse_patience": None,
    "optimisation.steps": None,
    "optimisation.max_epochs": 1,
    "optimisation.budget_minutes": None,
    "optimisation.threads": 1,
}
OWN: Mapping[str, Mapping[str, Any]] = {
    "pix2pix": {"network.depth": 4, "optimisation.learning_rate": 1e-3, "optimisation.weight_averaging": 0.97},
    "cyclegan": {"network.blocks": 3, "optimisation.learning_rate": 5e-4, "optimisation.weight_averaging": 0.97},
}
FEW, WEIGHT = 4, 10.0
"""Patches that the CycleGAN may know as pairs, and the weight of their L1, that of the cycle."""


@dataclass(frozen=True)
class Row:
    """What one row of the table learns from."""

    kind: str
    """The task's recipe, without its bands."""
    sample_pairs: int | None = None
    """Pairs of the sample that an unpaired recipe knows; None: it does not see the sample."""
    real_pairs: int | None = 0
    """The same of the real pairs of the other places."""


ROWS: Mapping[str, Row] = {
    "pix2pix": Row("pix2pix"),
    "pix2pix, sample": Row("pix2pix", sample_pairs=0, real_pairs=None),
    "pix2pix, sample, then real": Row("pix2pix", sample_pairs=0),
    "cyclegan": Row("cyclegan"),
    "cyclegan, few pairs": Row("cyclegan", real_pairs=FEW),
    "cyclegan, sample": Row("cyclegan", sample_pairs=0, real_pairs=None),
    "cyclegan, sample with few pairs": Row("cyclegan", sample_pairs=FEW, real_pairs=None),
    "cyclegan, sample with few pairs, then real": Row("cyclegan", sample_pairs=FEW),
    "cyclegan, sample and real with few pairs": Row("cyclegan", sample_pairs=FEW, real_pairs=FEW),
}


@dataclass
class Places:
    """Scores of one row, place by place, and what it predicted."""

    scored: dict[str, dict[str, float]] = field(default_factory=dict)
    made: dict[int, Pictures] = field(default_factory=dict)
    """Reflectance (K, H, W) by the row of the store."""

    def cells(self) -> list[str]:
        """The cells of the table."""
        places = list(self.scored.values())
        found = {name: [metrics[name] for metrics in places if name in metrics] for name in COLUMNS}
        means = [f"{np.mean(values):.3f}" if values else "" for values in found.values()]
        return [*means, *(f"{np.sum(np.array(found[name]) > 0):.0f} of {len(places)}" for name in COUNTED)]


def main() -> None:
    """Trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bands", default="rgb_nir", help="band sets of the task, with commas between")
    parser.add_argument("--rows", default=";".join(ROWS), help="rows of the table, with semicolons between")
    parser.add_argument("--steps", type=int, default=100, help="of each training on real pairs")
    parser.add_argument("--sample-steps", type=int, default=300, help="of each training on the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=Path, help="folder of a synthetic sample; unset: half of it is written")
    parser.add_argument("--workspace", type=Path, default=Path("radar_places"))
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each band set, one pair a place")
    options = parser.parse_args()
    store = cut_patches(catalog(options.folder, options), TASK.patches, options.workspace / "patches")
    print(f"{len(store)} pairs of {store.index['group'].nunique()} places, {options.steps} steps")
    print(
        "bands", "row", *COLUMNS, "places with a gain", "places the right way up", "CPU minutes", sep=" | ", flush=True
    )
    rows = [name.strip() for name in options.rows.split(";")]
    for bands in options.bands.split(","):
        table: dict[str, Places] = {}
        for name in rows:
            start = time.process_time()
            found = left_out(ROWS[name], bands, store, options, with_rules=not table)
            minutes = f"{(time.process_time() - start) / 60:.1f}"
            for rule, places in found.items():
                title = rule or name
                table[title] = places
                print(bands, title, *places.cells(), "" if rule else minutes, sep=" | ", flush=True)
        if options.pictures is not None:
            draw(table, bands, store, options.pictures / f"radar_places_{bands}.png")


def catalog(folder: Path, options: argparse.Namespace) -> SceneCatalog:
    """The pairs of a folder, unpacked in the workspace: the folder may be read-only or somebody else's."""
    return TASK.dataset.catalog(folder, options.workspace / folder.name / "unpacked", progress=False)


def left_out(
    row: Row, bands: str, store: PatchStore, options: argparse.Namespace, with_rules: bool
) -> dict[str, Places]:
    """Scores of a row by '', and, if asked for, of the rules that need no training by their names."""
    found: dict[str, Places] = {}
    groups = store.index["group"].to_numpy(dtype=str)
    for place in np.unique(groups):
        others, here = np.flatnonzero(groups != place), np.flatnonzero(groups == place)
        bundle = model(row, bands, store, others, options)
        pairs = Pairs.of(store, bundle.card)
        predictor = load_predictor(bundle, "cpu")
        plain = baselines(pairs, others, TASK.evaluation)
        rules: dict[str, Rule] = {"": lambda radar, predictor=predictor: predictor.predict(radar)["reflectance"]}
        made = {name: rule(pairs.backscatter(here)) for name, rule in (rules | plain).items()}
        scores = {name: scored(pairs, here, pictures) for name, pictures in made.items()}
        for name in (*(plain if with_rules else ()), ""):
            places = found.setdefault(name, Places())
            places.scored[place] = with_gain(scores[name], scores[MEAN_COLOUR])
            places.made |= dict(zip(here.tolist(), made[name], strict=True))
    return found


def scored(pairs: Pairs, rows: Rows, made: Pictures) -> dict[str, float]:
    """The family's metrics of predicted pictures (N, K, H, W)."""
    true, valid = pairs.reflectance(rows)
    recipe = TASK.evaluation
    scores = TranslationScores(pairs.target.bands, recipe.data_range, recipe.display_stretch, None)
    scores.update(rows, np.ascontiguousarray(made), true, valid)
    return scores.metrics()


def model(row: Row, bands: str, store: PatchStore, others: Rows, options: argparse.Namespace) -> ModelBundle:
    """The model of a row that did not see a place."""
    weights = "none"
    if row.sample_pairs is not None:
        folder = options.sample or options.workspace / "sample"
        if not (folder / TASK.dataset.folder).is_dir():
            write_sample(folder, datasets=(TASK.dataset.folder,), scale=0.5)
        sample = cut_patches(catalog(folder, options), TASK.patches, options.workspace / "sample_patches")
        start = recipe(row.kind, bands, options.sample_steps, row.sample_pairs, weights, options.seed)
        bundle, saved = trained(start, sample, np.arange(len(sample)), options.workspace)
        if row.real_pairs is None:
            return bundle
        weights = str(saved / "weights.safetensors")
    following = recipe(row.kind, bands, options.steps, row.real_pairs or 0, weights, options.seed)
    return trained(following, store, others, options.workspace)[0]


def recipe(kind: str, bands: str, steps: int, pairs: int, weights: str, seed: int) -> Translation:
    """The task's recipe with a small network."""
    changes = {
        **SMALL,
        **OWN[kind],
        "weights": weights,
        "optimisation.steps_per_epoch": steps,
        "optimisation.seed": seed,
        **({"pairs": pairs, "loss.paired_l1": WEIGHT} if pairs else {}),
    }
    return with_parameters(TASK.variants[f"{kind}_{bands}"], changes)


def trained(start: Translation, store: PatchStore, rows: Rows, workspace: Path) -> tuple[ModelBundle, Path]:
    """The model that a recipe makes of some patches, trained or, if it lies in the workspace, opened; its folder."""
    table = store.index.iloc[rows][["patch_id", "group"]].assign(position=rows, classes="", split="train")
    splits = Splits(table, {"patches_version": store.data_version})
    folder = workspace / "trainings" / fingerprint(start, store, splits)
    if not (folder / "model").is_dir():
        run = TrainingRun(TASK.name, "radar_places", store, splits, folder, progress=False)
        family_of(start).train(start, run).save(folder / "model")
    return ModelBundle.open(folder / "model"), folder / "model"


def draw(table: Mapping[str, Places], bands: str, store: PatchStore, path: Path) -> None:
    """One line a place: radar (VV), each row's picture, the truth; the first three bands, stretched by the truth."""
    from matplotlib.figure import Figure

    from cloud_assets.reports.figures import figure_style, png, without_ticks
    from cloud_assets.storage import atomic_file

    names = TASK.variants[f"pix2pix_{bands}"].bands[:3]
    role = store.roles["optical"]
    channels = [role.bands.index(name) for name in names]
    first = store.index.reset_index().groupby("group")["index"].first()
    with figure_style():
        figure = Figure(figsize=(1.6 * (len(table) + 2), 1.75 * len(first)), layout="constrained")
        panels: Any = figure.subplots(len(first), len(table) + 2, squeeze=False)
        for line, row in zip(panels, first, strict=True):
            true = np.clip(store.array("optical")[row][channels] / 1e4, 0, 1)
            low, high = np.percentile(true, (1, 99), axis=(1, 2), keepdims=True)
            pictures: Sequence[tuple[str, Any]] = [
                *((name, places.made[row][:3]) for name, places in table.items()),
                ("truth", true),
            ]
            without_ticks(line[0])
            line[0].imshow(store.array("sar")[row][0], cmap="gray", vmin=-25, vmax=0)
            line[0].set_title("radar, VV", fontsize=6)
            for axes, (name, picture) in zip(line[1:], pictures, strict=True):
                shown = np.clip((picture - low) / np.maximum(high - low, 0.02), 0, 1)
                without_ticks(axes)
                axes.imshow(shown.transpose(1, 2, 0))
                axes.set_title(name.replace(", ", ",\n"), fontsize=6)
        with atomic_file(path) as temporary:
            temporary.write_bytes(png(figure))


if __name__ == "__main__":
    main()
