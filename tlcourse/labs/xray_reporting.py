"""The exercises of lab 5, second half: threshold, intervals, calibration, the test set, heat maps, the card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tlcourse.labs.answers import as_number, compare, text
from tlcourse.labs.lab import Wrong
from tlcourse.medical.calibration import calibration_error, fit_temperature, to_probabilities
from tlcourse.medical.clinical import clinical_scores, threshold_for
from tlcourse.medical.pointing_game import pointing_game
from tlcourse.medical.report import SECTIONS, ClinicalReport

Scored = tuple[Any, Any]  # scores and labels of a part


def threshold(function: Any, value: Any, *, val: Scored, test: Scored, sensitivity: float) -> str:
    """A function (scores, labels, sensitivity) to a threshold, and what it gives for the validation set."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([0, 1], [40, 30]))
    scores = np.round(1 / (1 + np.exp(-rng.normal(1.6 * labels - 0.8, 1.0))), 4)
    _threshold_on(function, scores, labels, 0.95)
    _threshold_on(function, scores, labels, 0.7)
    chosen = as_number(value, "the threshold")
    on_val, on_test = (as_number(function(*part, sensitivity), "the threshold") for part in (val, test))
    if math.isclose(chosen, on_val, rel_tol=1e-6):
        found = clinical_scores(*val, chosen)
        return f"on the validation set it finds {found['sensitivity']:.1%} and spares {found['specificity']:.1%}"
    if math.isclose(chosen, on_test, rel_tol=1e-6):
        raise Wrong("the function is right; the number is that of the test set, which is not there for choosing")
    if math.isclose(chosen, 0.5):
        raise Wrong("the function is right; the number is 0.5, which it did not choose")
    raise Wrong("the function is right; the number is not what it gives for the validation set and this sensitivity")


def _threshold_on(function: Callable[..., Any], scores: np.ndarray, labels: np.ndarray, needed: float) -> None:
    at = as_number(function(scores.copy(), labels.copy(), needed), "the threshold")
    best = threshold_for(scores, labels, sensitivity=needed)
    found = clinical_scores(scores, labels, at)
    most = max(np.unique(scores), key=lambda s: clinical_scores(scores, labels, s)["balanced accuracy"])
    well = np.sort(scores[labels == 0])
    as_good = (
        found["sensitivity"] >= needed and found["specificity"] == clinical_scores(scores, labels, best)["specificity"]
    )
    if as_good:
        return
    if at in (0.5, needed):
        raise Wrong(f"it returns {at:g} whatever the scores are; a threshold is a score")
    if math.isclose(at, float(most)):
        raise Wrong("that is the threshold with the best balanced accuracy; the sensitivity was to be had")
    if found["specificity"] == 0:
        raise Wrong("at that threshold everybody is called ill: of all that find enough, take the highest")
    if abs(float((well < at).mean()) - needed) <= 1.5 / len(well):
        raise Wrong(f"at that threshold the specificity is {needed:g}: it was chosen among those who are not ill")
    if any(math.isclose(at, np.quantile(scores, 1 - needed, method=how)) for how in ("linear", "lower", "higher")):
        raise Wrong("that is a quantile of all scores; sensitivity is a share of the ill, so only theirs matter")
    if found["sensitivity"] < needed:
        raise Wrong(f"it finds {found['sensitivity']:.1%} where {needed:.1%} are needed: round towards finding more")
    raise Wrong(f"it finds {found['sensitivity']:.1%}, more than needed: a higher threshold does, and spares more")


# --- 8 interval -------------------------------------------------------------------------------------------------

REPEATS = 400


