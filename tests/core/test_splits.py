"""Splits are disjoint, complete, stratified, faithful to groups and repeatable, over many seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tlhelpers.data.splits import groups_from, joined_groups, split_indices
from tlhelpers.errors import DataError

SHARES = (0.7, 0.15, 0.15)


def refusal(*args: object, **options: object) -> str:
    with pytest.raises(DataError) as refused:
        split_indices(*args, **options)  # type: ignore[arg-type]
    return str(refused.value)


def check_partition(parts: tuple[list[int], ...], count: int) -> None:
    assert sorted(i for part in parts for i in part) == list(range(count))
    for part in parts:
        assert part == sorted(part)
        assert type(part[0]) is int


# --- without groups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("shares", [SHARES, (0.8, 0.2), (0.5, 0.5), (0.4, 0.3, 0.2, 0.1)], ids=str)
def test_every_part_has_its_share_of_every_class(seed: int, shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(len(shares), 60, rng.integers(2, 9))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = split_indices(labels, shares, seed=seed)
    check_partition(parts, len(labels))
    for share, part in zip(shares, parts, strict=True):
        counts = np.bincount(labels[part], minlength=len(sizes))
        assert counts.min() >= 1
        assert np.abs(counts - share * sizes).max() < 1.5
        assert abs(len(part) - share * len(labels)) < len(sizes) * 0.5 + 1


def test_roundings_of_many_classes_do_not_add_up() -> None:
    labels = np.repeat(np.arange(200), 10)  # 1.5 images a class for val and for test
    train, val, test = split_indices(labels, SHARES)
    assert abs(len(val) - 300) <= 10
    assert abs(len(test) - 300) <= 10
    assert abs(len(train) - 1400) <= 20


def test_as_many_images_as_parts() -> None:
    parts = split_indices(["a"] * 3 + ["b"] * 300, SHARES)
    assert [sum(i < 3 for i in part) for part in parts] == [1, 1, 1]


def test_same_seed_same_division_and_other_seed_another() -> None:
    labels = [0, 1] * 50
    assert split_indices(labels, SHARES, seed=3) == split_indices(labels, SHARES, seed=3)
    assert split_indices(labels, SHARES, seed=3) != split_indices(labels, SHARES, seed=4)


def test_every_image_has_its_chance_of_every_part() -> None:
    labels = [0] * 10 + [1] * 20
    tested = np.zeros(30)
    for seed in range(400):
        tested[split_indices(labels, (0.8, 0.2), seed=seed)[1]] += 1
    assert np.abs(tested / 400 - 0.2).max() < 0.09  # more than four standard errors


def test_names_and_numbers_give_the_same_division() -> None:
    numbers = [0, 1, 2] * 20
    assert split_indices(numbers, SHARES) == split_indices(["abc"[i] for i in numbers], SHARES)


def test_global_random_state_is_neither_used_nor_changed() -> None:
    np.random.seed(0)
    first = split_indices([0, 1] * 20, SHARES)
    assert np.random.get_state()[2] == np.random.RandomState(0).get_state()[2]
    np.random.seed(1)
    assert split_indices([0, 1] * 20, SHARES) == first


# --- with groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("mixed", [False, True], ids=["one class a group", "mixed groups"])
def test_groups_stay_whole_and_shares_are_met(seed: int, mixed: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.2, 90), 15)
    groups = np.repeat(np.arange(90), sizes)
    classes = np.concatenate([np.tile(np.arange(3), 5), rng.integers(0, 3, 75)])  # 5 groups of each at least
    labels = rng.integers(0, 3, len(groups)) if mixed else classes[groups]
    names = np.array([f"patient {g}" for g in groups])
    parts = split_indices(labels, SHARES, groups=names, seed=seed)
    check_partition(parts, len(labels))
    sides = [set(names[part]) for part in parts]
    assert sum(map(len, sides)) == 90
    for share, part in zip(SHARES, parts, strict=True):
        counts = np.bincount(labels[part], minlength=3)
        assert counts.min() >= 1
        assert np.abs(counts - share * np.bincount(labels)).max() < sizes.max()
        assert abs(len(part) - share * len(labels)) <= 5


def test_large_groups_reach_every_part() -> None:
    groups = np.repeat(np.arange(60), 20)
    labels = (np.arange(60) % 2)[groups]
    assert [len(part) for part in split_indices(labels, SHARES, groups=groups)] == [840, 180, 180]


def test_one_huge_group_goes_where_it_fits() -> None:
    groups = [0] * 50 + list(range(1, 51))
    labels = [0] * 50 + [0] * 20 + [1] * 30
    train, val, test = split_indices(labels, SHARES, groups=groups)
    assert set(range(50)) <= set(train)
    assert (len(train), len(val), len(test)) == (70, 15, 15)


def test_as_many_groups_as_parts() -> None:
    groups = ["a"] * 30 + ["b"] * 2 + ["c"] + list("defghi")
    labels = [0] * 33 + [1] * 6
    parts = split_indices(labels, SHARES, groups=groups)
    assert [len({groups[i] for i in part if labels[i] == 0}) for part in parts] == [1, 1, 1]


def test_groups_of_one_are_no_groups() -> None:
    labels = [0, 1] * 30
    parts = split_indices(labels, SHARES, groups=[f"{i:02}" for i in range(60)])
    assert parts == split_indices(labels, SHARES)


# --- impossible requests --------------------------------------------------------------------------------------


def test_class_with_too_few_images() -> None:
    message = refusal(["cats"] * 10 + ["dogs"] * 2, SHARES)
    assert message == "class 'dogs' has only 2 images, but each of the 3 parts needs one: at least 3 are needed."


def test_class_with_too_few_groups() -> None:
    message = refusal(["cats"] * 10 + ["dogs"] * 10, (0.8, 0.2), groups=[*range(10), *[99] * 10])
    assert "class 'dogs' has only 1 group, " in message
    assert "at least 2" in message


def test_groups_that_no_division_can_part() -> None:
    """Each class has two groups, and no two sides can both have all three classes."""
    message = refusal([0, 1, 1, 2, 2, 0], (0.5, 0.5), groups=[1, 1, 2, 2, 3, 3])
    assert "no division was found" in message
    assert "3 groups, 3 classes, 2 parts" in message


@pytest.mark.parametrize("shares", [(1.0, 0.0), (1.2, -0.2), (0.7, 0.3, float("nan")), (0.7, 1.5)], ids=str)
def test_shares_out_of_range(shares: tuple[float, ...]) -> None:
    assert "between 0 and 1" in refusal([0, 1] * 10, shares)


@pytest.mark.parametrize("shares", [(0.7, 0.2), (0.9, 0.2), (0.5,), (0.6, 0.6)], ids=str)
def test_shares_that_are_no_whole(shares: tuple[float, ...]) -> None:
    assert "must sum to 1" in refusal([0, 1] * 10, shares)


def test_lengths_must_agree() -> None:
    assert "20 labels, but 3 groups" in refusal([0, 1] * 10, SHARES, groups=[1, 2, 3])


@pytest.mark.parametrize("labels", [[], [[0, 1], [1, 0]], 3], ids=str)
def test_labels_must_be_a_list(labels: object) -> None:
    assert "one class for each" in refusal(labels, SHARES)


# --- groups from names ----------------------------------------------------------------------------------------

XRAYS = ["train/NORMAL/IM-0115-0001.jpeg", "train/PNEUMONIA/person7_virus_12.jpeg"]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (r"(person\d+|IM-\d+)", ["IM-0115", "person7"]),
        (r"person\d+|IM-\d+", ["IM-0115", "person7"]),
        (re.compile(r"(PERSON\d+|im-\d+)", re.IGNORECASE), ["IM-0115", "person7"]),
        (r"([A-Z]+)/(\w+)", ["NORMAL", "PNEUMONIA"]),
        (r"person(\d+)|IM-\d+", ["IM-0115", "7"]),  # a bracket that took no part: the whole match
        (lambda key: key.split("/")[1], ["NORMAL", "PNEUMONIA"]),
        (len, [str(len(key)) for key in XRAYS]),
    ],
)
def test_groups_from(rule: object, wanted: list[str]) -> None:
    assert groups_from(XRAYS, rule) == wanted  # type: ignore[arg-type]


def test_keys_without_a_group_are_named() -> None:
    keys = [*XRAYS, *(f"scan{i}.png" for i in range(8))]
    with pytest.raises(DataError, match=r"8 of 10 images do not match '\(person") as refused:
        groups_from(keys, r"(person\d+|IM-\d+)")
    assert str(refused.value).endswith("scan0.png, scan1.png, scan2.png, scan3.png, scan4.png, ...")


@pytest.mark.parametrize("nothing", [None, ""])
def test_function_without_an_answer(nothing: object) -> None:
    with pytest.raises(DataError, match=r"1 of 2 images get no name from the function: b$"):
        groups_from(["a", "b"], lambda key: key if key == "a" else nothing)  # type: ignore[arg-type, return-value]


def test_expression_that_is_none() -> None:
    with pytest.raises(DataError, match=r"'\(person' is not a regular expression \(missing \)"):
        groups_from(XRAYS, "(person")


# --- joined groups --------------------------------------------------------------------------------------------


def test_chains_are_joined() -> None:
    patients = ["a", "a", "b", "c", "c", "d"]
    files = ["1", "2", "2", "3", "4", "5"]
    joined = joined_groups(patients, files)
    assert len(set(joined[:3].tolist())) == 1
    assert len(set(joined.tolist())) == 3
    assert joined[3] == joined[4]


def test_same_name_in_two_groupings_means_nothing() -> None:
    assert len(set(joined_groups(["a", "b"], ["b", "a"]).tolist())) == 2


@pytest.mark.parametrize("seed", range(20))
def test_joined_groups_are_the_finest_that_keep_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 40, 50), rng.integers(0, 40, 50)
    joined = joined_groups(first, second)
    reach = (first[:, None] == first) | (second[:, None] == second)
    for _ in range(6):  # 2**6 > 50 steps
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert np.array_equal(joined[:, None] == joined, reach)
    assert np.array_equal(np.unique(joined), np.arange(joined.max() + 1))
