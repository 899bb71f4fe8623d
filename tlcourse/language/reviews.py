"""Reviews, positive or negative: sentences made from templates for this course, and real ones about films."""

import csv
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from tlcourse.download import fetch
from tlhelpers.errors import DataError
from tlhelpers.files import sha256_of, user_path


@dataclass(frozen=True)
class Sentences:
    """The sentences of one split."""

    texts: tuple[str, ...]
    labels: torch.Tensor  # int64 (sentences,), 0 for negative and 1 for positive
    turned: tuple[bool, ...] = ()  # whether a sentence's words point away from its label ("not bad"), where known

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, count: int | None, *, seed: int) -> "Sentences":
        """`count` sentences (None: all), half of each class, fewer a subset of more; a DataError if odd or too many."""
        rows = np.random.default_rng(seed).permutation(len(self))
        if count is not None:
            rows = np.concatenate([rows[self.labels.numpy()[rows] == label][: count // 2] for label in (0, 1)])
            if count % 2 or count < 2 or len(rows) < count:
                raise DataError(f"{count} sentences were asked for, half of each class; there are {len(self)}")
        turned = tuple(self.turned[i] for i in rows) if self.turned else ()
        return Sentences(tuple(self.texts[i] for i in rows), self.labels[rows], turned)


class Reviews(NamedTuple):
    """A data set of sentences."""

    train: Sentences
    val: Sentences
    test: Sentences


# `templates.json` holds words and sentences. A template serves both classes, or is a pair (positive, negative). {same}
# is a word of the sentence's own sentiment, {other} of the opposite one, so a sentence with {other} alone means the
# opposite of what its words say. The test set also has words of sentiment that training never shows ("new").
TABLES: dict[str, Any] = json.loads((Path(__file__).parent / "templates.json").read_text("utf8"))
GOOD, BAD, NEW_GOOD, NEW_BAD = (TABLES[name].split() for name in ("good", "bad", "new_good", "new_bad"))


def load_template_reviews(*, seed: int = 0) -> Reviews:
    """Short reviews made from templates: 240 sentences for training, 64, and 240 for testing; `seed` draws the words.

    No template of one split appears in another, and a third of the test set's words of sentiment never occur in
    training. The reviews have few templates, no irony and no typing errors: scores on them say nothing about real ones.
    """
    return Reviews(
        _fill_templates(TABLES["train"], 240, (BAD, GOOD), (seed, 0)),
        _fill_templates(TABLES["val"], 64, (BAD, GOOD), (seed, 1)),
        _fill_templates(TABLES["test"], 240, (BAD + NEW_BAD, GOOD + NEW_GOOD), (seed, 2)),
    )


def _fill_templates(
    templates: list[str | list[str]], count: int, words: tuple[list[str], list[str]], seed: tuple[int, int]
) -> Sentences:
    """As many positive as negative sentences, all different; every template is used about equally often."""
    rng = np.random.default_rng(seed)
    sentences: dict[str, tuple[int, bool]] = {}
    while len(sentences) < count:
        for label in (1, 0):
            number, text = (len(sentences) // 2) % len(templates), ""
            while not text or text in sentences:
                template = templates[number]
                template = template if isinstance(template, str) else template[1 - label]
                text = _fill(template, words[label], words[1 - label], rng)
                number = int(rng.integers(len(templates)))
            sentences[text] = (label, "{other}" in template and "{same}" not in template)
    labels, turned = zip(*sentences.values(), strict=True)
    return Sentences(tuple(sentences), torch.tensor(labels), turned)


def _fill(template: str, same: list[str], other: list[str], rng: np.random.Generator) -> str:
    thing = str(rng.choice(list(TABLES["subjects"])))
    part, word, opposite = (str(rng.choice(choices)) for choices in (TABLES["subjects"][thing], same, other))
    text = template.format(thing=thing, part=part, same=word, Same=word.capitalize(), other=opposite)
    return re.sub(r"\b(a) (?=[aeiou])", r"\1n ", text)


# One commit of the authors' repository; the source package of vaderSentiment 3.3.2 carries the same file.
COMMIT = "18c86513ea60b02fce8f3b1b598da43042d91b08"
URL = f"https://raw.githubusercontent.com/cjhutto/vaderSentiment/{COMMIT}/additional_resources/hutto_ICWSM_2014.tar.gz"
SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLEAR = 1.0  # mean ratings run from -4 to 4; nearer to 0 than this the sentiment is unclear
LONGEST = 30  # words
SIZES = (600, 200, 600)  # sentences for training, validation and test, half of each class


def load_movies(*, archive: str | os.PathLike[str] | None = None) -> Reviews:
    """Sentences from film reviews (Hutto and Gilbert 2014): 600 for training, 200, and 600 for testing.

    Kept are those of 30 words or fewer, rated 1 or more from 0 (scale -4 to 4). `archive` is the authors'
    hutto_ICWSM_2014.tar.gz, or a DataError is raised; None downloads it (2.3 MB), with the errors of `fetch`.
    """
    path = user_path(archive) if archive is not None else fetch(URL, SHA256, size_hint=2_338_514)
    if not path.is_file() or sha256_of(path) != SHA256:
        raise DataError(f"{path} is not the authors' archive hutto_ICWSM_2014.tar.gz")
    with tarfile.open(path) as tar:
        file: Any = tar.extractfile(TABLE)
        table = pd.read_csv(file, sep="\t", names=["number", "rating", "text"], quoting=csv.QUOTE_NONE)
    words = table["text"].str.split()
    clear = table.assign(text=words.str.join(" "), words=words.map(len)).drop_duplicates("text")
    clear = clear[(clear["rating"].abs() >= CLEAR) & (clear["words"] <= LONGEST)]
    order = np.random.default_rng(0).permutation(len(clear))  # fixed, so that the test set is always the same
    clear = clear.iloc[order]
    texts = [clear.loc[(clear["rating"] > 0) == positive, "text"].tolist() for positive in (False, True)]
    splits = []
    for end, count in zip(np.cumsum(SIZES) // 2, SIZES, strict=True):
        chosen = [text for of_class in texts for text in of_class[end - count // 2 : end]]
        splits.append(Sentences(tuple(chosen), torch.tensor([0, 1]).repeat_interleave(count // 2)))
    return Reviews(*splits)
