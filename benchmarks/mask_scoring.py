"""Cloud masks of models and other rules, scored on labelled patches: overall, thin cloud, edges, bright ground."""

import importlib.util
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families import load_predictor
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore, Role
from cloud_assets.reports.figures import TRUE_COLOUR
from cloud_assets.reports.predictions import band_channels, instrument_of
from cloud_assets.reports.statistics import confusion_counts, ratios

BRIGHT_GROUND = 0.25
"""Clear pixels of at least this mean visible reflectance are bright ground."""
EDGE_PIXELS = 4
"""Cloud pixels with anything else within this distance are an edge."""
_BATCH = 8
_UKIS_BANDS = ("blue", "green", "red", "nir")
_UKIS_CODES = np.array([CLEAR, THICK_CLOUD, CLOUD_SHADOW], np.uint8)


class MaskRule(Protocol):
    """Makes masks."""

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Cloud codes (N, H, W), 255 nodata, from digital numbers (N, C, H, W) of all bands of the role."""


@dataclass(frozen=True)
class ModelMask:
    """A trained model as a rule."""

    predictor: Predictor
    role: Role

    @classmethod
    def of(cls, bundle: ModelBundle, store: PatchStore) -> "ModelMask":
        """A model that predicts a store's patches, whatever instrument it learnt from."""
        role = store.roles[IMAGES]
        preprocessing = bundle.card.preprocessing.for_instrument(role.instrument)
        return cls(load_predictor(bundle.with_card(preprocessing=preprocessing)), role)

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """See :class:`MaskRule`."""
        channels = band_channels(self.role, self.predictor.card.preprocessing.bands)
        return np.asarray(self.predictor.predict(dn[:, channels])["mask"])


@dataclass(frozen=True)
class UkisMask:
    """The package ukis-csmask (Wieland et al. 2019, https://doi.org/10.1016/j.rse.2019.05.022), trained on a large set.

    Reads blue, green, red and near infrared, best at 30 m. It was made for reflectance corrected for the height of the
    sun; it gets the data's own.
    """

    role: Role

    @classmethod
    def fitting(cls, role: Role) -> "UkisMask | None":
        """The rule for a role; None if the package is not installed or the role lacks one of its bands."""
        if not all(importlib.util.find_spec(name) for name in ("ukis_csmask", "onnxruntime")):
            return None
        try:
            band_channels(role, _UKIS_BANDS)
        except NoUsablePatches:
            return None
        return cls(role)

    def mask(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """See :class:`MaskRule`."""
        from ukis_csmask.mask import CSmask

        instrument = instrument_of(self.role)
        channels = band_channels(self.role, _UKIS_BANDS)
        masks = []
        for patch in dn:
            valid = instrument.valid(patch)
            reflectance = np.where(valid, instrument.to_physical(patch[channels]), 0).astype(np.float32)
            found = CSmask(
                img=np.ascontiguousarray(np.moveaxis(reflectance, 0, -1)),
                band_order=list(_UKIS_BANDS),
                product_level="l1c",
                intra_op_num_threads=1,
                providers=["CPUExecutionProvider"],
            )
            masks.append(np.where(valid, _UKIS_CODES[found.csm[..., 0]], np.uint8(UNLABELLED)))
        return np.stack(masks)


@dataclass(frozen=True)
class MaskScores:
    """Counts of pixels, which can be added up over sets of patches."""

    confusion: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, np.int64))
    """(4,) true positive, false positive, false negative, true negative."""
    found: Counter[str] = field(default_factory=Counter)
    """Pixels called cloud, by the kind of place."""
    there: Counter[str] = field(default_factory=Counter)
    """All pixels, by the kind of place."""

    def __add__(self, other: "MaskScores") -> "MaskScores":
        return MaskScores(self.confusion + other.confusion, self.found + other.found, self.there + other.there)

    def metrics(self) -> dict[str, float]:
        """``iou``, ``precision``, ``recall`` and the shares called cloud by kind of place; undefined ones left out."""
        shares = ratios(self.confusion)
        metrics = {name: float(shares[name]) for name in ("iou", "precision", "recall")}
        metrics |= {name: self.found[name] / total for name, total in self.there.items()}
        return {name: value for name, value in metrics.items() if np.isfinite(value)}


def score_masks(rule: MaskRule, store: PatchStore, indices: npt.NDArray[np.int64]) -> MaskScores:
    """Applies a rule to patches with truth and counts.

    Args:
        rule: What makes the masks.
        store: The patches.
        indices: Rows of the store.

    Returns:
        Counts over all patches; unlabelled pixels and those that the rule takes for nodata are left out. Thick and thin
        cloud are counted apart where the truth tells them apart.
    """
    instrument = instrument_of(store.roles[IMAGES])
    channels = band_channels(store.roles[IMAGES], TRUE_COLOUR)
    has_kinds = any((store.masks[row] == THIN_CLOUD).any() for row in indices)
    total = MaskScores()
    for start in range(0, len(indices), _BATCH):
        rows = indices[start : start + _BATCH]
        dn, truth = store.array(IMAGES)[rows], store.masks[rows]
        mask = rule.mask(dn)
        scored = (truth != UNLABELLED) & (mask != UNLABELLED)
        is_cloud, found = np.isin(truth, (THICK_CLOUD, THIN_CLOUD)), np.isin(mask, (THICK_CLOUD, THIN_CLOUD))
        # The patch's own border is no edge.
        inside = np.asarray([binary_erosion(one, iterations=EDGE_PIXELS, border_value=1) for one in is_cloud], bool)
        bright = instrument.to_physical(dn[:, channels]).mean(axis=1) >= BRIGHT_GROUND
        places = {
            "recall_thick": (truth == THICK_CLOUD) & has_kinds,
            "recall_thin": truth == THIN_CLOUD,
            "recall_inside": inside,
            "recall_edge": is_cloud & ~inside,
            "false_on_bright_ground": ~is_cloud & bright,
        }
        total += MaskScores(
            confusion_counts(is_cloud[scored], found[scored]),
            Counter({name: int((found & place & scored).sum()) for name, place in places.items()}),
            Counter({name: int((place & scored).sum()) for name, place in places.items()}),
        )
    return total
