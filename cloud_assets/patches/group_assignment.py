"""Assigns whole groups to splits so that sizes, strata and classes come out even.

Folds come from scikit-learn's ``StratifiedGroupKFold``; groups are then moved, as few as possible, until every class is
in every split that can have it.
"""

import warnings

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe

_MOST_FOLDS = 20
"""Resolution of the fractions: 0.15 is three of twenty folds."""

Integers = npt.NDArray[np.int64]


def assign_groups(
    column: str,
    groups: npt.NDArray[np.str_],
    strata: Integers,
    presence: npt.NDArray[np.bool_],
    fractions: tuple[float, ...],
    seed: int,
) -> Integers:
    """Assigns each patch a split such that patches of a group stay together.

    Args:
        column: Name of the index column that ``groups`` comes from, for the error message.
        groups: (N,) group of each patch.
        strata: (N,) stratum of each patch, such as its coverage bin.
        presence: (N, K) whether class k occurs in the patch.
        fractions: Share of each split; a split with share 0 stays empty.
        seed: Seed of the shuffling.

    Returns:
        (N,) number of the split of each patch.

    Raises:
        InvalidRecipe: If there are fewer groups than splits with a share above 0.
    """
    names, members = np.unique(groups, return_inverse=True)
    wanted = [split for split, fraction in enumerate(fractions) if fraction > 0]
    if len(names) < len(wanted):
        raise InvalidRecipe(
            f"the patches come from {len(names)} different values of {column!r}, but {len(wanted)} splits that share "
            f"none need at least {len(wanted)}: add scenes, set a fraction to 0, or group by a finer column of the "
            "index (for example by='scene_id')."
        )
    folds = _folds(members, strata, min(_MOST_FOLDS, len(names)), seed)
    assigned = _share_out(folds, len(groups), fractions)
    of_group = np.array([assigned[members == group][0] for group in range(len(names))])
    return _spread_classes(of_group, members, presence, wanted)[members]


def carve_groups(
    column: str,
    assigned: Integers,
    target: int,
    share: float,
    groups: npt.NDArray[np.str_],
    strata: Integers,
    presence: npt.NDArray[np.bool_],
    seed: int,
) -> Integers:
    """Moves a share of the training groups (split 0) into a split that is still empty.

    Args:
        column: As in :func:`assign_groups`.
        assigned: (N,) split of each patch so far.
        target: The empty split.
        share: Share of the training patches to move.
        groups: As in :func:`assign_groups`.
        strata: As in :func:`assign_groups`.
        presence: As in :func:`assign_groups`.
        seed: As in :func:`assign_groups`.

    Returns:
        (N,) split of each patch.

    Raises:
        InvalidRecipe: If the training patches come from a single group.
    """
    train = assigned == 0
    parts = assign_groups(column, groups[train], strata[train], presence[train], (1 - share, share), seed)
    carved = assigned.copy()
    carved[train] = np.where(parts == 1, target, 0)
    return carved


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


def _spread_classes(
    of_group: Integers, members: Integers, presence: npt.NDArray[np.bool_], wanted: list[int]
) -> Integers:
    """Moves the smallest groups that bring a missing class into a split without taking one from where they were."""
    has = np.zeros((len(of_group), presence.shape[1]), bool)
    np.logical_or.at(has, members, presence)
    sizes = np.bincount(members)
    for _ in range(len(wanted) * presence.shape[1]):
        missing = [
            (split, kind)
            for kind in range(presence.shape[1])
            for split in wanted
            if not has[of_group == split, kind].any()
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


def _can_leave(group: int, of_group: Integers, has: npt.NDArray[np.bool_]) -> bool:
    left = of_group == of_group[group]
    left[group] = False
    return bool(left.any()) and bool((has[left].any(axis=0) | ~has[group]).all())
