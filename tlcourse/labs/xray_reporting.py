"""Lab 5's checks of what follows training: calibration, threshold, interval, heat maps, test set, model card."""

import math
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from tlcourse.labs.answers import about, as_number, compare, expect, expect_keys, expect_len, match, text, wrong_if
from tlcourse.labs.lab import Wrong
from tlcourse.medical.calibration import calibration_error, fit_temperature, to_probabilities
from tlcourse.medical.clinical import clinical_scores, threshold_for
from tlcourse.medical.pointing_game import pointing_game
from tlcourse.medical.report import SECTIONS, ClinicalReport

Scored = tuple[Any, Any]  # scores and labels of a split
REPEATS = 400  # of the bootstrap


def threshold(function: Any, value: Any, *, val: Scored, test: Scored, sensitivity: float) -> str:
    """A function (scores, labels, sensitivity) that returns a threshold, and its result for the validation set."""
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([0, 1], [40, 30]))
    scores = np.round(1 / (1 + np.exp(-rng.normal(1.6 * labels - 0.8, 1.0))), 4)
    for needed in (0.95, 0.7):
        at = as_number(function(scores.copy(), labels.copy(), needed), "the threshold")
        _right_threshold(at, scores, labels, needed)
    chosen = as_number(value, "the threshold")
    on_val, on_test = (as_number(function(*split, sensitivity), "the threshold") for split in (val, test))
    if not math.isclose(chosen, on_val, rel_tol=1e-6):
        number = "the function is right; the number is"
        wrong_if(math.isclose(chosen, on_test, rel_tol=1e-6), f"{number} that of the test set, which must not choose")
        wrong_if(math.isclose(chosen, 0.5), f"{number} 0.5, which it did not choose")
        raise Wrong(f"{number} not what it gives for the validation set and this sensitivity")
    found = clinical_scores(*val, chosen)
    return f"validation: sensitivity {found['sensitivity']:.1%}, specificity {found['specificity']:.1%}"


def _right_threshold(at: float, scores: np.ndarray, labels: np.ndarray, needed: float) -> None:
    found, right = clinical_scores(scores, labels, at), threshold_for(scores, labels, sensitivity=needed)
    if found["sensitivity"] >= needed and found["specificity"] == (scores[labels == 0] < right).mean():
        return
    wrong_if(at in (0.5, needed), f"it returns {at:g} whatever the scores are; a threshold is a score")
    balanced = max(np.unique(scores), key=lambda s: clinical_scores(scores, labels, s)["balanced accuracy"])
    wrong_if(math.isclose(at, balanced), "that has the best balanced accuracy; the question asks for the sensitivity")
    wrong_if(found["specificity"] == 0, "with it everybody is called ill: of all that find enough, take the highest")
    specific = abs(found["specificity"] - needed) <= 1.5 / (labels == 0).sum()
    wrong_if(specific, f"at that threshold the specificity is {needed:g}: it was chosen among those who are not ill")
    of_all = [np.quantile(scores, 1 - needed, method=method) for method in ("linear", "lower", "higher")]
    quantile = "that is a quantile of all scores; sensitivity is a share of the ill, so only theirs matter"
    wrong_if(np.isclose(at, of_all, rtol=1e-9, atol=0).any(), quantile)
    text = f"it finds {found['sensitivity']:.1%}"
    wrong_if(found["sensitivity"] < needed, f"{text} where {needed:.1%} are needed: round towards finding more")
    raise Wrong(f"{text}, more than needed: a higher threshold does, and has fewer false alarms")


