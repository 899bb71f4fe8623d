"""Lab 5's checks of what follows training: threshold, report, interval, shortcut, heat maps, texts."""

import copy
import math
import re
from typing import Any

import numpy as np

from tlcourse.labs.answers import as_number, compare, draws, expect, expect_keys, expect_len, match, text, wrong_if
from tlcourse.medical.calibration import calibration_error, to_probabilities
from tlcourse.medical.clinical import clinical_scores, threshold_for
from tlcourse.medical.report import SECTIONS, ClinicalReport
from tlhelpers import evaluate

REPEATS = 400  # of the bootstrap
NEEDED = 0.9  # the sensitivity that the lab asks for


def first_fault(faults: dict[str, Any]) -> None:
    """Raise `Wrong` with the first message whose condition is true."""
    for message, fault in faults.items():
        wrong_if(fault, message)


def called(function: Any, *inputs: Any) -> Any:
    """What a learner's function returns for copies of the inputs; wrong if it changes one in place."""
    found = function(*(own := copy.deepcopy(inputs)))
    for number, (mine, given) in enumerate(zip(own, inputs, strict=True), start=1):
        same = callable(given) or np.array_equal(np.asarray(mine), np.asarray(given))
        wrong_if(not same, f"the function changes its input number {number} in place; work on a copy of it")
    return found


