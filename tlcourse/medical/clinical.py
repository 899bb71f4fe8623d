"""Scores of a two-class test, from scores and labels (images,): 1 is ill, and a score at the threshold positive."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from tlhelpers.errors import DataError

Array = NDArray[Any]
Measure = Callable[[Array, Array], Mapping[str, float]]


def clinical_scores(scores: ArrayLike, labels: ArrayLike, threshold: float) -> dict[str, float]:
    """Sensitivity, specificity, balanced accuracy, AUC, average precision, accuracy and prevalence, as fractions.

    Raises DataError if lengths differ, a score is not finite, a label is neither 0 nor 1, or only one class occurs.
    """
    values, truth = check_scores(scores, labels, both_classes=True)
    positive = values >= threshold
    sensitivity, specificity = float(positive[truth == 1].mean()), float((~positive[truth == 0]).mean())
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced accuracy": (sensitivity + specificity) / 2,
        "AUC": float(roc_auc_score(truth, values)),
        "average precision": float(average_precision_score(truth, values)),
        "accuracy": float((positive == truth).mean()),
        "prevalence": float(truth.mean()),
    }


def threshold_for(scores: ArrayLike, labels: ArrayLike, *, sensitivity: float) -> float:
    """The highest threshold that reaches a sensitivity, above 0 and at most 1; a DataError if nobody is ill."""
    values, truth = check_scores(scores, labels)
    if not 0 < sensitivity <= 1:
        raise DataError(f"sensitivity should be above 0 and at most 1: a fraction, not per cent; found {sensitivity}")
    ill = np.sort(values[truth == 1])[::-1]
    if len(ill) == 0:
        raise DataError("nobody is ill here, so no threshold can be chosen by sensitivity")
    needed = int(np.ceil(sensitivity * len(ill) - 1e-9))  # the small number undoes the rounding of 0.95 * 20, say
    return float(ill[needed - 1])


def patient_bootstrap(
    measure: Measure, scores: ArrayLike, labels: ArrayLike, patients: ArrayLike, *, repeats: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Percentile bootstrap intervals (95 %) with patients as clusters (Efron 1979; Field and Welsh 2007).

    `measure` returns named numbers from scores and labels; the result has a row for each, with value, low and high.
    `patients` says for each image whose it is: a patient's images are resampled together, `repeats` times, and samples
    with only one class drawn again. The intervals say nothing about another training run or another hospital. Raises
    DataError as in `clinical_scores`, if there are fewer than two patients, or not one for each image.
    """
    values, truth = check_scores(scores, labels, both_classes=True)
    names, patient_numbers = np.unique(np.asarray(patients), return_inverse=True)
    if len(patient_numbers) != len(values) or len(names) < 2:
        found = f"{len(patient_numbers)} names of {len(names)} patients"
        raise DataError(f"{len(values)} images need as many names, of two patients or more; found {found}")
    rows = [np.flatnonzero(patient_numbers == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    samples: list[Mapping[str, float]] = []
    while len(samples) < repeats:
        chosen = np.concatenate([rows[number] for number in rng.integers(len(names), size=len(names))])
        if truth[chosen].min() < truth[chosen].max():
            samples.append(measure(values[chosen], truth[chosen]))
    low, high = pd.DataFrame(samples).quantile([0.025, 0.975]).to_numpy()
    return pd.DataFrame({"value": pd.Series(dict(measure(values, truth))), "low": low, "high": high})


def subgroup_table(scores: ArrayLike, labels: ArrayLike, subgroups: ArrayLike, threshold: float) -> pd.DataFrame:
    """Images, ill, sensitivity, specificity and AUC of each subgroup; NaN where a number does not exist.

    The AUC of a subgroup with only one class, such as the bacterial pneumonias, compares it with all images of the
    other class. Raises DataError as in `clinical_scores`, or if there is not a subgroup for each image.
    """
    values, truth = check_scores(scores, labels)
    positive, names = values >= threshold, np.asarray(subgroups)
    if len(names) != len(values):
        raise DataError(f"{len(values)} scores, but {len(names)} subgroups")
    rows = {}
    for name in dict.fromkeys(names.tolist()):
        ill, well = (names == name) & (truth == 1), (names == name) & (truth == 0)
        compared = (ill if ill.any() else truth == 1) | (well if well.any() else truth == 0)
        rows[name] = {
            "images": int((ill | well).sum()),
            "ill": int(ill.sum()),
            "sensitivity": float(positive[ill].mean()) if ill.any() else np.nan,
            "specificity": float((~positive[well]).mean()) if well.any() else np.nan,
            "AUC": float(roc_auc_score(truth[compared], values[compared])) if np.ptp(truth[compared]) else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"images": int, "ill": int})


def check_scores(scores: ArrayLike, labels: ArrayLike, *, both_classes: bool = False) -> tuple[Array, Array]:
    """Scores as float64 and labels as int64, both (images,); raises DataError if they are not what they must be."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape or len(values) == 0:
        shapes = f"expected one score and one label for each image, found shapes {values.shape} and {truth.shape}"
        raise DataError(f"{shapes}; of two columns of probabilities take that of the ill")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} of {len(values)} scores are not finite")
    if not np.isin(truth, (0, 1)).all():
        raise DataError(f"labels should be 0 or 1, found {sorted(set(np.unique(truth).tolist()) - {0, 1})[:3]}")
    if both_classes and truth.min() == truth.max():
        raise DataError(f"all {len(truth)} labels are {truth[0]}; images of both classes are needed")
    return values, truth.astype(np.int64)
