"""Sentences from real film reviews, rated by twenty people each (Hutto and Gilbert 2014); the full profile's data."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import torch

from tlcourse.language.dataset import Reviews, Sentences
from tlhelpers.data.dataset import DataCard
from tlhelpers.data.download import cache_folder, fetch
from tlhelpers.errors import DataError

# One commit of the authors' repository; the source package of vaderSentiment 3.3.2 carries the same file.
URL = (
    "https://raw.githubusercontent.com/cjhutto/vaderSentiment/18c86513ea60b02fce8f3b1b598da43042d91b08/"
    "additional_resources/hutto_ICWSM_2014.tar.gz"
)
SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
NUM_BYTES = 2_338_514
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLEAR = 1.0  # mean ratings run from -4 to 4; nearer to 0 than this, people did not agree that it is praise or blame

CARD = DataCard(
    name="movies",
    summary="sentences from film reviews, with a mean rating of 20 people between -4 and 4; only clear ones are taken",
    source="https://github.com/cjhutto/vaderSentiment (Hutto and Gilbert, ICWSM 2014), from rotten.tomatoes.com",
    licence="MIT; the sentences are by their reviewers, and are quoted for research",
    is_not="a benchmark: sentences about the same film may lie in training and test, which nobody recorded",
)


def load_movies(
    *,
    archive: str | os.PathLike[str] | None = None,
    train: int = 600,
    val: int = 200,
    test: int = 600,
    longest: int = 30,
) -> Reviews:
    """Sentences from film reviews, downloaded once (2.3 MB) and checked by hash.

    Args:
        archive: the authors' hutto_ICWSM_2014.tar.gz, if it is there already; None downloads it.
        train: sentences for training, an even number, and so the next two.
        val: for choices.
        test: for the result.
        longest: in words; longer sentences are left out.

    Raises:
        DownloadError: if the download fails, or is needed in the quick profile.
        DataError: if there are not so many sentences, or `archive` is another file.
    """
    if archive is None:
        archive = fetch(URL, sha256=SHA256, folder=cache_folder() / "downloads", size_hint=NUM_BYTES)
    rows = [row for row in _rows(Path(archive)) if abs(row[0]) >= CLEAR and len(row[1].split()) <= longest]
    order = np.random.default_rng(0).permutation(len(rows))  # fixed: a test sentence is one whatever the seeds
    classes = [[rows[i][1] for i in order if (rows[i][0] > 0) == bool(label)] for label in (0, 1)]
    counts = (train, val, test)
    if any(count % 2 or count < 2 for count in counts) or sum(counts) // 2 > min(map(len, classes)):
        raise DataError(f"{counts} sentences: expected even numbers of {2 * min(map(len, classes))} in all, at most")
    parts: list[Sentences] = []
    begin = 0
    for count in counts:
        chosen = [found[begin : begin + count // 2] for found in classes]
        labels = torch.tensor([0] * (count // 2) + [1] * (count // 2))
        parts.append(Sentences((*chosen[0], *chosen[1]), labels))
        begin += count // 2
    learn, choose, judge = parts
    return Reviews("movies", learn, choose, judge, CARD)


def _rows(archive: Path) -> list[tuple[float, str]]:
    """(mean rating, sentence) of every line; nothing is written to disk. A sentence that occurs twice is taken once."""
    try:
        with tarfile.open(archive) as tar:
            table = tar.extractfile(TABLE)
            assert table is not None
            lines = table.read().decode("utf-8").splitlines()
    except (tarfile.TarError, KeyError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{archive} is not the authors' archive hutto_ICWSM_2014.tar.gz: {error}") from error
    found: dict[str, float] = {}
    for line in lines:
        _, rating, text = line.split("\t", 2)
        found.setdefault(" ".join(text.split()), float(rating))
    return [(rating, text) for text, rating in found.items()]