def scored(model: Any, split: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of being ill and labels, for every image of a split."""
    return evaluate(model, split).logits.double().diff()[:, 0].numpy(), split.labels.numpy()


def threshold(function: Any, value: Any, *, val_scores: Any, val_labels: Any, model: Any, data: Any) -> str:
    """A function (scores, labels, sensitivity) that returns a threshold, and its result for the validation set."""
    labels = np.repeat([0, 1], draws().integers(30, 45, 2))
    scores = np.round(to_probabilities(draws().normal(1.6 * labels - 0.8, 1.0)), 4)
    for needed in (NEEDED, 0.7):
        at = as_number(called(function, scores, labels, needed), "the threshold")
        found, best = clinical_scores(scores, labels, at), threshold_for(scores, labels, sensitivity=needed)
        hits, cleared, goal = found["sensitivity"], found["specificity"], (scores[labels == 0] < best).mean()
        balanced = max(scores, key=lambda s: clinical_scores(scores, labels, s)["balanced accuracy"])
        of_all = [np.quantile(scores, 1 - needed, method=method) for method in ("linear", "lower", "higher")]
        faults = {
            f"it returns {at:g} whatever the scores are; a threshold is a score": at in (0.5, needed),
            "that has the best balanced accuracy; the question asks for the sensitivity": math.isclose(at, balanced),
            "with it everybody is called ill: of all that find enough, take the highest": cleared == 0,
            f"the specificity is {needed:g}: chosen among those who are not ill?": abs(cleared - needed) < 0.05,
            "that is a quantile of all scores; only those of the ill matter": np.isclose(at, of_all, rtol=1e-9).any(),
            f"it finds {hits:.1%} where {needed:.1%} are needed: round towards finding more": hits < needed,
            f"it finds {hits:.1%}, more than needed: a higher threshold does, and has fewer false alarms": True,
        }
        first_fault({} if hits >= needed and cleared == goal else faults)
    log_odds, truth = scored(model, data.test)
    splits = (val_scores, val_labels), (to_probabilities(log_odds), truth)
    right, leak = (as_number(function(*split, NEEDED), "the threshold") for split in splits)
    chosen, number = as_number(value, "the threshold"), "the function is right; the number is"
    faults = {
        f"{number} that of the test set, which must not choose": math.isclose(chosen, leak, rel_tol=1e-4),
        f"{number} 0.5, which it did not choose": math.isclose(chosen, 0.5),
        f"{number} not what it gives for the validation set and a sensitivity of {NEEDED:g}": True,
    }
    first_fault({} if math.isclose(chosen, right, rel_tol=1e-6) else faults)
    return f"{chosen:.3f}, chosen on the validation set"


def report(answer: Any, *, threshold: float, model: Any, data: Any) -> str:
    """A report that evaluates the test set once, at the threshold from validation."""
    expect(answer, ClinicalReport, "expected the report, which `evaluate` adds an evaluation to")
    wrong_if(not answer.evaluations, "the test set was not evaluated yet")
    log_odds, labels = scored(model, data.test)
    found, images, people = answer.evaluations[0], len(labels), len(set(data.test.groups or data.test.keys))
    numbers = clinical_scores(to_probabilities(log_odds), labels, threshold)
    auc, value, times = numbers["AUC"], float(found.table["value"]["AUC"]), len(answer.evaluations)
    turned = math.isclose(value, 1 - auc, abs_tol=1e-4) and auc != 0.5
    error = calibration_error(to_probabilities(log_odds), labels)
    faults = {
        f"{found.images} images were evaluated, and the test set has {images}: which split?": found.images != images,
        "each image stands as a patient of its own: hand over the patients": found.patients == found.images > people,
        f"{found.patients} patients, and the test set has {people}": found.patients != people,
        f"the threshold was {found.threshold:.3g}, not {threshold:.3g}": not math.isclose(found.threshold, threshold),
        "the labels are swapped: 1 is ill": turned and not math.isclose(found.prevalence, labels.mean(), abs_tol=1e-9),
        "the AUC is turned round: log-odds of being ill are the second logit minus the first": turned,
        "the scores are not those of the test set; which split is it?": not math.isclose(value, auc, abs_tol=1e-4),
        "these are not log-odds; are they probabilities?": not math.isclose(found.calibration, error, abs_tol=1e-4),
        "without subgroups nobody sees for whom the network fails: hand them over too": found.subgroups is None,
        f"the test set was evaluated {times} times; if the cell ran twice, make the report anew in it": times > 1,
    }
    first_fault(faults)
    return f"evaluated once: accuracy {numbers['accuracy']:.1%}, balanced accuracy {numbers['balanced accuracy']:.1%}"


def interval(function: Any) -> str:
    """A function (measure, scores, labels, patients, repeats, seed) that returns (low, high), of 95 %."""
    patients = draws().permutation(np.repeat(np.arange(25), 4))
    labels, scores = patients % 2, np.arange(100.0)  # a score is the number of its image
    counts, values = [], []

    def measure(drawn: Any, truth: Any) -> float:
        rows = np.asarray(drawn).astype(int)
        apart = len(rows) != len(truth) or (labels[rows] != np.asarray(truth)).any()
        wrong_if(apart, "scores and labels of a draw do not belong together any more; draw rows, and use them for both")
        counts.append(np.bincount(rows, minlength=100))
        values.append(float(rows.mean()))
        return values[-1]

    def ends(seed: int) -> list[float]:
        found = called(function, measure, scores, labels, patients, REPEATS, seed)
        expect_len(found, 2, "it should return two numbers, low and high")
        return [as_number(end, "an end of the interval") for end in found]

    low, high = ends(0)
    wrong_if(len(counts) < 0.9 * REPEATS, f"the measure was called {len(counts)} times for {REPEATS} draws")
    drawn = np.array(counts[-REPEATS:])
    by_patient = drawn[:, np.argsort(patients, kind="stable")].reshape(len(drawn), -1, 4)
    faults = {
        "every draw holds each image once: draw with replacement": (drawn == 1).all(),
        "images are drawn, not patients: a draw holds some images of a patient only": np.ptp(by_patient, axis=2).any(),
        "a patient who is drawn twice should count twice; `np.isin` forgets how often": drawn.max() == 1,
        "a draw should hold as many patients as there are": (drawn.sum(axis=1) != len(patients)).mean() > 0.05,
        "low and high are swapped": low > high,
    }
    first_fault(faults)
    mean, spread, few = np.mean(values), np.std(values), 1.96 * np.std(values) / math.sqrt(len(values))
    mistakes = {
        "these are the smallest and the largest value; leave out 2.5 % on each side": (min(values), max(values)),
        "that holds the middle 90 %: of 95 % each side loses half of the rest": np.quantile(values, [0.05, 0.95]),
        "do not divide by the root of the number of draws: more draws bring no patients": (mean - few, mean + few),
        "that is one standard deviation on each side, about 68 %": (mean - spread, mean + spread),
    }
    right, other = np.quantile(values, [0.025, 0.975]), "the ends are not the 2.5 % and 97.5 % quantiles of the draws"
    match((low, high), right, mistakes, other, 0.06 * spread)
    wrong_if(ends(0) != [low, high], "the same seed gives another interval the second time; seed a generator with it")
    wrong_if(ends(1) == [low, high], "another seed gives the same interval; is the seed used?")
    return "whole patients are drawn, with replacement, and the interval holds the middle 95 %"


def heat(answer: Any, *, maps: Any, corner: Any, there: Any, gone: Any) -> str:
    """How far two heads are apart by hits of their heat `maps`, and by the ill found, from log-odds without letter."""
    expect_len(answer, 2, "expected two differences, by heat and by removal")
    hits = {head: np.mean([corner.flat[np.argmax(each)] for each in own]) for head, own in maps.items()}
    a, b = ({head: (np.asarray(own) >= 0).mean() for head, own in scores.items()} for scores in (gone, there))
    by_heat, removal = hits["misled"] - hits["honest"], a["honest"] - a["misled"]
    mistakes = {
        "by heat: the sign is turned round; subtract the honest head's fraction": -by_heat,
        "by heat: that is the misled head's fraction; subtract the honest head's": hits["misled"],
    }
    compare(answer[0], by_heat, "by heat: the difference", mistakes)
    mistakes = {
        "by removal: the sign is turned round; subtract the misled head's fraction": -removal,
        "by removal: that is with the letter; take it away": b["honest"] - b["misled"],
        "by removal: that is what the misled head loses; compare the two without letter": b["misled"] - a["misled"],
    }
    compare(answer[1], removal, "by removal: the difference", mistakes)
    return f"the heads are {100 * by_heat:+.0f} points apart by heat, {100 * removal:+.0f} points by removal"


observe = text("lab5", "observe")
card_text = text("lab5", "card")
BOASTS = r"clinically proven|\bfda\b|replaces a|safe to use|state of the art"


def card(sections: Any) -> str:
    """Texts for the model card's three sections; whether they are good, people judge."""
    expect_keys(sections, SECTIONS, "expected a dictionary of three texts")
    for name, words in sections.items():
        wrong_if(name not in SECTIONS, f"there is no section '{name}'")
        wrong_if(len(f"{words}".split()) < 12, f"'{name}': {len(f'{words}'.split())} words, write at least twelve")
    boast = re.search(BOASTS, str(sections), re.IGNORECASE)
    wrong_if(boast, f"'{boast and boast[0]}' is more than this report can show")
    return card_text(" ".join(map(str, sections.values())))
