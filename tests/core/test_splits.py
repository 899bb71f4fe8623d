"""Splits are disjoint, complete, stratified, faithful to groups and repeatable, over many seeds."""

import re

import numpy as np
import pytest
from toy import cases, refused

from tlhelpers.data.splits import groups_from, joined_groups, split_indices
from tlhelpers.errors import DataError

SHARES = (0.7, 0.15, 0.15)


def checked(labels, shares, tolerance, **options):
    """The splits, after checking what holds for all: disjoint, complete, sorted, each class in each, shares met."""
    splits = split_indices(labels, shares, **options)
    assert sorted(i for split in splits for i in split) == list(range(len(labels)))
    for share, split in zip(shares, splits, strict=True):
        assert split == sorted(split)
        assert type(split[0]) is int
        counts = np.bincount(np.asarray(labels)[split], minlength=max(labels) + 1)
        assert counts.min() >= 1
        assert np.abs(counts - share * np.bincount(labels)).max() < tolerance
    return list(splits)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("shares", [SHARES, (0.8, 0.2), (0.5, 0.5), (0.4, 0.3, 0.2, 0.1)], ids=str)
def test_every_split_has_its_share_of_every_class(seed, shares):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(len(shares), 60, rng.integers(2, 9))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    splits = checked(labels, shares, 1.5, seed=seed)
    for share, split in zip(shares, splits, strict=True):
        assert abs(len(split) - share * len(labels)) < len(sizes) * 0.5 + 1


def test_roundings_of_many_classes_do_not_add_up():
    splits = checked(np.repeat(np.arange(200), 10), SHARES, 1.5)  # 1.5 images a class for val and for test
    assert np.abs(np.subtract([len(split) for split in splits], (1400, 300, 300))).max() <= 20
    checked([0] * 3 + [1] * 300, SHARES, 2.0)  # as many images of a class as splits


def test_division_depends_on_the_seed_alone():
    labels = [0, 1, 2] * 20
    first = split_indices(labels, SHARES, seed=3)
    np.random.seed(1)
    assert split_indices(labels, SHARES, seed=3) == first != split_indices(labels, SHARES, seed=4)
    for after, before in zip(np.random.get_state()[1:3], np.random.RandomState(1).get_state()[1:3], strict=True):
        assert np.array_equal(after, before), "the global state is left alone"
    assert split_indices(["abc"[i] for i in labels], SHARES, seed=3) == first, "names or numbers"
    assert split_indices(labels, SHARES, seed=3, groups=[f"{i:02}" for i in range(60)]) == first, "groups of one"


def test_every_image_has_its_chance_of_every_split():
    tested = np.zeros(30)
    for seed in range(400):
        tested[split_indices([0] * 10 + [1] * 20, (0.8, 0.2), seed=seed)[1]] += 1
    assert np.abs(tested / 400 - 0.2).max() < 0.09  # more than four standard errors


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("mixed", [False, True], ids=["one class a group", "mixed groups"])
def test_groups_stay_whole_and_shares_are_met(seed, mixed):
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.2, 90), 15)
    groups = np.repeat(np.arange(90), sizes)
    classes = np.concatenate([np.tile(np.arange(3), 5), rng.integers(0, 3, 75)])  # 5 groups of each at least
    labels = rng.integers(0, 3, len(groups)) if mixed else classes[groups]
    names = np.array([f"patient {g}" for g in groups])
    splits = checked(labels, SHARES, sizes.max(), groups=names, seed=seed)
    assert sum(len(set(names[split])) for split in splits) == 90
    for share, split in zip(SHARES, splits, strict=True):
        assert abs(len(split) - share * len(labels)) <= 5


@cases(
    "groups, labels, shares, lengths",
    (np.repeat(np.arange(60), 20), np.repeat(np.arange(60) % 2, 20), SHARES, [840, 180, 180]),
    ([0] * 50 + list(range(1, 51)), [0] * 70 + [1] * 30, SHARES, [70, 15, 15]),  # one huge group
    (np.repeat(np.arange(5), 4), np.tile([0, 0, 1, 1], 5), (0.6, 0.2, 0.2), [12, 4, 4]),  # five mixed groups
    (np.repeat(np.arange(6), 5), np.repeat([0, 1], 15), SHARES, [10, 10, 10]),  # as many as splits in each class
)
def test_awkward_groups_reach_every_split(groups, labels, shares, lengths):
    for seed in range(10):
        splits = checked(labels, shares, 21, groups=groups, seed=seed)
        assert [len(split) for split in splits] == lengths
        assert sum(len({groups[i] for i in split}) for split in splits) == len(set(groups))


@cases(
    "labels, shares, groups, message",
    (["cats"] * 10 + ["dogs"] * 2, SHARES, None, "'dogs' needs at least 3 images, one for each split, and has 2."),
    (["cats"] * 10 + ["dogs"] * 10, (0.8, 0.2), [*range(10), *[99] * 10], "'dogs' needs at least 2 groups"),
    ([0, 1, 1, 2, 2, 0], (0.5, 0.5), [1, 1, 2, 2, 3, 3], "no division of 3 groups was found"),  # 2 groups a class
    *(([0, 1] * 10, shares, None, "between 0 and 1 and sum to 1")
      for shares in [(1.0, 0.0), (1.2, -0.2), (0.7, 0.3, float("nan")), (0.7, 0.2), (0.9, 0.2), (0.5,), ()]),
    ([0, 1] * 10, SHARES, [1, 2, 3], "not 20 and 3"),
    ([], SHARES, None, "one for each image"),
)  # fmt: skip
def test_impossible_requests(labels, shares, groups, message):
    refused(DataError, re.escape(message), split_indices, labels, shares, groups=groups)


XRAYS = ["train/NORMAL/IM-0115-0001.jpeg", "train/PNEUMONIA/person7_virus_12.jpeg"]


@cases(
    "rule, expected",
    (r"(person\d+|IM-\d+)", ["IM-0115", "person7"]),
    (re.compile(r"(PERSON\d+|im-\d+)", re.IGNORECASE), ["IM-0115", "person7"]),
    (r"([A-Z]+)/(\w+)", ["NORMAL", "PNEUMONIA"]),
    (r"person(\d+)|IM-\d+", ["IM-0115", "7"]),  # a bracket that took no part: the whole match
    (len, [str(len(key)) for key in XRAYS]),
)
def test_groups_from(rule, expected):
    assert groups_from(XRAYS, rule) == expected


@cases(
    "rule, message",
    (r"(person\d+|IM-\d+)", r"8 of 10 images do not match '\(person.*: scan0, scan1, scan2, scan3, scan4, \.\.\.$"),
    (lambda key: "" if key == "scan3" else key, "1 of 10 images get no name from the function: scan3$"),
    ("(person", r"'\(person' is not a regular expression \(missing \)"),
)
def test_keys_without_a_group_are_named(rule, message):
    refused(DataError, message, groups_from, [*XRAYS, *(f"scan{i}" for i in range(8))], rule)


@pytest.mark.parametrize("seed", range(20))
def test_joined_groups_are_the_finest_that_keep_both(seed):
    """The same name in the two groupings means nothing."""
    first, second = np.random.default_rng(seed).integers(0, 40, (2, 50))
    joined = joined_groups(first, second)
    reach = (first[:, None] == first) | (second[:, None] == second)
    for _ in range(6):  # 2**6 > 50 steps
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert np.array_equal(joined[:, None] == joined, reach)
    assert np.array_equal(np.unique(joined), np.arange(joined.max() + 1))
