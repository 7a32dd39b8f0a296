"""Splits that share no scene: official ones where every patch has one, else grouped and stratified by coverage.

Folds come from scikit-learn's ``StratifiedGroupKFold``; groups are then moved, as few as possible, until every class is
in every split that can have it.
"""

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidData, InvalidRecipe, NoUsablePatches
from cloud_assets.patches.store import PatchStore

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
Classes = Literal["binary", "four", "coverage", "label", "none"]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_MOST_FOLDS = 20  # resolution of the fractions: 0.15 is three of twenty folds


class GroupedSplit(BaseModel, frozen=True, extra="forbid"):
    """How patches are divided into training, validation and test without cutting a group."""

    by: str = Field("group", description="Index column whose values no two splits may share.")
    stratify: Literal["cloud_percentage", "label"] | None = Field(
        "cloud_percentage",
        description="What is spread evenly over the splits: cloud coverage in bins, the image label, or nothing.",
    )
    coverage_bins: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = Field(
        (25.0, 50.0, 75.0), description="Boundaries of the coverage bins in percent."
    )
    classes: Classes = Field(
        "binary",
        description="Which classes every split must hold: clear and cloud (binary), the cloud codes that occur (four), "
        "the coverage bins that occur (coverage), the image labels (label), or none.",
    )
    fractions: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15), description="Shares of training, validation and test."
    )
    seed: int = Field(0, ge=0, description="Seed of the shuffling.")
    prefer_official: bool = Field(True, description="Use the published split where every patch has one.")
    label_types: tuple[str, ...] = Field((), description="Only use patches with these label types; empty: all.")
    held_out_label_types: tuple[str, ...] = Field(
        (), description="Only keep these label types in validation and test (the best labels); empty: all."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise InvalidRecipe(f"the fractions of a split are shares that add up to 1, not {self.fractions}.")
        if self.fractions[0] == 0:
            raise InvalidRecipe("the training split must not be empty: its fraction is 0.")
        if list(self.coverage_bins) != sorted(set(self.coverage_bins)):
            raise InvalidRecipe(f"coverage_bins must rise, not {self.coverage_bins}.")
        return self

    def split(self, store: PatchStore) -> "Splits":
        """Divides a store's patches.

        Raises:
            NoUsablePatches: If no patch has one of the wanted label types.
            InvalidRecipe: If there are fewer groups than splits; if the index has no column ``by``.
        """
        return self._divide(store.index, store.data_version)

    def _divide(self, index: "pd.DataFrame", patches_version: str) -> "Splits":
        if self.by not in index.columns:
            raise InvalidRecipe(f"cannot split by {self.by!r}: the index has the columns {', '.join(index.columns)}.")
        chosen = _of_label_types(index, self.label_types)
        if not chosen.any():
            found = sorted(index["label_type"].dropna().unique())
            raise NoUsablePatches(
                f"no patch has a label of {', '.join(self.label_types)}; there are: {', '.join(found) or 'none'}."
            )
        table = index.loc[chosen, ["patch_id"]].assign(
            position=np.flatnonzero(chosen),
            group=index.loc[chosen, self.by].astype(str),
            classes=patch_classes(self, index[chosen]),
        )
        groups = table["group"].to_numpy(dtype=str)
        strata = self._strata(index[chosen])
        testable = _of_label_types(index[chosen], self.held_out_label_types)
        presence = _presence(table["classes"]).to_numpy(dtype=bool) & testable[:, None]
        official = index.loc[chosen, "official_split"]
        if self.prefer_official and official.notna().all():
            assigned, method = self._official(official.to_numpy(dtype=str), groups, strata, presence)
        else:
            # Groups that cannot be tested on, because their labels are not good enough, all go to training.
            useful = np.isin(groups, groups[testable])
            assigned, method = np.zeros(len(groups), np.int64), "grouped"
            assigned[useful] = assign_groups(
                self.by, groups[useful], strata[useful], presence[useful], self.fractions, self.seed
            )
        table["split"] = np.array(SPLITS)[assigned]
        table = table[testable | (assigned == 0)]
        return Splits(
            table.reset_index(drop=True),
            {"method": method, "recipe": self.model_dump(mode="json"), "patches_version": patches_version},
        )

    def _official(
        self, official: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], strata: Integers, presence: Flags
    ) -> tuple[Integers, str]:
        unknown = sorted(set(official) - set(SPLITS))
        if unknown:
            raise InvalidRecipe(f"official splits must be {', '.join(SPLITS)}; the catalogue has {', '.join(unknown)}.")
        assigned = np.array([SPLITS.index(name) for name in official], dtype=np.int64)
        method = "official"
        for missing in (2, 1):
            if self.fractions[missing] > 0 and not (assigned == missing).any():
                share = self.fractions[missing] / (self.fractions[missing] + self.fractions[0])
                train = assigned == 0
                parts = assign_groups(
                    self.by, groups[train], strata[train], presence[train], (1 - share, share), self.seed
                )
                assigned[train] = np.where(parts == 1, missing, 0)
                method += f", {SPLITS[missing]} carved out of train"
        return assigned, method

    def _strata(self, index: "pd.DataFrame") -> Integers:
        import pandas as pd

        if self.stratify is None:
            return np.zeros(len(index), np.int64)
        by_coverage = self.stratify == "cloud_percentage"
        values = pd.Index(_coverage_bin(index, self.coverage_bins) if by_coverage else index["label"])
        return np.asarray(pd.factorize(values, sort=True)[0], dtype=np.int64) + 1  # 1: pandas gives missing values -1