def interval(function: Any) -> str:
    """A function (measure, scores, labels, patients, repeats, seed) that returns (low, high), of 95 %."""
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(25), 4))
    labels, scores = patients % 2, np.arange(100.0)  # a score is the number of its image
    counts, values = [], []

    def measure(drawn: Any, truth: Any) -> float:
        rows = np.asarray(drawn).astype(int)
        apart = len(rows) != len(truth) or (labels[rows] != np.asarray(truth)).any()
        wrong_if(apart, "scores and labels of a draw do not belong together any more; draw rows, and use them for both")
        counts.append(np.bincount(rows, minlength=100))
        values.append(float(rows.mean()))
        return values[-1]

    def ends(seed: int) -> tuple[float, float]:
        found = function(measure, scores.copy(), labels.copy(), patients.copy(), REPEATS, seed)
        expect_len(found, 2, "it should return two numbers, low and high")
        return as_number(found[0], "the low end"), as_number(found[1], "the high end")

    low, high = ends(0)
    _drawn_well(counts, patients)
    wrong_if(low > high, "low and high are swapped")
    mean, spread, of_mean = np.mean(values), np.std(values), 1.96 * np.std(values) / math.sqrt(len(values))
    divided = "the spread was divided by the root of the number of draws; more draws do not bring more patients"
    mistakes = {
        "these are the smallest and the largest value; leave out 2.5 % on each side": (min(values), max(values)),
        "that holds the middle 90 %: of 95 % each side loses half of the rest": np.quantile(values, [0.05, 0.95]),
        divided: (mean - of_mean, mean + of_mean),
        "that is one standard deviation on each side, about 68 %": (mean - spread, mean + spread),
    }
    otherwise = "the ends are not the 2.5 % and 97.5 % quantiles of the measure over the draws"
    match((low, high), np.quantile(values, [0.025, 0.975]), mistakes, otherwise, 0.06 * spread)
    wrong_if(ends(0) != (low, high), "the same seed gives another interval the second time; seed a generator with it")
    wrong_if(ends(1) == (low, high), "another seed gives the same interval; is the seed used?")
    return "whole patients are drawn, with replacement, and the interval holds the middle 95 %"


def _drawn_well(counts: list[np.ndarray], patients: np.ndarray) -> None:
    calls = len(counts)
    wrong_if(calls < 0.9 * REPEATS, f"{REPEATS} draws were asked for, and the measure was called {calls} times")
    drawn = np.array(counts[-REPEATS:])
    wrong_if((drawn == 1).all(), "every draw holds each image once: draw with replacement")
    by_patient = drawn[:, np.argsort(patients, kind="stable")].reshape(len(drawn), -1, 4)
    torn = (by_patient != by_patient[:, :, :1]).any()
    wrong_if(torn, "images are drawn, not patients: a draw holds some images of a patient and others not")
    wrong_if(drawn.max() == 1, "a patient who is drawn twice should count twice; `np.isin` forgets how often")
    wrong_if((drawn.sum(axis=1) != len(patients)).mean() > 0.05, "a draw should hold as many patients as there are")


def temperature(function: Any, value: Any, *, val: Scored, test: Scored) -> str:
    """A function (log_odds, labels) that returns a temperature, and its result for the validation set."""
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0.3, 1.5, 3000)
    labels = (rng.random(3000) < to_probabilities(calibrated)).astype(int)
    log_odds = 2.5 * calibrated  # overconfident
    right = fit_temperature(log_odds, labels)
    found = as_number(function(log_odds.copy(), labels.copy()), "the temperature")
    wrong_if(math.isclose(found, 1 / right, rel_tol=0.03), "that is 1 / temperature: log-odds are divided by it")
    wrong_if(math.isclose(found, math.log(right), rel_tol=0.03), "that is the temperature's logarithm")
    wrong_if(found <= 0, "a temperature is above zero: below, it would swap ill and well")
    stuck = abs(found - 1) < 1e-3
    wrong_if(stuck, "it returns 1, which changes nothing: does the optimisation start there and not move?")
    least = f"in a test {right:.2f} has the least cross-entropy, and it returns {found:.2f}"
    wrong_if(not math.isclose(found, right, rel_tol=0.05), least)
    chosen = as_number(value, "the temperature")
    on_val, on_test = (fit_temperature(*split) for split in (val, test))
    number = "the function is right; the number"
    leaked = math.isclose(chosen, on_test, rel_tol=0.01) and not math.isclose(chosen, on_val, rel_tol=0.01)
    wrong_if(leaked, f"{number} was fitted on the test set, which then would look calibrated")
    wrong_if(not math.isclose(chosen, on_val, rel_tol=0.05), f"{number} is not what it gives for the validation set")
    return f"{chosen:.2f}, fitted on the validation set. Exercise 12 asks whether it helps on the test set"


