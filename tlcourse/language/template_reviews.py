"""Reviews that were written for this course: a small grammar, with patterns for training and others for testing."""

from __future__ import annotations

import re

import numpy as np
import torch

from tlcourse.language.dataset import Reviews, Sentences
from tlhelpers.data.dataset import DataCard
from tlhelpers.errors import DataError

SUBJECTS = {
    "film": ("plot", "acting", "music", "ending"),
    "novel": ("story", "language", "dialogue", "first chapter"),
    "hotel": ("room", "breakfast", "service", "view"),
    "restaurant": ("soup", "service", "dessert", "wine"),
    "phone": ("battery", "screen", "camera", "sound"),
    "course": ("teacher", "pace", "material", "last lesson"),
    "museum": ("tour", "lighting", "collection", "garden"),
    "bicycle": ("frame", "saddle", "steering", "bell"),
}

Pattern = str | tuple[str, str]
_split = str.split

# Words that training uses; the test set also draws on some that training has never shown.
GOOD = _split("excellent lovely superb charming brilliant delightful impressive good great pleasant clever fine")
BAD = _split("awful bad dull terrible poor disappointing clumsy boring dreadful weak ugly annoying")
NEW_GOOD = _split("wonderful splendid marvellous outstanding flawless enjoyable")
NEW_BAD = _split("horrible tedious shoddy mediocre appalling unbearable")

# Patterns, for praise and blame alike or a pair of both. {same} is a word of praise in praise and of blame in blame;
# {other} is the opposite, so a sentence with {other} alone means the opposite of what its words say.
TRAIN = (
    "The {part} was {same}.",
    "I found the {part} {same} from start to finish.",
    "{Same} {part}, {same} {thing}.",
    ("What a {same} {thing}, worth every penny.", "What a {same} {thing}, a waste of money."),
    "Everything about this {thing} is {same}.",
    ("My friends and I loved this {thing}.", "My friends and I regretted this {thing}."),
    ("The {part} is {same} and the price is fair.", "The {part} is {same} and the price is an insult."),
    ("I can only recommend this {thing}.", "I cannot recommend this {thing}."),
    "This is not a {other} {thing} at all.",
    "There was nothing {other} about the {part}.",
    "People say the {thing} is {other}, but it is {same}.",
    "The {part} is always {same}.",
    "{Same}, that is the word for this {thing}.",
    "We talked about the {part} for days, so {same} it was.",
)
VAL = (
    "Honestly, the {part} is {same}.",
    ("I would give the {part} full marks.", "I would give the {part} no marks at all."),
    "This {thing} is anything but {other}.",
    "Nothing but {same}, this {part}.",
    "My verdict on the {part}: {same}.",
)
TEST = (
    "Once again the {part} is simply {same}.",
    "Without a doubt a {same} {thing}.",
    ("If only every {thing} were this {same}!", "If every {thing} were this {same}, I would give up."),
    ("The {part} made my day.", "The {part} ruined my day."),
    ("I only wish I had found this {thing} sooner.", "I only wish somebody had warned me about this {thing}."),
    ("The {part} could hardly have been better.", "The {part} could hardly have been worse."),
    "Who would call this {thing} {other}? Certainly not me.",
    "The {part} struck me as {same}.",
    "Simply put, the {part} is {same}.",
    "Far from {other}, that {part}.",
    "I expected a {other} {thing} and got a {same} one.",
)

CARD = DataCard(
    name="written reviews",
    summary="sentences of praise and blame about films, hotels, phones and the like, made from patterns",
    source="written for this course",
    licence="MIT, as the course",
    is_not="what people write: it has few patterns, no irony, no typing errors, and a score on it says nothing "
    "about real reviews",
)


def load_template_reviews(*, train: int = 240, val: int = 64, test: int = 240, seed: int = 0) -> Reviews:
    """Short reviews made from patterns; no pattern of one part appears in another.

    A third of the test set's words of praise and blame never occur in training either. A method that counts words
    has to know them; one that has read much may know what they mean.

    Args:
        train: sentences for training, an even number, and so the next two.
        val: for choices.
        test: for the result.
        seed: from which words are drawn.

    Raises:
        DataError: if a number is odd, or larger than what the patterns give.
    """
    parts = (
        _written(TRAIN, train, (GOOD, BAD), (seed, 0)),
        _written(VAL, val, (GOOD, BAD), (seed, 1)),
        _written(TEST, test, (GOOD + NEW_GOOD, BAD + NEW_BAD), (seed, 2)),
    )
    return Reviews("written", *parts, CARD)


def _written(
    patterns: tuple[Pattern, ...], count: int, words: tuple[list[str], list[str]], seed: tuple[int, int]
) -> Sentences:
    if count % 2 or not 2 <= count <= 100 * len(patterns):
        raise DataError(f"{count} sentences: expected an even number from 2 to {100 * len(patterns)}")
    draw = np.random.default_rng(seed)
    texts: dict[str, tuple[int, bool]] = {}
    while len(texts) < count:
        for label in (1, 0):  # in turn, so that there are as many of each
            chosen, text = (len(texts) // 2) % len(patterns), ""
            while not text or text in texts:
                pattern = _one(patterns[chosen], label)
                text = _filled(pattern, words[1 - label], words[label], draw)
                chosen = int(draw.integers(len(patterns)))
            texts[text] = (label, "{other}" in pattern and "{same}" not in pattern)
    labels = torch.tensor([label for label, _ in texts.values()])
    return Sentences(tuple(texts), labels, tuple(turned for _, turned in texts.values()))


def _one(pattern: Pattern, label: int) -> str:
    return pattern if isinstance(pattern, str) else pattern[1 - label]


def _filled(pattern: str, same: list[str], other: list[str], draw: np.random.Generator) -> str:
    thing = str(draw.choice(list(SUBJECTS)))
    part = str(draw.choice(SUBJECTS[thing]))
    word, opposite = str(draw.choice(same)), str(draw.choice(other))
    text = pattern.format(thing=thing, part=part, same=word, Same=word.capitalize(), other=opposite)
    return re.sub(r"\b(a) (?=[aeiou])", r"\1n ", text)
