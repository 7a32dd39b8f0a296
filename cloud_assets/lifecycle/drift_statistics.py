"""Whether a batch of new patches comes from the same world as the training data.

Two distances between distributions are taken for every feature: Kolmogorov and Smirnov's D, and the population
stability index (Siddiqi 2006, *Credit Risk Scorecards*). The usual bounds for them hold for independent samples, which
patches are not: those of one scene share ground, sun and weather, and ten patches of one scene tell little more than
one. So how large both may become by chance is found by drawing batches of the same structure — as many groups, as many
patches of each — from the reference itself and comparing each with the rest of it. The largest standardised distance
over all features decides, which keeps its error rate however many features there are (Westfall & Young 1993,
*Resampling-Based Multiple Testing*, section 2.5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from cloud_assets.errors import NoUsablePatches

Level = Literal["steady", "warning", "severe"]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BINS = 10
_FEWEST_GROUPS = 4
_SMALLEST_SPREAD = 1e-9


class DriftRecipe(BaseModel, frozen=True, extra="forbid"):
    """How drift is distinguished from chance."""

    resamples: int = Field(999, ge=99, le=100_000, description="Batches drawn from the reference to tell the usual.")
    warning: float = Field(
        0.02, gt=0, lt=1, description="A batch as unusual as this share of undisturbed ones, or more so, is a warning."
    )
    severe: float = Field(0.005, gt=0, lt=1, description="The same for a severe finding, which asks for a retraining.")
    severe_stability_index: float = Field(
        0.25, ge=0, description="A finding is severe only if a population stability index reaches this, too."
    )
    recent_scenes: int = Field(20, ge=1, description="So many of the latest scenes are tested together.")
    windows: int = Field(16, ge=1, le=400, description="Windows of a scene that are looked at.")
    patches: int = Field(200, ge=4, description="Most patches of a new batch that are looked at.")
    seed: int = Field(0, ge=0, description="Seed of the drawing.")


@dataclass(frozen=True)
class Sample:
    """Features of some patches."""

    features: Mapping[str, Array]  # (N,) values by name
    groups: npt.NDArray[np.int64]  # (N,) number of the group that each patch belongs to

    def __len__(self) -> int:
        return len(self.groups)

    def structure(self) -> tuple[int, ...]:
        """Patches of each group, largest group first."""
        return tuple(sorted(np.unique(self.groups, return_counts=True)[1].tolist(), reverse=True))


@dataclass(frozen=True)
class FeatureDrift:
    """How far one feature has moved."""

    name: str
    reference_median: float
    batch_median: float
    ks: float  # Kolmogorov and Smirnov's D, 0 to 1
    psi: float  # population stability index, 0 for equal distributions
    excess: float  # the larger of both distances, in standard deviations above what is usual for such batches


@dataclass(frozen=True)
class Drift:
    """What a comparison found."""

    p_value: float
    """Share of undisturbed batches of this structure that are as unusual, corrected for the number of features."""
    features: tuple[FeatureDrift, ...]  # most unusual first
    patches: int
    groups: int

    def level(self, recipe: DriftRecipe) -> Level:
        """What to make of it."""
        if self.p_value > recipe.warning:
            return "steady"
        is_large = max(feature.psi for feature in self.features) >= recipe.severe_stability_index
        return "severe" if self.p_value <= recipe.severe and is_large else "warning"


def population_stability_index(reference: Array, batch: Array) -> Array:
    """Sum of (q - p) ln(q / p) over (…, K) counts in bins: (…,), symmetric, 0 for equal shares.

    Half a count is added to each bin, so that empty ones count much but not infinitely.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True) for counts in (reference, batch))
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