def patch_classes(recipe: GroupedSplit, index: "pd.DataFrame") -> list[str]:
    """Names of the classes that occur in each patch, joined by commas, as ``recipe.classes`` asks for."""
    if recipe.classes == "none":
        return [""] * len(index)
    if recipe.classes == "label":
        return [str(label) for label in index["label"].fillna("")]
    if recipe.classes == "coverage":
        return [str(name) for name in _coverage_bin(index, recipe.coverage_bins)]
    names = ("clear", "cloud") if recipe.classes == "binary" else ("clear", "thick", "thin", "cloud_shadow")
    # For cloud against clear, shadow is clear: it is everything that is no cloud.
    shares = {name: index[f"{name}_percentage"].to_numpy() for name in names}
    if recipe.classes == "binary":
        shares["clear"] = 100 - shares["cloud"]
    present = np.stack([np.nan_to_num(share) > 1e-9 for share in shares.values()], axis=1)
    return [",".join(name for name, there in zip(names, row, strict=True) if there) for row in present]


class Splits:
    """Which patch belongs to which split.

    Args:
        table: Columns ``patch_id``, ``position`` (row of the store), ``group``, ``classes`` and ``split``.
        details: ``method``, ``recipe`` and ``patches_version``, JSON-serialisable; ``confined``, if there, names for
            some classes the only splits that may hold them.
    """

    def __init__(self, table: "pd.DataFrame", details: Mapping[str, Any]) -> None:
        self.table = table
        self.details = dict(details)

    @classmethod
    def open(cls, directory: Path | str) -> "Splits":
        """Opens splits that :meth:`save` wrote.

        Raises:
            InvalidData: If a file is missing or damaged.
        """
        import pandas as pd

        directory = Path(directory)
        try:
            return cls(
                pd.read_parquet(directory / "splits.parquet"),
                json.loads((directory / "splits.json").read_text(encoding="utf-8")),
            )
        except (OSError, ValueError) as error:
            raise InvalidData(f"{directory} holds no complete splits ({error}): materialise them again.") from error

    def save(self, directory: Path) -> None:
        """Writes ``splits.parquet`` and ``splits.json`` into a folder."""
        directory.mkdir(parents=True, exist_ok=True)
        self.table.to_parquet(directory / "splits.parquet", index=False)
        details = {**self.details, "data_version": self.data_version, "summary": self.summary()}
        (directory / "splits.json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.table)

    def check_belongs_to(self, store: PatchStore) -> None:
        """Makes sure that these splits divide the patches of a store, and not those that were there before.

        Raises:
            InvalidRecipe: If they were made for other patches.
        """
        version = self.details.get("patches_version", store.data_version)
        if version != store.data_version:
            raise InvalidRecipe(
                f"the splits were made for other patches ({version}) than those in {store.directory} "
                f"({store.data_version}); make the splits anew."
            )

    @property
    def data_version(self) -> str:
        """Changes when a patch changes its split."""
        rows = self.table[["patch_id", "group", "split"]].itertuples(index=False, name=None)
        return blake2b("\n".join("|".join(row) for row in rows).encode(), digest_size=16).hexdigest()

    def indices(self, split: str) -> Integers:
        """Rows of the store that belong to ``train``, ``validation`` or ``test``, rising."""
        if split not in SPLITS:
            raise InvalidRecipe(f"{split!r} is no split; there are {', '.join(SPLITS)}.")
        return self.table.loc[self.table["split"] == split, "position"].to_numpy(dtype=np.int64)

    def leaking_groups(self) -> list[str]:
        """Groups with patches in more than one split; empty when all is well."""
        splits = self.table.groupby("group")["split"].nunique()
        return sorted(str(group) for group in splits.index[splits > 1])

    def missing_classes(self) -> dict[str, list[str]]:
        """Classes that occur somewhere but not in a split, by split."""
        found = _presence(self.table["classes"]).groupby(self.table["split"]).any()
        found = found.reindex(self._wanted_splits(), fill_value=False)
        absent = ~found.loc[:, found.any()]
        missing = {
            split: [str(name) for name in absent if absent.at[split, name] and self._may_hold(split, name)]
            for split in self._wanted_splits()
        }
        return {split: names for split, names in missing.items() if names}

    def misplaced(self) -> dict[str, int]:
        """Patches of classes that are confined to other splits (``details["confined"]``), counted by split."""
        presence, counts = _presence(self.table["classes"]), {}
        for split in SPLITS:
            forbidden = [name for name in presence if not self._may_hold(split, name)]
            counts[split] = int(presence.loc[self.table["split"] == split, forbidden].any(axis=1).sum())
        return {split: count for split, count in counts.items() if count}

    def class_problems(self) -> list[str]:
        """Empty splits and classes that are missing or misplaced, in words; empty when all is well."""
        problems = [f"the {split} split is empty." for split in self._wanted_splits() if not len(self.indices(split))]
        for split, classes in self.missing_classes().items():
            if len(self.indices(split)):
                problems.append(f"the {split} split holds no {' and no '.join(classes)}.")
        for split, count in self.misplaced().items():
            problems.append(f"{count} patches in the {split} split are of a class that must not be there.")
        return problems

    def summary(self) -> dict[str, dict[str, int]]:
        """Patches, groups and patches with each class, by split."""
        presence, summary = _presence(self.table["classes"]), {}
        for split in SPLITS:
            chosen = self.table["split"] == split
            groups = int(self.table.loc[chosen, "group"].nunique())
            counts = {str(name): int(count) for name, count in presence[chosen].sum().items()}
            summary[split] = {"patches": int(chosen.sum()), "groups": groups, **counts}
        return summary

    def _may_hold(self, split: str, name: Hashable) -> bool:
        return split in self.details.get("confined", {}).get(name, SPLITS)

    def _wanted_splits(self) -> tuple[str, ...]:
        fractions = self.details.get("recipe", {}).get("fractions", (1, 1, 1))
        return tuple(split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0)


def _of_label_types(index: "pd.DataFrame", label_types: Sequence[str]) -> Flags:
    if not label_types:
        return np.ones(len(index), bool)
    return index["label_type"].isin(list(label_types)).to_numpy(dtype=bool)


def _coverage_bin(index: "pd.DataFrame", boundaries: Sequence[float]) -> list[str]:
    names = [f"{low:g}-{high:g} %" for low, high in pairwise((0.0, *boundaries, 100.0))]
    percentage = index["cloud_percentage"].to_numpy()
    bins = np.searchsorted(np.asarray(boundaries), np.nan_to_num(percentage), side="right")
    return ["" if np.isnan(share) else names[place] for share, place in zip(percentage, bins, strict=True)]


def _presence(classes: "pd.Series[str]") -> "pd.DataFrame":
    """One row a patch, one column a class, in the order of their names: whether it occurs there."""
    return classes.str.get_dummies(",").astype(bool)


class PlaceSplit(GroupedSplit):
    """A grouped split that makes do with two places and honours an incomplete official list.

    With two places one is trained on and the other tested on, and there is no validation. With an official list of
    test patches only (SEN12MS has such lists), validation is carved out of the other places; unlisted patches of a
    place with listed ones are left out, for they would give the test away.
    """

    stratify: None = Field(None, description="Nothing is spread evenly: there are no masks.")
    classes: Classes = Field("none", description="No split has to hold any class: there are no masks.")

    def _divide(self, index: "pd.DataFrame", patches_version: str) -> Splits:
        official = index["official_split"]
        listed = official.notna()
        if not self.prefer_official or not listed.any() or listed.all():
            return self._whole(index, patches_version)
        is_held_out = index[self.by].isin(index.loc[listed, self.by])
        filled = official.where(listed, is_held_out.map({True: "test", False: "train"}))
        splits = self._whole(index.assign(official_split=filled), patches_version)
        unlisted = set(index.loc[is_held_out & ~listed, "patch_id"])
        table = splits.table[~splits.table["patch_id"].isin(unlisted)].reset_index(drop=True)
        return Splits(table, {**splits.details, "left_out": len(unlisted)})

    def _whole(self, index: "pd.DataFrame", patches_version: str) -> Splits:
        try:
            return super()._divide(index, patches_version)
        except InvalidRecipe:
            if index[self.by].nunique() < 2 or self.fractions[1] == 0:
                raise
            train, _, test = self.fractions
            fractions = (train / (train + test), 0.0, test / (train + test))
            return self.model_copy(update={"fractions": fractions})._whole(index, patches_version)


def assign_groups(
    by: str, groups: npt.NDArray[np.str_], strata: Integers, presence: Flags, fractions: tuple[float, ...], seed: int
) -> Integers:
    """Assigns each patch (N) the number of a split such that patches of a group stay together.

    ``strata`` (N,) are coverage bins, for example; ``presence`` (N, K) tells whether class k occurs in the patch. A
    split whose fraction is 0 stays empty. ``by`` is what the groups come from, for the error message.

    Raises:
        InvalidRecipe: If there are fewer groups than splits with a share above 0.
    """
    names, members = np.unique(groups, return_inverse=True)
    wanted = [split for split, fraction in enumerate(fractions) if fraction > 0]
    if len(names) < len(wanted):
        raise InvalidRecipe(
            f"the patches come from {len(names)} different values of {by!r}, but {len(wanted)} splits that share "
            f"none need at least {len(wanted)}: add scenes, set a fraction to 0, or group by a finer column of the "
            "index (for example by='scene_id')."
        )
    folds = _folds(members, strata, min(_MOST_FOLDS, len(names)), seed)
    assigned = _share_out(folds, len(groups), fractions)
    of_group = np.array([assigned[members == group][0] for group in range(len(names))])
    return _spread_classes(of_group, members, presence, wanted)[members]


def _folds(members: Integers, strata: Integers, count: int, seed: int) -> list[Integers]:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    # Stratification needs a stratum with as many members as folds; tiny sets go without.
    stratified = np.bincount(strata).max() >= count
    splitter = (StratifiedGroupKFold if stratified else GroupKFold)(n_splits=count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = [np.asarray(part, np.int64) for _, part in splitter.split(members, strata, members)]
    return [part for part in parts if len(part)]


def _share_out(folds: list[Integers], total: int, fractions: tuple[float, ...]) -> Integers:
    """Gives each fold, largest first, to the split that lacks most; no split that needs patches stays empty."""
    assigned = np.zeros(total, np.int64)
    lacking = np.array(fractions) * total
    empty = {split for split, fraction in enumerate(fractions) if fraction > 0}
    by_size = sorted(folds, key=len, reverse=True)
    for number, fold in enumerate(by_size):
        candidates = sorted(empty) if len(by_size) - number <= len(empty) else range(len(fractions))
        split = max(candidates, key=lambda candidate: lacking[candidate])
        assigned[fold] = split
        lacking[split] -= len(fold)
        empty.discard(split)
    return assigned


def _spread_classes(of_group: Integers, members: Integers, presence: Flags, wanted: list[int]) -> Integers:
    """Moves the smallest groups that bring a missing class into a split without taking one from where they were."""
    has = np.zeros((len(of_group), presence.shape[1]), bool)
    np.logical_or.at(has, members, presence)
    sizes = np.bincount(members)
    for _ in range(len(wanted) * presence.shape[1]):
        missing = [
            (split, kind) for kind in range(has.shape[1]) for split in wanted if not has[of_group == split, kind].any()
        ]
        moves = [
            (sizes[group], group, split)
            for split, kind in missing
            for group in np.flatnonzero(has[:, kind])
            if _can_leave(int(group), of_group, has)
        ]
        if not moves:
            break
        _, group, split = min(moves)
        of_group[group] = split
    return of_group


def _can_leave(group: int, of_group: Integers, has: Flags) -> bool:
    left = of_group == of_group[group]
    left[group] = False
    return bool(left.any()) and bool((has[left].any(axis=0) | ~has[group]).all())