def interval(function: Any) -> str:
    """A function (measure, scores, labels, patients, repeats, seed) that returns (low, high), of 95 %."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(25), 4))
    labels, scores = patients % 2, np.arange(100.0)  # a score is the number of its image
    counts, values = [], []

    def measure(drawn: Any, truth: Any) -> float:
        rows = np.asarray(drawn).astype(int)
        if len(rows) != len(truth) or (labels[rows] != np.asarray(truth)).any():
            raise Wrong("scores and labels of a draw do not belong together any more; draw rows, and use them for both")
        counts.append(np.bincount(rows, minlength=100))
        values.append(float(rows.mean()))
        return values[-1]

    def ends(seed: int) -> tuple[float, float]:
        counts.clear()
        values.clear()
        found = function(measure, scores.copy(), labels.copy(), patients.copy(), REPEATS, seed)
        if not isinstance(found, list | tuple | np.ndarray) or len(found) != 2:
            raise Wrong("it should return two numbers, low and high")
        return as_number(found[0], "the low end"), as_number(found[1], "the high end")

    low, high = ends(0)
    _drawn_well(counts, patients)
    _percentiles(low, high, np.array(values))
    if ends(0) != (low, high):
        raise Wrong("the same seed gives another interval the second time; make a generator from the seed")
    if ends(1) == (low, high):
        raise Wrong("another seed gives the same interval; is the seed used?")
    return "whole patients are drawn, with replacement, and the interval holds the middle 95 %"


def _drawn_well(counts: list[np.ndarray], patients: np.ndarray) -> None:
    if len(counts) < 0.9 * REPEATS:
        raise Wrong(f"{REPEATS} draws were asked for, and the measure was called {len(counts)} times")
    drawn = np.array(counts[-REPEATS:])
    if (drawn == 1).all():
        raise Wrong("every draw holds each image once: draw with replacement")
    whole = all((drawn[:, patients == p] == drawn[:, patients == p][:, :1]).all() for p in np.unique(patients))
    if not whole:
        raise Wrong("images are drawn, not patients: a draw holds some images of a patient and others not")
    if drawn.max() == 1:
        raise Wrong("a patient who is drawn twice should count twice; `np.isin` forgets how often")
    if (drawn.sum(axis=1) != len(patients)).mean() > 0.05:
        raise Wrong("a draw should hold as many patients as there are")


def _percentiles(low: float, high: float, values: np.ndarray) -> None:
    if low > high:
        raise Wrong("low and high are swapped")

    def near(a: float, b: float) -> bool:
        slack = 0.06 * values.std()
        return abs(low - a) < slack and abs(high - b) < slack

    mean, spread = values.mean(), values.std()
    if near(values.min(), values.max()):
        raise Wrong("these are the smallest and the largest value; leave out 2.5 % on each side")
    if near(*np.quantile(values, [0.05, 0.95])):
        raise Wrong("that holds the middle 90 %: of 95 % each side loses half of the rest")
    if near(mean - spread / math.sqrt(len(values)) * 1.96, mean + spread / math.sqrt(len(values)) * 1.96):
        raise Wrong("the spread was divided by the root of the number of draws; more draws do not bring more patients")
    if near(mean - spread, mean + spread):
        raise Wrong("that is one standard deviation on each side, about 68 %")
    if not near(*np.quantile(values, [0.025, 0.975])):
        raise Wrong("the ends are not the 2.5 % and 97.5 % quantiles of what the measure said of the draws")


# --- 9 temperature ----------------------------------------------------------------------------------------------


def temperature(function: Any, value: Any, *, val: Scored, test: Scored) -> str:
    """A function (log_odds, labels) to a temperature, and what it gives for the validation set."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    rng = np.random.default_rng(0)
    honest = rng.normal(0.3, 1.5, 3000)
    labels = (rng.random(3000) < to_probabilities(honest)).astype(int)
    proud = 2.5 * honest
    right = fit_temperature(proud, labels)
    found = as_number(function(proud.copy(), labels.copy()), "the temperature")
    if math.isclose(found, 1 / right, rel_tol=0.03):
        raise Wrong("that is one over the temperature: log-odds are divided by it, not multiplied")
    if math.isclose(found, math.log(right), rel_tol=0.03):
        raise Wrong("that is the temperature's logarithm")
    if found <= 0:
        raise Wrong("a temperature is above zero: below, it would turn ill and well round")
    if math.isclose(found, 1, abs_tol=1e-3):
        raise Wrong("it returns 1, which changes nothing: does the optimisation start there and not move?")
    if not math.isclose(found, right, rel_tol=0.05):
        raise Wrong(f"in a test {right:.2f} has the least cross-entropy, and it returns {found:.2f}")
    chosen = as_number(value, "the temperature")
    on_val, on_test = (fit_temperature(*part) for part in (val, test))
    if math.isclose(chosen, on_test, rel_tol=0.01) and not math.isclose(chosen, on_val, rel_tol=0.01):
        raise Wrong("the function is right; the number was fitted on the test set, which then would look calibrated")
    if not math.isclose(chosen, on_val, rel_tol=0.05):
        raise Wrong("the function is right; the number is not what it gives for the validation set's log-odds")
    before, after = (calibration_error(to_probabilities(val[0], t), val[1]) for t in (1.0, chosen))
    return f"{chosen:.2f}; on the validation set the calibration error goes from {before:.3f} to {after:.3f}"