def report(answer: Any, calibration: Any, *, threshold: float, temperature: float, val: Scored, test: Any) -> str:
    """A report that evaluates the test set, (log-odds, labels, patients), once; and whether the temperature helped."""
    expect(answer, ClinicalReport, "expected the report, which `evaluate` adds an evaluation to")
    log_odds, labels, patients = (np.asarray(values) for values in test)
    wrong_if(not answer.evaluations, "the test set was not evaluated yet")
    found, images, people = answer.evaluations[0], len(labels), len(set(patients.tolist()))
    other = f"{found.images} images were evaluated, and the test set has {images}: which split is it?"
    wrong_if(found.images != images, other)
    alone = found.patients == found.images > people
    wrong_if(alone, "each image stands as a patient of its own: hand over the patients, so that intervals are honest")
    wrong_if(found.patients != people, f"{found.patients} patients, and the test set has {people}")
    for name, right in {"temperature": temperature, "threshold": threshold}.items():
        given = getattr(found, name)
        wrong_if(not math.isclose(given, right, rel_tol=1e-6), f"the {name} was {given:.3g}, not that from validation")
    auc = clinical_scores(to_probabilities(log_odds, temperature), labels, threshold)["AUC"]
    turned = math.isclose(float(found.table["value"]["AUC"]), 1 - auc, abs_tol=1e-6) and auc != 0.5
    wrong_if(turned, "the AUC is turned round: log-odds of being ill are the second logit minus the first")
    errors = [calibration_error(to_probabilities(log_odds, t), labels) for t in (1.0, temperature)]
    on_val = [calibration_error(to_probabilities(val[0], t), val[1]) for t in (1.0, temperature)]
    same = math.isclose(found.calibration, errors[1], abs_tol=1e-6)
    wrong_if(not same, "the scores are not the log-odds of the test set; were probabilities handed over?")
    wrong_if(found.subgroups is None, "without subgroups nobody sees for whom the network fails: hand them over too")
    times = f"the test set was evaluated {len(answer.evaluations)} times, which the report says, with your reason;"
    again = "if the cell merely ran twice, make the report anew in the same cell"
    wrong_if(len(answer.evaluations) > 1, f"{times} {again}")
    expect_keys(calibration, ("fitted on", "before", "after", "helped"), "calibration should be a dictionary")
    fitted, helped = str(calibration["fitted on"]).lower(), errors[1] < errors[0]
    wrong_if("test" in fitted, "fitted on the test set, it would say nothing of new patients; on which set was it?")
    wrong_if("val" not in fitted, f"{fitted!r} is not the set on which exercise 7 fitted the temperature")
    for i, name in enumerate(("before", "after")):
        mistakes = {
            f"'{name}' is the other one; before is without the temperature, after is with it": errors[1 - i],
            f"'{name}' is that of the validation set": on_val[i],
        }
        compare(calibration[name], errors[i], f"'{name}', the calibration error on the test set,", mistakes, 1e-4)
    change = f"the calibration error goes from {errors[0]:.3f} to {errors[1]:.3f}: the temperature "
    change += "helped" if helped else "did not help"
    wrong_if(calibration["helped"] != helped, f"{change}, so 'helped' should be {helped}")
    return f"evaluated once: AUC {auc:.3f}, with its interval by patient; {change}"


