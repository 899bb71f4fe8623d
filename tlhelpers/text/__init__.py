"""Transfer learning for language: sentences in place of pictures, a small transformer in place of a ResNet."""

from tlhelpers.text.encoder import SentenceClassifier, available, load_classifier
from tlhelpers.text.movies import load_movies
from tlhelpers.text.reviews import Reviews, Sentences
from tlhelpers.text.training import WAYS, bag_of_words, train
from tlhelpers.text.written import load_written

__all__ = [
    "WAYS",
    "Reviews",
    "SentenceClassifier",
    "Sentences",
    "available",
    "bag_of_words",
    "load_classifier",
    "load_movies",
    "load_written",
    "train",
]
