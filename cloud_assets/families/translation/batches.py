"""Co-registered radar and optical patches of a store, and the batches that translation models are trained on."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.recipe import TranslationSection
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.learning.numbered_batches import NumberedBatches, OrderedBatches, Sample, padded, random_window
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import band_channels

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
_RADAR, _OPTICAL, _CHANGES = 0, 1, 2


@dataclass(frozen=True)
class Pairs:
    """The pairs of a store as a translation model sees them; each tuple is of radar, then optical."""

    store: PatchStore
    roles: tuple[str, str]  # names of the roles in the store
    channels: tuple[list[int], list[int]]  # which bands of each, in the order of the network
    scaling: tuple[Preprocessing, Preprocessing]

    @classmethod
    def of(cls, store: PatchStore, card: ModelCard) -> Self:
        """The pairs that a trained model reads and predicts.

        Raises:
            NoUsablePatches: If the store lacks a role or a band.
        """
        section = TranslationSection.of(card)
        roles, scaling = (section.input_role, section.output_role), (card.preprocessing, section.target)
        for role in roles:
            if role not in store.roles:
                raise NoUsablePatches(f"{store.directory} has no role {role!r}; it has {', '.join(store.roles)}.")
        radar, optical = (
            band_channels(store.roles[role], scale.bands) for role, scale in zip(roles, scaling, strict=True)
        )
        return cls(store, roles, (radar, optical), scaling)

    @property
    def target(self) -> Preprocessing:
        """Bands and scaling of the reflectance."""
        return self.scaling[_OPTICAL]

    def backscatter(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """(N, C, H, W) raw radar values of some rows, bands in the model's order."""
        return self.store.array(self.roles[_RADAR])[rows][:, self.channels[_RADAR]]

    def reflectance(self, rows: npt.NDArray[np.int64]) -> tuple[Floats, Flags]:
        """(N, K, H, W) true reflectance, clipped as the model's output is, and where both sensors saw (N, H, W)."""
        physical, valid = self.target.to_physical(
            self.store.array(self.roles[_OPTICAL])[rows][:, self.channels[_OPTICAL]]
        )
        seen = self.scaling[_RADAR].profile.valid(self.backscatter(rows))
        return np.clip(physical, *self.target.clip), valid & seen

    def read(self, side: int, row: int, window: tuple[slice, slice]) -> tuple[Floats, Flags]:
        """Physical values (C, h, w) and validity (h, w) of a window of one patch; ``side`` 0 for radar, 1 optical."""
        dn: npt.NDArray[Any] = self.store.array(self.roles[side])[row, :, *window]
        return self.scaling[side].to_physical(dn[self.channels[side]])

    def scaled(self, radar: Floats, seen: Flags, optical: Floats, observed: Flags, multiple: int) -> Sample:
        """Normalises physical values of both sides and mirrors the pictures up to a multiple of some pixels."""
        made, there = padded(self.scaling[_RADAR].normalise(radar, seen), seen, multiple, fill=False)
        other, known = padded(self.target.normalise(optical, observed), observed, multiple, fill=False)
        return made, there[None], other, known[None]


@dataclass(frozen=True, eq=False)
class TrainingPairs(NumberedBatches):
    """Training batches: pairs cropped, flipped and scaled.

    A batch holds radar (N, C, H, W) and optical (N, K, H, W) pictures, each followed by its validity (N, 1, H, W), and
    whether the two are of the same place, 0 or 1 (N, 1, 1, 1).
    """

    pairs: Pairs
    indices: npt.NDArray[np.int64]  # rows of the training split
    known: npt.NDArray[np.int64]
    """Those of them that unpaired batches know as pairs; every second sample is one of them."""
    augmenter: Augmenter  # flips them, both sensors alike where they are paired
    is_paired: bool  # whether the optical patch is of the same place as the radar patch, or of another
    crop: int | None  # side of random crops, pixels; None for whole patches
    multiple: int  # height and width are mirrored up to multiples of this

    def sample(self, stream: int, position: int) -> Sample:
        """Radar and optical picture, their validity, and whether they are of the same place."""
        is_pair = self.is_paired or (len(self.known) > 0 and position % 2 == 1)
        matched = np.full((1, 1, 1), is_pair, np.float32)
        radar, seen = self._read(_RADAR, _RADAR, position)
        if is_pair:
            optical, observed = self._read(_OPTICAL, _RADAR, position)
            both, valid = self._augmented(_RADAR, position, np.concatenate([radar, optical]), seen & observed)
            return *self.pairs.scaled(both[: len(radar)], valid, both[len(radar) :], valid, self.multiple), matched
        radar, seen = self._augmented(_RADAR, position, radar, seen)
        optical, observed = self._augmented(_OPTICAL, position, *self._read(_OPTICAL, _OPTICAL, position))
        return *self.pairs.scaled(radar, seen, optical, observed, self.multiple), matched

    def _read(self, side: int, order: int, position: int) -> tuple[Floats, Flags]:
        """A window of one side of the pair at a position of the order of one side."""
        rows = self.known if position % 2 and len(self.known) else self.indices
        row = int(rows[self.place(len(rows), position, order)])
        rng = np.random.default_rng((self.seed, order, position))
        shape = self.pairs.store.roles[self.pairs.roles[order]].shape[1:]
        return self.pairs.read(side, row, random_window(rng, shape, self.crop))

    def _augmented(self, side: int, position: int, physical: Floats, valid: Flags) -> tuple[Floats, Flags]:
        key = (self.seed, side, position, _CHANGES)
        changed = self.augmenter(np.ascontiguousarray(physical.transpose(1, 2, 0)), None, valid, key=key)
        return changed.image.transpose(2, 0, 1), changed.valid


@dataclass(frozen=True, eq=False)
class WholePairs(OrderedBatches):
    """Validation batches of the same form: whole pairs in their order."""

    pairs: Pairs
    indices: npt.NDArray[np.int64]  # rows of the store
    multiple: int  # height and width are mirrored up to multiples of this; what is added is not valid

    @property
    def count(self) -> int:
        """Number of pairs."""
        return len(self.indices)

    def sample(self, position: int) -> Sample:
        """Radar and optical picture and their validity."""
        row, everything = int(self.indices[position]), (slice(None), slice(None))
        (radar, seen), (optical, observed) = (self.pairs.read(side, row, everything) for side in (_RADAR, _OPTICAL))
        return self.pairs.scaled(radar, seen & observed, optical, seen & observed, self.multiple)
