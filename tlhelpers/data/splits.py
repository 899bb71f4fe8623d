"""Dividing images into training, validation and test sets: by class, by group, and the same way each time."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlhelpers.errors import DataError, at_least


def split_indices(
    labels: ArrayLike, fractions: Sequence[float], *, groups: ArrayLike | None = None, seed: int = 0
) -> tuple[list[int], ...]:
    """The sorted indices of each split's images, stratified by class, without dividing a group.

    `labels` and `groups` (patient, drawing) have one entry for each image; `fractions` sum to 1. Every class is in
    every split. A split has its fraction of each class to within two images; with groups, to within the largest group:
    groups are placed from large to small, each where most images are still missing. (scikit-learn's
    `StratifiedGroupKFold` makes folds of equal size only, and may leave a class out.) A DataError says that the
    fractions do not sum to 1, or that a class has too few images or groups.
    """
    if len(fractions) < 2 or not all(0 < f < 1 for f in fractions) or not np.isclose(sum(fractions), 1):
        shown = ", ".join(f"{fraction:.4g}" for fraction in fractions)
        raise DataError(f"the fractions of the splits must lie between 0 and 1 and sum to 1, but they are {shown}.")
    classes, label = np.unique(np.asarray(labels), return_inverse=True)
    group = np.arange(label.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if np.ndim(labels) != 1 or label.size == 0 or group.shape != label.shape:
        raise DataError(f"labels and groups must be lists of one for each image, not {label.size} and {group.size}.")
    from scipy.sparse import coo_array

    table = coo_array((np.ones(len(label), dtype=np.intp), (group, label))).tocsr()  # images by group and class
    counts = np.bincount(table.indices)  # groups of each class
    if counts.min() < len(fractions):
        what = f"at least {len(fractions)} {'images' if table.shape[0] == len(label) else 'groups'}"
        raise DataError(f"class '{classes[counts.argmin()]}' needs {what}, one for each split, and has {counts.min()}.")
    at_least(0, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(20):  # another order may succeed where the first does not
        if (split := _distribute(table, np.array(fractions), rng)) is not None:
            return tuple(np.flatnonzero(split[group] == number).tolist() for number in range(len(fractions)))
    what = f"in which each of the {len(fractions)} splits has all {len(classes)} classes"
    raise DataError(f"no division of {table.shape[0]} groups was found {what}: more groups are needed.")


def groups_from(keys: Sequence[str], rule: str | re.Pattern[str] | Callable[[str], str]) -> list[str]:
    """The group of each image, from its key, such as "train/NORMAL/IM-0115-0001.jpeg".

    `rule` is a function from key to group, or a regular expression that is searched anywhere in the key. Its first
    bracketed group names the image's group; the whole match does if there is no bracket, or it took no part. A
    DataError says that the expression is not valid, or names the first few keys without a group.
    """
    if isinstance(rule, (str, re.Pattern)):
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise DataError(f"groups: {rule!r} is not a regular expression ({error}).") from error
        names = [match and ((pattern.groups and match[1]) or match[0]) for match in map(pattern.search, keys)]
        problem = f"do not match {pattern.pattern!r}"
    else:
        names, problem = [rule(key) for key in keys], "get no name from the function"
    if missing := [key for key, name in zip(keys, names, strict=True) if name is None or name == ""]:
        examples = ", ".join([*missing[:5], "..."][: len(missing)])
        raise DataError(f"groups: {len(missing)} of {len(keys)} images {problem}: {examples}")
    return [str(name) for name in names]


def joined_groups(*groupings: ArrayLike) -> NDArray[np.int32]:
    """Group numbers, shape (n,), such that images that share a group in any of the groupings share a number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found = [np.unique(np.asarray(grouping), return_index=True, return_inverse=True) for grouping in groupings]
    first = np.concatenate([first[number] for _, first, number in found])  # for each image, the first of its group
    count = len(first) // len(groupings)
    links = coo_array((np.ones(len(first)), (np.arange(len(first)) % count, first)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _distribute(table: Any, fractions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp] | None:
    """The split of each group, given the sparse table of images by group and class; None if a split lacks a class.

    Each group goes where it minimises the sum over splits and classes of (images - wanted)^2 / wanted.
    """
    sizes = table.sum(axis=1)
    in_class = np.append(table.sum(axis=0), sizes.sum())  # the last column counts images of any class
    wanted, groups_left = fractions[:, None] * in_class, np.bincount(table.indices)
    filled, split = np.zeros_like(wanted), np.empty(len(sizes), dtype=np.intp)
    order = rng.permutation(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        entries = slice(*table.indptr[group : group + 2])
        columns = np.append(table.indices[entries], -1)
        added = np.append(table.data[entries], sizes[group])
        now, goal = filled[:, columns], wanted[:, columns]
        cost = (added * (2 * (now - goal) + added) / goal).sum(axis=1)
        empty = now[:, :-1] == 0
        urgent = (empty & (empty.sum(axis=0) >= groups_left[columns[:-1]])).sum(axis=1)  # classes it must get now
        split[group] = np.where(urgent == urgent.max(), cost, np.inf).argmin()
        filled[split[group], columns] += added
        groups_left[columns[:-1]] -= 1
    return split if filled.all() else None