# --- 10 report --------------------------------------------------------------------------------------------------


def report(answer: Any, *, threshold: float, temperature: float, test: tuple[Any, Any, Any]) -> str:
    """A report with one look at the test set: (log-odds, labels, patients), at the chosen threshold."""
    if not isinstance(answer, ClinicalReport):
        raise Wrong(f"expected the report, found {type(answer).__name__}; `evaluate` returns a look, not the report")
    log_odds, labels, patients = (np.asarray(values) for values in test)
    if not answer.looks:
        raise Wrong("the test set was not evaluated yet")
    look = answer.looks[0]
    if look.images != len(labels):
        raise Wrong(f"{look.images} images were evaluated, and the test set has {len(labels)}: which part is it?")
    if look.patients == look.images > len(set(patients.tolist())):
        raise Wrong("each image stands as a patient of its own: hand over the patients, so that intervals are honest")
    if look.patients != len(set(patients.tolist())):
        raise Wrong(f"{look.patients} patients, and the test set has {len(set(patients.tolist()))}")
    if not math.isclose(look.temperature, temperature, rel_tol=1e-6):
        raise Wrong(f"the temperature was {look.temperature:.3g}, not the one that was fitted on validation")
    if not math.isclose(look.threshold, threshold, rel_tol=1e-6):
        raise Wrong(f"the threshold was {look.threshold:.3g}, not the one that was chosen on validation")
    right = clinical_scores(to_probabilities(log_odds, temperature), labels, threshold)
    if math.isclose(float(look.table["value"]["AUC"]), 1 - right["AUC"], abs_tol=1e-6) and right["AUC"] != 0.5:
        raise Wrong("the AUC is turned round: log-odds of being ill are the second logit minus the first")
    if not math.isclose(
        look.calibration, calibration_error(to_probabilities(log_odds, temperature), labels), abs_tol=1e-6
    ):
        raise Wrong("the scores are not the log-odds of the test set; were probabilities handed over?")
    if look.subgroups is None:
        raise Wrong("without subgroups nobody sees whom the network fails: hand them over too")
    if len(answer.looks) > 1:
        raise Wrong(
            f"the test set was evaluated {len(answer.looks)} times. It stands in the report, with your reason; if the "
            "cell was merely run twice, make the report anew in the same cell"
        )
    return f"evaluated once: AUC {right['AUC']:.3f}, with its interval by patient"


# --- 11 heat, 12 shortcut ---------------------------------------------------------------------------------------


