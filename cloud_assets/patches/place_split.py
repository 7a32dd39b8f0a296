"""Splits of data sets with few places, or with a published list of test patches that leaves the others open."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import Field

from cloud_assets.errors import InvalidRecipe
from cloud_assets.patches.splits import Classes, GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore

if TYPE_CHECKING:
    import pandas as pd

_PLACES_TO_TEST = 2


class PlaceSplit(GroupedSplit):
    """A grouped split that makes do with two places and honours an incomplete official list.

    With two places one is trained on and the other tested on, and there is no validation. With an official list of
    test patches only (SEN12MS has such lists), validation is carved out of the other places; unlisted patches of a
    place with listed ones are left out, for they would give the test away.
    """

    stratify: None = Field(None, description="Nothing is spread evenly: there are no masks.")
    classes: Classes = Field("none", description="No split has to hold any class: there are no masks.")

    def split(self, store: PatchStore) -> Splits:
        """Divides a store's patches; see :meth:`GroupedSplit.split`."""
        listed = store.index["official_split"].notna()
        if self.prefer_official and listed.any() and not listed.all():
            return self._with_list(store)
        return self._whole(store)

    def _whole(self, store: PatchStore) -> Splits:
        try:
            return super().split(store)
        except InvalidRecipe:
            if store.index[self.by].nunique() < _PLACES_TO_TEST or self.fractions[1] == 0:
                raise
            train, _, test = self.fractions
            fractions = (train / (train + test), 0.0, test / (train + test))
            return self.model_copy(update={"fractions": fractions})._whole(store)

    def _with_list(self, store: PatchStore) -> Splits:
        index = store.index
        listed = index["official_split"].notna()
        is_held_out = index[self.by].isin(index.loc[listed, self.by])
        official = index["official_split"].where(listed, is_held_out.map({True: "test", False: "train"}))
        filled = _Indexed(index.assign(official_split=official), store.data_version)
        splits = self._whole(cast("PatchStore", filled))
        unlisted = set(index.loc[is_held_out & ~listed, "patch_id"])
        table = splits.table[~splits.table["patch_id"].isin(unlisted)].reset_index(drop=True)
        return Splits(table, {**splits.details, "left_out": len(unlisted)})


@dataclass(frozen=True)
class _Indexed:
    """What a split reads of a store."""

    index: "pd.DataFrame"
    data_version: str
