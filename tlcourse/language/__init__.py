"""Transfer learning for language: sentences instead of images, a small transformer instead of a ResNet."""

from tlcourse.language.encoder import SentenceClassifier as SentenceClassifier
from tlcourse.language.encoder import available as available
from tlcourse.language.encoder import load_classifier as load_classifier
from tlcourse.language.reviews import Reviews as Reviews
from tlcourse.language.reviews import Sentences as Sentences
from tlcourse.language.reviews import load_movies as load_movies
from tlcourse.language.reviews import load_template_reviews as load_template_reviews
from tlcourse.language.training import METHODS as METHODS
from tlcourse.language.training import bag_of_words as bag_of_words
from tlcourse.language.training import train as train
