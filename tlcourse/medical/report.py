"""A report that records every evaluation of the test set, and the model card made from it."""

import functools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tlcourse.medical.calibration import calibration_error, to_probabilities
from tlcourse.medical.clinical import clinical_scores, patient_bootstrap, subgroup_table
from tlhelpers.errors import TLError

NOT_A_DEVICE = (
    "This is not a medical device. It was made for teaching, was not examined by any authority, and must not be used "
    "to find, rule out or treat a disease in anybody."
)
NUMBERS = ["AUC", "average precision", "balanced accuracy", "sensitivity", "specificity"]
SECTIONS = ("intended use", "data", "limits")  # of the model card, which its author writes


class ReportError(TLError, RuntimeError):
    """A report cannot be written as asked, or the test set would be looked at again without a reason."""


@dataclass(frozen=True)
class TestEvaluation:
    """One evaluation of the test set."""

    reason: str  # why it was made; "planned" for the first
    threshold: float  # of the probability; at or above it the test is positive
    images: int
    patients: int
    prevalence: float  # fraction of images that are ill
    table: pd.DataFrame  # a row for each of `NUMBERS`, with the columns value, low and high (95 %, by patient)
    calibration: float  # expected calibration error
    subgroups: pd.DataFrame | None  # as from `subgroup_table`

    def __str__(self) -> str:
        interval = "  {:20}{:.3f}  (95 % interval by patient {:.3f} to {:.3f})"
        lines = [
            f"  {self.images} images of {self.patients} patients, {self.prevalence:.0%} of the images ill",
            f"  threshold {self.threshold:.3f} of the probability",
            *(interval.format(*row) for row in self.table[["value", "low", "high"]].itertuples()),
            f"  {'calibration error':20}{self.calibration:.3f}",
        ]
        if self.subgroups is not None:
            lines += ["    " + line for line in self.subgroups.round(3).to_string(na_rep="-").splitlines()]
        return "\n".join(lines)


@dataclass
class ClinicalReport:
    """Evaluates the test set and records it. A later evaluation needs a reason: it may have been chosen on."""

    model: str  # what was evaluated, in words
    evaluations: list[TestEvaluation] = field(default_factory=list)

    def evaluate(
        self,
        log_odds: ArrayLike,
        labels: ArrayLike,
        patients: ArrayLike,
        *,
        threshold: float,
        subgroups: ArrayLike | None = None,
        reason: str | None = None,
        repeats: int = 1000,
        seed: int = 0,
    ) -> TestEvaluation:
        """Evaluate the test set; `log_odds`, `labels` (1 for ill), `patients` and `subgroups` are (images,).

        The threshold, a probability, comes from the validation set. `repeats`, `seed` and the DataErrors are those of
        `patient_bootstrap`. A second evaluation needs a `reason`: a ReportError if it has fewer than three words.
        """
        if self.evaluations and len((reason or "").split()) < 3:
            again = "If there is a good reason to do it again, say so in a few words"
            raise ReportError(f'the test set was evaluated already. {again}: reason="...". It will stand in the report')
        probabilities = to_probabilities(log_odds)
        measure = functools.partial(clinical_scores, threshold=threshold)
        table = patient_bootstrap(measure, probabilities, labels, patients, repeats=repeats, seed=seed)
        facts: Any = {"images": len(probabilities), "patients": len(np.unique(patients)), "table": table.loc[NUMBERS]}
        facts |= {"prevalence": table["value"]["prevalence"], "calibration": calibration_error(probabilities, labels)}
        groups = None if subgroups is None else subgroup_table(probabilities, labels, subgroups, threshold)
        evaluation = TestEvaluation(reason or "planned", threshold, **facts, subgroups=groups)
        self.evaluations.append(evaluation)
        return evaluation

    def card(self, sections: Mapping[str, str]) -> str:
        """The model card (Mitchell et al. 2019): what its author wrote, and the results; a ReportError without."""
        if not self.evaluations:
            raise ReportError("there is no evaluation of the test set yet, so a card would have no results")
        blocks = [f"MODEL CARD: {self.model}", _wrapped(NOT_A_DEVICE)]
        blocks += [f"{name.capitalize()}\n{_wrapped(sections[name])}" for name in sections]
        return "\n\n".join([*blocks, f"Results on the test set\n{self}"])

    def __str__(self) -> str:
        if not self.evaluations:
            return f"{self.model}: the test set was not evaluated."
        first, *later = self.evaluations
        count = f"{len(self.evaluations)} times; results after the first are optimistic" if later else "once"
        lines = [str(first), f"  The test set was evaluated {count}."]
        lines += [f"  evaluation {n}, because: {again.reason}\n{again}" for n, again in enumerate(later, start=2)]
        return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 92, initial_indent="  ", subsequent_indent="  ")