class DriftDetector:
    """Compares batches with one reference; what is usual is found once for all batches of the same structure.

    Raises:
        NoUsablePatches: If the reference has fewer than four groups, or no feature.
    """

    def __init__(self, reference: Sample, recipe: DriftRecipe) -> None:
        groups = len(np.unique(reference.groups))
        if groups < _FEWEST_GROUPS or not reference.features:
            raise NoUsablePatches(
                f"drift is not measurable: the reference has {len(reference.features)} features of {groups} scenes or "
                f"regions, and it takes at least {_FEWEST_GROUPS}. Train on more scenes."
            )
        self._reference, self._recipe = reference, recipe
        self._usual: dict[tuple[int, ...], dict[str, Array]] = {}

    def compare(self, batch: Sample) -> Drift:
        """Compares a batch with the reference, feature by feature; features that only one of both has are left out.

        Of each group at most as many patches are looked at as the reference has of the middle one of its groups, for
        more of them would not be like what is drawn from it. Batches of more groups than half of the reference's are
        judged as if they had only that many: too mildly rather than too harshly.

        Raises:
            NoUsablePatches: If the batch is empty or has no feature of the reference.
        """
        batch = _thinned(batch, int(np.median(self._reference.structure())))
        names = [name for name in self._reference.features if name in batch.features]
        if not names or not len(batch):
            raise NoUsablePatches(
                f"drift is not measurable: {len(batch)} new patches with {len(names)} features of the reference. Check "
                "the incoming data: do the scenes hold data in the model's bands?"
            )
        structure = batch.structure()
        if structure not in self._usual:  # (2, R) distances of drawn batches from the rest of the reference
            drawn, rest = _draw(self._reference, structure, self._recipe)
            known_features = self._reference.features.items()
            self._usual[structure] = {name: _distances(values, values, drawn, rest) for name, values in known_features}
        usual = self._usual[structure]
        by_chance, details = [], []
        for name in names:
            known, new = self._reference.features[name], batch.features[name]
            is_new = np.repeat([[False, True]], [len(known), len(new)], axis=1)
            observed = _distances(known, np.concatenate([known, new]), is_new, ~is_new)[:, 0]
            centre, spread = usual[name].mean(axis=1), np.maximum(usual[name].std(axis=1), _SMALLEST_SPREAD)
            by_chance.append(((usual[name] - centre[:, None]) / spread[:, None]).max(axis=0))
            excess = float(((observed - centre) / spread).max())
            ks, psi = float(observed[0]), float(np.expm1(observed[1]))
            details.append(FeatureDrift(name, float(np.median(known)), float(np.median(new)), ks, psi, excess))
        details.sort(key=lambda feature: -feature.excess)
        exceeded = np.max(by_chance, axis=0) >= details[0].excess
        return Drift(
            p_value=float((1 + exceeded.sum()) / (1 + self._recipe.resamples)),
            features=tuple(details),
            patches=len(batch),
            groups=len(structure),
        )


def _thinned(sample: Sample, most: int) -> Sample:
    """At most so many patches of each group, at equal distances."""
    members = [np.flatnonzero(sample.groups == group) for group in np.unique(sample.groups)]
    kept = [rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)] for rows in members]
    rows = np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)
    return Sample({name: values[rows] for name, values in sample.features.items()}, sample.groups[rows])


def _draw(reference: Sample, structure: Sequence[int], recipe: DriftRecipe) -> tuple[Mask, Mask]:
    """Batches (R, N) of the wanted structure drawn from the reference, and what is left of it without their groups."""
    rng = np.random.default_rng(recipe.seed)
    members = [np.flatnonzero(reference.groups == group) for group in np.unique(reference.groups)]
    groups = min(len(structure), len(members) // 2)
    drawn = np.zeros((recipe.resamples, len(reference)), bool)
    rest = np.ones_like(drawn)
    for number in range(recipe.resamples):
        wanted = rng.permutation(np.asarray(structure))[:groups]
        for group, count in zip(rng.permutation(len(members))[:groups], wanted, strict=True):
            rest[number, members[group]] = False
            drawn[number, rng.permutation(members[group])[:count]] = True
    return drawn, rest


def _distances(reference: Array, values: Array, batches: Mask, rest: Mask) -> Array:
    """D and log(1 + PSI) of R batches and the rest, masks (R, N) of the (N,) values, (2, R).

    The bins hold equally many reference patches; the logarithm tames the index's long tail.
    """
    edges = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
    members = np.eye(len(edges) + 1)[np.searchsorted(edges, values, side="right")]
    indices = population_stability_index(rest @ members, batches @ members)
    return np.stack([_kolmogorov_smirnov(values, batches, rest), np.log1p(indices)])


def _kolmogorov_smirnov(values: Array, first: Mask, second: Mask) -> Array:
    """(R,) D of pairs of subsets, (R, N) masks, of the same (N,) values; ``scipy.stats.ks_2samp`` takes one pair."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # Where values are equal the distribution functions are compared after the last of them.
    last = np.append(ordered[1:] != ordered[:-1], True)
    shares = [
        np.cumsum(subset[:, order], axis=1)[:, last] / np.maximum(subset.sum(axis=1, keepdims=True), 1)
        for subset in (first, second)
    ]
    return np.asarray(np.abs(shares[0] - shares[1]).max(axis=1), np.float64)
