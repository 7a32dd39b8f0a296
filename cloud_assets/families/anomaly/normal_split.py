"""Splits of the anomaly task: cloud-free patches everywhere, cloudy ones in the test split only."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from cloud_assets.datasets.image_folders import CLOUDY
from cloud_assets.datasets.image_folders import NORMAL as NORMAL
from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.patches.splits import SPLITS, Splits, assign_groups
from cloud_assets.patches.store import PatchStore

if TYPE_CHECKING:
    import pandas as pd

ANOMALOUS, UNUSED = CLOUDY, ""
"""Classes of patches in such splits besides :data:`NORMAL`; patches that are neither are left out."""


class NormalSplit(BaseModel, frozen=True, extra="forbid"):
    """Divides the normal patches; anomalous ones are only tested on.

    A patch with a label is what its label says. One without, from a data set with cloud masks, is normal if it holds no
    cloud at all, anomalous from some cover on, and left out in between.
    """

    by: str = Field("group", description="Index column whose values no two splits may share.")
    fractions: tuple[float, float, float] = Field(
        (0.6, 0.15, 0.25),
        description="Shares of the normal patches for training, validation and test; 0.6 and 0.15 part those that are "
        "not kept for the test 80 to 20.",
    )
    normal_label: str = Field(NORMAL, description="Label of normal patches.")
    anomalous_label: str = Field(ANOMALOUS, description="Label of anomalous patches.")
    anomalous_coverage: Annotated[float, Field(gt=0, le=100)] = Field(
        10.0, description="Without labels: least cloud cover of an anomalous patch, in percent."
    )
    minimum_valid: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="Patches with a smaller share of valid pixels are left out."
    )
    anomalies_in: tuple[Literal["validation", "test"], ...] = Field(
        ("test",), description="Splits that may hold anomalous patches; validation only to choose the threshold by F1."
    )
    seed: int = Field(0, ge=0, description="Seed of the shuffling.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise InvalidRecipe(f"the fractions of a split are shares above 0 that add up to 1, not {self.fractions}.")
        if "test" not in self.anomalies_in:
            raise InvalidRecipe("anomalies_in must name the test split: without anomalies there nothing can be judged.")
        return self

    def split(self, store: PatchStore) -> Splits:
        """Divides a store's patches.

        Normal patches are shared out group by group. An anomalous patch goes where the normal patches of its group are,
        is left out if it must not be there, and goes to the test split if its group has no normal patch; if validation
        may hold anomalies, it gets its share of such groups.

        Returns:
            The splits; ``classes`` of their table is ``noncloud`` or ``cloud``.

        Raises:
            NoUsablePatches: If no patch is normal.
            InvalidRecipe: If the normal patches come from fewer than three groups; if the index has no column ``by``.
        """
        index = store.index
        if self.by not in index.columns:
            raise InvalidRecipe(f"cannot split by {self.by!r}: the index has the columns {', '.join(index.columns)}.")
        classes = self.classes(index)
        normal = classes == NORMAL
        if not normal.any():
            found = ", ".join(sorted({str(label) for label in index["label"].dropna()})) or "none"
            raise NoUsablePatches(
                f"no patch is normal: none is labelled {self.normal_label!r} (labels: {found}) and none without label "
                f"is free of clouds, with at least {self.minimum_valid:.0%} valid pixels. Set normal_label, or lower "
                "minimum_valid."
            )
        groups = index[self.by].astype(str).to_numpy(dtype=str)
        count = int(normal.sum())
        shared_out = assign_groups(
            self.by, groups[normal], np.zeros(count, np.int64), np.ones((count, 1), bool), self.fractions, self.seed
        )
        split_of = dict(zip(groups[normal], shared_out, strict=True))
        assigned = np.array([split_of.get(group, SPLITS.index("test")) for group in groups])
        allowed = np.isin(np.array(SPLITS)[assigned], self.anomalies_in)
        if "validation" in self.anomalies_in:
            free = np.array(sorted({group for group in groups[classes == ANOMALOUS] if group not in split_of}))
            _, validation, test = self.fractions
            moved = np.random.default_rng(self.seed).permutation(free)
            moved = moved[: round(len(free) * validation / (validation + test))]
            assigned = np.where(np.isin(groups, moved), SPLITS.index("validation"), assigned)
        chosen = np.flatnonzero(normal | ((classes == ANOMALOUS) & allowed))
        table = index.loc[chosen, ["patch_id"]].assign(
            position=chosen, group=groups[chosen], classes=classes[chosen], split=np.array(SPLITS)[assigned[chosen]]
        )
        details = {
            "method": "normal patches grouped; anomalous ones held out",
            "recipe": self.model_dump(mode="json"),
            "patches_version": store.data_version,
            "confined": {ANOMALOUS: list(self.anomalies_in)},
        }
        return Splits(table.reset_index(drop=True), details)

    def classes(self, index: "pd.DataFrame") -> npt.NDArray[np.str_]:
        """(N,) ``noncloud``, ``cloud``, or an empty text for patches that are neither."""
        labels = index["label"]
        coverage = index["cloud_percentage"].to_numpy(dtype=float)
        unlabelled = labels.isna().to_numpy()
        normal = (labels == self.normal_label).to_numpy() | (unlabelled & (coverage == 0))
        anomalous = (labels == self.anomalous_label).to_numpy() | (unlabelled & (coverage >= self.anomalous_coverage))
        classes = np.where(normal, NORMAL, np.where(anomalous, ANOMALOUS, UNUSED))
        too_blank = index["valid_fraction"].to_numpy(dtype=float) < self.minimum_valid
        # A normal patch that its own mask calls cloudy would teach that clouds are normal.
        return np.where(too_blank | (normal & (np.nan_to_num(coverage) > 0)), UNUSED, classes)


def classes_of(splits: Splits, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Classes of some rows of the store, in their order; empty for rows that are in no split."""
    classes = splits.table.set_index("position")["classes"]
    return classes.reindex(rows, fill_value=UNUSED).to_numpy(dtype=str)
