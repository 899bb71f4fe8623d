"""Splits and data sets: views of the same images, and what does not fit together is refused."""

import dataclasses

import numpy as np
import pytest
from toy import ToyImages, refused, toy_data, toy_split

import tlhelpers as tl


def test_views_show_the_same_images_and_keep_everything_else():
    facts = {"keys": "wxyz", "name": "train", "groups": "ppqq", "transform": np.asarray, "workers": 3}
    split = tl.ImageSplit(ToyImages(0), [0, 1, 0, 1], ("a", "b"), **facts)
    view = split.select(np.array([3, 1])).select([0])
    assert (view.keys, view.groups, view.labels.tolist(), view.workers) == (("z",), ("q",), [1], 3)
    assert view.image(0).tobytes() == split.image(3).tobytes()
    assert np.array_equal(view[0][0], np.asarray(split.image(3)))
    plain = view.with_transform(None)
    assert (plain[0][0].mode, plain.keys, plain.workers) == ("RGB", ("z",), 3)
    assert view.transform is np.asarray, "the original keeps its transform"
    assert view.counts().to_dict() == {"a": 0, "b": 1}


def test_fewer_images_of_each_class_are_a_subset_of_more():
    split = toy_split(20, "train")
    few, more = split.per_class(3, seed=1), split.per_class(5, seed=1)
    assert few.counts().tolist() == [3, 3]
    assert set(few.keys) < set(more.keys) < set(split.per_class(99).keys) == set(split.keys)
    assert few.keys != split.per_class(3, seed=2).keys


def test_splits_that_do_not_fit_together():
    blue = toy_split(4, "val", classes=("red", "blue"))
    with pytest.raises(tl.DataError, match=r"'val' has the classes \['red', 'blue'\], but 'train'"):
        dataclasses.replace(toy_data(), val=blue)
    refused(tl.DataError, "split 'test' has no images", dataclasses.replace, toy_data(), test=toy_split(0, "test"))
    with pytest.raises(tl.DataError, match="2 labels, 1 keys and 0 groups"):
        tl.ImageSplit(ToyImages(0), [0, 1], ("a", "b"), keys=["x"], name="train")