def heat(function: Any) -> str:
    """A function (heat, mask) that returns whether the hottest pixel is in the mask, and the IoU at the mask's size."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    rng = np.random.default_rng(4)
    mask = np.zeros((9, 14), dtype=bool)
    mask[2:5, 8:13] = True
    warm = 0.1 * rng.random((9, 14))
    warm[3:6, 6:11] += 0.35  # 6 of 15 pixels lie in the mask; none of them reaches one half but the hottest
    warm[4, 10] = 1.0
    away = warm.copy()
    away[5, 7] = 1.5
    pairs = [_hit_and_overlap(function(values.copy(), mask.copy())) for values in (warm, away)]
    (hit, iou), (missed, _) = pairs
    if not hit and missed:
        raise Wrong("the hit is turned round, or the coldest pixel was taken")
    if hit and missed:
        raise Wrong("a map whose hottest pixel is beside the mask counts as a hit: only the one hottest pixel decides")
    if not hit:
        raise Wrong("a map whose hottest pixel is in the mask counts as none; are row and column in their order?")
    right = pointing_game(warm, mask)
    slips = {
        right.overlap: "that is the common part over the size of one of them (or Dice); divide by the union",
        1 / 15: "only pixels above one half were taken; take as many of the hottest as the mask has",
        right.chance: "that is the share of the image that the mask covers",
    }
    compare(iou, right.iou, "in a test the IoU", slips, tolerance=1e-3)
    corner = np.zeros((9, 14), dtype=bool)
    corner[:3, :3] = True
    if _hit_and_overlap(function(np.zeros((9, 14)), corner)) != (False, 0.0):
        raise Wrong(
            "a map of zeros counts for the upper left corner, since `argmax` of a flat map is its first pixel; such a "
            "map points nowhere: no hit, and 0"
        )
    return "the hottest pixel decides the hit, and as many of the hottest as the mask has the overlap"


def _hit_and_overlap(answer: Any) -> tuple[bool, float]:
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        raise Wrong("it should return two things: whether it is a hit, and the IoU")
    hit, iou = answer
    if not isinstance(hit, bool | np.bool_):
        raise Wrong(f"the first should be True or False, found {type(hit).__name__}")
    return bool(hit), as_number(iou, "the IoU")


def shortcut(answer: Any, *, marked: Any, plain: Any, labels: Any) -> str:
    """By how much the AUC falls when the letter is taken away: `marked` and `plain` are the scores with and without."""
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(labels)
    with_letter, without = (float(roc_auc_score(truth, scores)) for scores in (marked, plain))
    right = with_letter - without
    hard = [float(roc_auc_score(truth, np.asarray(scores) >= 0)) for scores in (marked, plain)]
    same = [float(((np.asarray(scores) >= 0) == truth).mean()) for scores in (marked, plain)]
    slips = {
        -right: "the sign is turned round: with the letter minus without",
        100 * right: "give a difference of two AUCs, between 0 and 1, not points",
        with_letter: "that is the AUC with the letter; subtract the one without",
        without: "that is the AUC without the letter; it is the difference that is asked for",
        hard[0] - hard[1]: "that came from decisions; the AUC takes the scores",
        same[0] - same[1]: "that is the difference of two accuracies",
        right / with_letter: "that is the loss relative to the AUC; the plain difference is asked for",
    }
    compare(answer, right, "the difference", slips, tolerance=1e-4)
    return f"{with_letter:.3f} with the letter, {without:.3f} for the same images without it"


# --- 13 card ----------------------------------------------------------------------------------------------------

_CARD: Mapping[str, list[tuple[str, str]]] = {
    "intended use": [
        (r"teach|learn|course|exercise|method", "what it is meant for: teaching"),
        (r"\b(not|never|no)\b", "what it must not be used for"),
    ],
    "data": [
        (
            r"drawn|phantom|drawing|synthetic|made.up|simulat|kermany|guangzhou|children",
            "whom or what the images show",
        ),
        (r"\b(patient|patients)\b", "how the patients were divided"),
    ],
    "limits": [
        (r"prevalence|rare|frequen|share of ill", "another prevalence"),
        (r"hospital|device|machine|popul|clinic|site", "another hospital or device"),
        (r"letter|marker|shortcut|artefact|artifact", "shortcuts such as the letter"),
    ],
}


def card(sections: Any, *, report: ClinicalReport) -> str:
    """Texts for the model card's three sections; whether they are good, the reader judges."""
    if not isinstance(sections, Mapping):
        raise Wrong(f"expected a dictionary of three texts, found {type(sections).__name__}")
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise Wrong(f"the section '{missing[0]}' is missing")
    if set(sections) - set(SECTIONS):
        raise Wrong(f"there is no section '{min(set(sections) - set(SECTIONS))}'")
    for name in SECTIONS:
        try:
            text(_CARD[name], least=12)(sections[name])
        except Wrong as wrong:
            raise Wrong(f"'{name}': {wrong}") from None
    boast = [claim for claim in ("clinically proven", "fda", "replaces a", "safe to use", "state of the art")
             if claim in " ".join(sections.values()).lower()]  # fmt: skip
    if boast:
        raise Wrong(f"'{boast[0]}' is more than this report can carry")
    looks = len(report.looks)
    return f"the card says what it is for, whom it was made from, and what it cannot do; {looks} look at the test set"
