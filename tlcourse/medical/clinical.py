"""What a reader of a medical study asks for: numbers at a threshold, intervals by patient, subgroups.

Throughout, a score is a number for each image, the higher the more ill; a label is 1 for ill, 0 for not; and a score
at the threshold or above it means "ill". AUC and average precision are computed by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tlhelpers.errors import DataError

Measure = Callable[[NDArray[Any], NDArray[Any]], Mapping[str, float]]


def clinical_scores(scores: ArrayLike, labels: ArrayLike, threshold: float) -> dict[str, float]:
    """The numbers of a two-class test.

    Args:
        scores: (images,) the higher, the more ill.
        labels: (images,) 1 for ill, 0 for not; both occur.
        threshold: a score at or above it means "ill".

    Returns:
        sensitivity (of the ill, the share that is found), specificity (of the others, the share that is left in peace),
        balanced accuracy (their mean), AUC, average precision, accuracy, prevalence (share of ill): fractions.

    Raises:
        DataError: if lengths differ, a score is not finite, a label is neither 0 nor 1, or only one class occurs.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    values, truth = checked(scores, labels)
    if truth.min() == truth.max():
        raise DataError(f"all {len(truth)} labels are {truth[0]}: without both classes there is no AUC or specificity")
    called = values >= threshold
    found, spared = float(called[truth == 1].mean()), float((~called[truth == 0]).mean())
    return {
        "sensitivity": found,
        "specificity": spared,
        "balanced accuracy": (found + spared) / 2,
        "AUC": float(roc_auc_score(truth, values)),
        "average precision": float(average_precision_score(truth, values)),
        "accuracy": float((called == truth).mean()),
        "prevalence": float(truth.mean()),
    }


def threshold_for(scores: ArrayLike, labels: ArrayLike, *, sensitivity: float) -> float:
    """The highest threshold at which at least this share of the ill is found. Choose it on the validation set.

    Args:
        scores: (images,) of the validation set.
        labels: (images,) 1 for ill, 0 for not.
        sensitivity: what is needed, above 0 and at most 1.

    Returns:
        one of the scores of the ill.

    Raises:
        DataError: as in `clinical_scores`, if nobody is ill, or if `sensitivity` is out of range.
    """
    values, truth = checked(scores, labels)
    if not 0 < sensitivity <= 1:
        raise DataError(
            f"sensitivity should be above 0 and at most 1, not {sensitivity}; give a fraction, not per cent"
        )
    ill = np.sort(values[truth == 1])[::-1]
    if len(ill) == 0:
        raise DataError("nobody is ill here, so no threshold can be chosen by sensitivity")
    needed = int(np.ceil(sensitivity * len(ill) - 1e-9))  # the small number undoes the rounding of 0.95 * 20, say
    return float(ill[needed - 1])


def patient_bootstrap(
    measure: Measure,
    scores: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[Any] | NDArray[Any],
    *,
    repeats: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Percentile intervals from patients drawn with replacement (Efron 1979; Field and Welsh 2007 for clusters).

    Images of one patient resemble each other, so they are drawn together: whoever is drawn twice brings all images
    twice. Draws in which only one class occurs are drawn anew. The intervals speak of other patients like these,
    not of another training, nor of another hospital.

    Args:
        measure: from (scores, labels) to named numbers, such as `clinical_scores` at a threshold.
        scores: (images,).
        labels: (images,) 1 for ill, 0 for not.
        patients: (images,) whose image it is.
        repeats: how many draws.
        confidence: share of the draws that an interval holds.
        seed: of the draws.

    Returns:
        a row for each number, with the columns value, low and high.

    Raises:
        DataError: as in `clinical_scores`, or if there are not two patients or more, or a name for each image.
    """
    values, truth = checked(scores, labels)
    if len(patients) != len(values):
        raise DataError(f"{len(values)} scores, but {len(patients)} names of patients")
    names, of = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2 or truth.min() == truth.max():
        raise DataError(f"{len(names)} patients with {len(np.unique(truth))} classes: drawing needs two of both")
    rows = [np.flatnonzero(of == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn: list[Mapping[str, float]] = []
    while len(drawn) < repeats:
        chosen = np.concatenate([rows[number] for number in rng.integers(len(names), size=len(names))])
        if truth[chosen].min() < truth[chosen].max():
            drawn.append(measure(values[chosen], truth[chosen]))
    edge = (1 - confidence) / 2
    low, high = pd.DataFrame(drawn).quantile([edge, 1 - edge]).to_numpy()
    value = pd.Series(dict(measure(values, truth)))
    return pd.DataFrame({"value": value, "low": low, "high": high})


def subgroup_table(
    scores: ArrayLike, labels: ArrayLike, subgroups: Sequence[str] | NDArray[Any], threshold: float
) -> pd.DataFrame:
    """How well each subgroup does.

    A subgroup in which all are ill, such as the bacterial pneumonias, has no specificity of its own; its AUC
    compares it with all images that are not ill. So with a subgroup of images none of which is ill: it has no
    sensitivity, and its AUC compares it with all the ill.

    Args:
        scores: (images,).
        labels: (images,) 1 for ill, 0 for not.
        subgroups: (images,) names.
        threshold: a score at or above it means "ill".

    Returns:
        a row for each subgroup, with the columns images, ill, sensitivity, specificity and AUC; NaN where there is
        none.

    Raises:
        DataError: as in `clinical_scores`, or if there is not a subgroup for each image.
    """
    from sklearn.metrics import roc_auc_score

    values, truth = checked(scores, labels)
    if len(subgroups) != len(values):
        raise DataError(f"{len(values)} scores, but {len(subgroups)} subgroups")
    called, of = values >= threshold, np.asarray(subgroups)
    rows = {}
    for name in dict.fromkeys(of.tolist()):
        inside = of == name
        ill, well = inside & (truth == 1), inside & (truth == 0)
        others = inside if ill.any() and well.any() else inside | (truth == (0 if ill.any() else 1))
        rows[name] = {
            "images": int(inside.sum()),
            "ill": int(ill.sum()),
            "sensitivity": float(called[ill].mean()) if ill.any() else np.nan,
            "specificity": float((~called[well]).mean()) if well.any() else np.nan,
            "AUC": float(roc_auc_score(truth[others], values[others])) if np.ptp(truth[others]) else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"images": int, "ill": int})


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores as float64 and labels as int64, both (images,).

    Raises:
        DataError: if lengths differ, there are none, a score is not finite, or a label is neither 0 nor 1.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape or len(values) == 0:
        raise DataError(
            f"expected one score and one label for each image, found shapes {values.shape} and {truth.shape}; of two "
            "columns of probabilities take that of the ill"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} of {len(values)} scores are not finite")
    if not np.isin(truth, (0, 1)).all():
        raise DataError(f"labels should be 0 or 1, found {sorted(set(np.unique(truth).tolist()) - {0, 1})[:3]}")
    return values, truth.astype(np.int64)