def heat(answer: Any, *, maps: Any, corner: Any, marked: Any, plain: Any) -> str:
    """How far an honest and a misled head are apart by hits of their heat maps, and by the ill found without letter.

    `maps`, `marked` and `plain` are pairs: the heat maps, and the log-odds of the ill with the letter and without it.
    """
    expect_len(answer, 2, "expected two differences, by heat and by removal")
    hits = [np.mean([pointing_game(heat, corner).hit for heat in own]) for own in maps]
    found, with_letter = ([(np.asarray(own) >= 0).mean() for own in scores] for scores in (plain, marked))
    mistakes = {
        "by heat: the sign is turned round; the misled head's share minus the honest head's": hits[0] - hits[1],
        "by heat: that is the misled head's share; subtract the honest head's": hits[1],
    }
    compare(answer[0], hits[1] - hits[0], "by heat: the difference", mistakes)
    mistakes = {
        "by removal: the sign is turned round; the honest head's share minus the misled head's": found[1] - found[0],
        "by removal: that is with the letter; take it away": with_letter[0] - with_letter[1],
        "by removal: that is what the misled head loses; compare the two without letter": with_letter[1] - found[1],
    }
    compare(answer[1], found[0] - found[1], "by removal: the difference", mistakes)
    shares = (f"{honest:.0%} by the honest head and {misled:.0%} by the misled" for honest, misled in (hits, found))
    return "hottest in the corner: {}; found without the letter: {}".format(*shares)


def shortcut(answer: Any, *, marked: Any, plain: Any, labels: Any) -> str:
    """The fall of the AUC when the letter is removed; `marked` and `plain` are the scores with and without it."""
    truth, decisions = np.asarray(labels), [np.asarray(scores) >= 0 for scores in (marked, plain)]
    with_letter, without = (float(roc_auc_score(truth, scores)) for scores in (marked, plain))
    hard = roc_auc_score(truth, decisions[0]) - roc_auc_score(truth, decisions[1])
    accuracy = (decisions[0] == truth).mean() - (decisions[1] == truth).mean()
    right = with_letter - without
    mistakes = {
        "the sign is turned round: with the letter minus without": -right,
        "give a difference of two AUCs, between 0 and 1, not points": 100 * right,
        "that is the AUC with the letter; subtract the one without": with_letter,
        "that is the AUC without the letter; the question asks for the difference": without,
        "that came from decisions; the AUC takes the scores": hard,
        "that is the difference of two accuracies": accuracy,
        "that is the loss relative to the AUC; the question asks for the plain difference": right / with_letter,
    }
    compare(answer, right, "the difference", mistakes, tolerance=1e-4)
    return f"{with_letter:.3f} with the letter, {without:.3f} for the same images without it"


SUBJECTS = r"drawn|phantom|drawing|synthetic|made.up|simulat|kermany|guangzhou|children"
CARD = {
    "intended use": [
        (r"teach|learn|course|exercise|method", "what it is meant for: teaching"),
        (r"\b(not|never|no)\b", "what it must not be used for"),
    ],
    "data": [(SUBJECTS, "whom or what the images show"), (r"\bpatients?\b", "how the patients were divided")],
    "limits": [
        (r"prevalence|rare|frequen|share of ill", "another prevalence"),
        (r"hospital|device|machine|popul|clinic|site", "another hospital or device"),
        (r"letter|marker|shortcut|artefact|artifact", "shortcuts such as the letter"),
    ],
}
BOASTS = ("clinically proven", "fda", "replaces a", "safe to use", "state of the art")


def card(sections: Any, *, report: ClinicalReport) -> str:
    """Texts for the model card's three sections; whether they are good, the reader judges."""
    expect_keys(sections, SECTIONS, "expected a dictionary of three texts")
    for name, words in sections.items():
        wrong_if(name not in SECTIONS, f"there is no section '{name}'")
        with about(f"'{name}'"):
            text(*CARD[name], least=12)(words)
        for claim in BOASTS:
            wrong_if(claim in words.lower(), f"'{claim}' is more than this report can show")
    count = len(report.evaluations)
    return f"the card says what it is for, whom it was made from, and what it cannot do; {count} test evaluation"
