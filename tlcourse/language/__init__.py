"""Transfer learning for language: sentences in place of images, a small transformer in place of a ResNet."""

from tlcourse.language.dataset import Reviews, Sentences
from tlcourse.language.encoder import SentenceClassifier, available, load_classifier
from tlcourse.language.movie_reviews import load_movies
from tlcourse.language.template_reviews import load_template_reviews
from tlcourse.language.training import METHODS, bag_of_words, train

__all__ = [
    "METHODS",
    "Reviews",
    "SentenceClassifier",
    "Sentences",
    "available",
    "bag_of_words",
    "load_classifier",
    "load_movies",
    "load_template_reviews",
    "train",
]
