"""Transfer learning for language: sentences instead of images, a small transformer instead of a ResNet."""

from tlcourse.language.encoder import SentenceClassifier, available, load_classifier
from tlcourse.language.reviews import Reviews, Sentences, load_movies, load_template_reviews
from tlcourse.language.training import METHODS, bag_of_words, train

__all__ = ["METHODS", "Reviews", "SentenceClassifier", "Sentences", "available", "bag_of_words", "load_classifier"]
__all__ += ["load_movies", "load_template_reviews", "train"]
