"""Dividing images into training, validation and test: by class, by group, and the same way each time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlhelpers.errors import DataError

_ATTEMPTS = 20  # orders of dealing that are tried before a division is called impossible
_SHOWN = 5  # examples that an error names


def split_indices(
    labels: ArrayLike, fractions: Sequence[float], *, groups: ArrayLike | None = None, seed: int = 0
) -> tuple[list[int], ...]:
    """Divide images into parts, so that each part has its share of every class and no group is divided.

    Without groups a part's number of images of a class is its share, to within one or two; with groups it is
    as near as whole groups allow. Every class is in every part. scikit-learn's `StratifiedGroupKFold` makes
    parts of equal size only, hence this: groups are dealt largest first, each to the part that lacks it most.

    Args:
        labels: class of each image, shape (n,): numbers or names. Sort the images by name beforehand, and
            the division does not depend on the order in which an operating system lists them.
        fractions: share of each part, such as (0.7, 0.15, 0.15); they sum to 1.
        groups: group (patient, drawing) of each image, shape (n,); None lets each image stand alone.
        seed: another seed gives another division.

    Returns:
        For each part the sorted indices of its images. The parts are disjoint and together complete.

    Raises:
        DataError: if the fractions are not shares of a whole, or a class has too few images or groups.
    """
    _check_fractions(fractions)
    classes, label = np.unique(np.asarray(labels), return_inverse=True)
    if np.ndim(labels) != 1 or len(label) == 0:
        raise DataError(f"labels must be one class for each of the images, not of shape {np.shape(labels)}.")
    group = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if group.shape != label.shape:
        raise DataError(f"there are {len(label)} labels, but {group.size} groups.")
    pairs, counts = np.unique(np.stack([group, label]), axis=1, return_counts=True)
    for name, count in zip(classes, np.bincount(pairs[1]), strict=True):
        if count < len(fractions):
            what = "image" if groups is None else "group"
            raise DataError(
                f"class '{name}' has only {count} {what}{'' if count == 1 else 's'}, but each of the "
                f"{len(fractions)} parts needs one: at least {len(fractions)} are needed."
            )
    part = _deal(pairs, counts, np.array(fractions), np.random.default_rng(seed))[group]
    return tuple(np.flatnonzero(part == number).tolist() for number in range(len(fractions)))


def groups_from(keys: Sequence[str], rule: str | re.Pattern[str] | Callable[[str], str]) -> list[str]:
    """The group of each image, read off its key.

    Args:
        keys: names of the images, such as "train/NORMAL/IM-0115-0001.jpeg".
        rule: a regular expression, searched anywhere in the key: its first bracketed group, or the whole match
            where it has none, is the name of the image's group. Or a function from key to group.

    Raises:
        DataError: if the expression is not valid, or some keys have no group; the first few are named.
    """
    if isinstance(rule, (str, re.Pattern)):
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise DataError(f"groups: {rule!r} is not a regular expression ({error}).") from error
        found: list[Any] = [_matched(pattern.search(key)) for key in keys]
        what = f"do not match {pattern.pattern!r}"
    else:
        found = [rule(key) for key in keys]
        what = "get no name from the function"
    without = [key for key, name in zip(keys, found, strict=True) if name is None or name == ""]
    if without:
        examples = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
        raise DataError(f"groups: {len(without)} of {len(keys)} images {what}: {examples}")
    return [str(name) for name in found]


def joined_groups(*groupings: ArrayLike) -> NDArray[np.intp]:
    """Numbers of the groups that arise when images that share a group in any of the groupings stay together.

    `joined_groups(patients, sha256)` keeps a patient's images together, and with them the patients of whom
    the folder holds the same file.

    Args:
        groupings: group of each image, shape (n,) each.

    Returns:
        Shape (n,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(np.asarray(groupings[0]))
    images, nodes, total = [], [], count  # a graph of images and groups; its components are wanted
    for grouping in groupings:
        names, number = np.unique(np.asarray(grouping), return_inverse=True)
        images.append(np.arange(count))
        nodes.append(number + total)
        total += len(names)
    rows, columns = np.concatenate(images), np.concatenate(nodes)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(total, total))
    component = connected_components(graph, directed=False)[1][:count]
    return np.unique(component, return_inverse=True)[1]


def _matched(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    return (match[1] if match.re.groups else None) or match[0]


def _check_fractions(fractions: Sequence[float]) -> None:
    shares = ", ".join(f"{share:.4g}" for share in fractions)
    if not all(0 < share < 1 for share in fractions):
        raise DataError(f"the share of each part must lie between 0 and 1, but the shares are {shares}.")
    if len(fractions) < 2 or not np.isclose(sum(fractions), 1):
        raise DataError(f"the shares of two or more parts must sum to 1, but they are {shares}.")


def _deal(
    pairs: NDArray[np.intp], counts: NDArray[np.intp], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """The part of each group.

    Args:
        pairs: (group, class) of every combination that occurs, shape (2, m), sorted by group.
        counts: images of each combination, shape (m,).
        shares: of each part, summing to 1, shape (p,).
        rng: decides the order among groups of the same size.

    Returns:
        Number of the part, shape (groups,).
    """
    for _ in range(_ATTEMPTS):
        part, lacking = _deal_once(pairs, counts, shares, rng)
        if not lacking:
            return part
    raise DataError(
        f"no division was found in which every part has every class: there are too few groups, or their classes "
        f"are too mixed ({pairs[0].max() + 1} groups, {pairs[1].max() + 1} classes, {len(shares)} parts)."
    )


def _deal_once(
    pairs: NDArray[np.intp], counts: NDArray[np.intp], shares: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.intp], bool]:
    """One try of `_deal`; also whether a part ended without some class.

    Where a group goes minimises the sum over parts and classes of (images - wanted)² / wanted.
    """
    everything = int(pairs[1].max()) + 1  # a column for images of any class, so that roundings do not add up
    wanted = shares[:, None] * np.append(np.bincount(pairs[1], counts), counts.sum())
    filled = np.zeros_like(wanted)
    groups_left = np.bincount(pairs[1])
    bounds = np.searchsorted(pairs[0], np.arange(pairs[0].max() + 2))
    sizes = np.add.reduceat(counts, bounds[:-1])
    order = rng.permutation(len(sizes))
    part = np.empty(len(sizes), dtype=np.intp)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        own = slice(bounds[group], bounds[group + 1])
        columns = np.append(pairs[1, own], everything)
        added = np.append(counts[own], sizes[group])
        now, goal = filled[:, columns], wanted[:, columns]
        cost = (added * (2 * (now - goal) + added) / goal).sum(axis=1)
        empty = now[:, :-1] == 0
        due = (empty & (empty.sum(axis=0) >= groups_left[columns[:-1]])).sum(axis=1)  # now or never
        part[group] = np.where(due == due.max(), cost, np.inf).argmin()
        filled[part[group], columns] += added
        groups_left[columns[:-1]] -= 1
    return part, bool((filled == 0).any())
