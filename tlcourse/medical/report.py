"""A report that remembers every look at the test set, and the model card that follows from it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tlcourse.medical.calibration import calibration_error, to_probabilities
from tlcourse.medical.clinical import clinical_scores, patient_bootstrap, subgroup_table
from tlhelpers.errors import ReportError

NOT_A_DEVICE = (
    "This is not a medical device. It was made for teaching, was not examined by any authority, and must not be used "
    "to find, rule out or treat a disease in anybody."
)
NUMBERS = ("AUC", "average precision", "balanced accuracy", "sensitivity", "specificity")
SECTIONS = ("intended use", "data", "limits")  # of the model card, which its author writes


@dataclass(frozen=True)
class Look:
    """One evaluation of the test set.

    Attributes:
        number: 1 for the first.
        reason: why; of the first one "planned".
        threshold: of the probability, at which "ill" begins.
        temperature: by which the log-odds were divided.
        images, patients: how many.
        prevalence: share of images that are ill.
        table: a row for each number, with the columns value, low and high (95 %, by patient).
        calibration: expected calibration error.
        subgroups: as from `subgroup_table`; None if there were none.
    """

    number: int
    reason: str
    threshold: float
    temperature: float
    images: int
    patients: int
    prevalence: float
    table: pd.DataFrame
    calibration: float
    subgroups: pd.DataFrame | None


@dataclass
class ClinicalReport:
    """Evaluates the test set, and writes down each time that it does.

    The first evaluation is the result. Whoever changes the model after it and evaluates again has chosen by the test
    part, a little; that may have a good reason, and the reason stands in the report. The report knows only of
    evaluations that go through it, in one session: it is a memory, no lock.

    Attributes:
        model: what was evaluated, in words.
        looks: the evaluations so far.
    """

    model: str
    looks: list[Look] = field(default_factory=list)

    def evaluate(
        self,
        log_odds: ArrayLike,
        labels: ArrayLike,
        patients: Sequence[Any] | NDArray[Any],
        *,
        threshold: float,
        temperature: float = 1.0,
        subgroups: Sequence[str] | NDArray[Any] | None = None,
        reason: str | None = None,
        repeats: int = 1000,
        seed: int = 0,
    ) -> Look:
        """Evaluate the test set.

        Args:
            log_odds: (images,) of being ill, before any temperature.
            labels: (images,) 1 for ill, 0 for not.
            patients: (images,) whose image it is.
            threshold: of the probability, chosen on the validation set.
            temperature: fitted on the validation set.
            subgroups: (images,) names, or None.
            reason: why the test set is looked at again; not needed the first time.
            repeats: draws for the intervals.
            seed: of the draws.

        Raises:
            ReportError: from the second time on, without a reason of three words or more.
            DataError: as in `clinical_scores` and `patient_bootstrap`.
        """
        if self.looks and len((reason or "").split()) < 3:
            raise ReportError(
                f"the test set was evaluated {_times(len(self.looks))} already. If there is a good reason to do it "
                'again, say so in a few words: reason="...". It will stand in the report'
            )
        probabilities = to_probabilities(log_odds, temperature)

        def measure(scores: NDArray[Any], truth: NDArray[Any]) -> Mapping[str, float]:
            numbers = clinical_scores(scores, truth, threshold)
            return {name: numbers[name] for name in NUMBERS}

        look = Look(
            number=len(self.looks) + 1,
            reason=reason or "planned",
            threshold=threshold,
            temperature=temperature,
            images=len(probabilities),
            patients=len(set(patients)),
            prevalence=clinical_scores(probabilities, labels, threshold)["prevalence"],
            table=patient_bootstrap(measure, probabilities, labels, patients, repeats=repeats, seed=seed),
            calibration=calibration_error(probabilities, labels),
            subgroups=None if subgroups is None else subgroup_table(probabilities, labels, subgroups, threshold),
        )
        self.looks.append(look)
        return look

    def card(self, sections: Mapping[str, str]) -> str:
        """The model card (after Mitchell et al. 2019): what its author writes, and what the report knows.

        Args:
            sections: a text for each of "intended use", "data" and "limits".

        Raises:
            ReportError: if the test set was never evaluated, or a section is missing, empty or unknown.
        """
        if not self.looks:
            raise ReportError("there is no evaluation of the test set yet, so a card would have no results")
        empty = [name for name in SECTIONS if not sections.get(name, "").strip()]
        unknown = [name for name in sections if name not in SECTIONS]
        if empty or unknown:
            said = f"'{empty[0]}' is missing or empty" if empty else f"there is no section '{unknown[0]}'"
            raise ReportError(f"{said}; a card has the sections {', '.join(SECTIONS)}")
        blocks = [f"MODEL CARD: {self.model}", _wrapped(NOT_A_DEVICE)]
        blocks += [f"{name.capitalize()}\n{_wrapped(sections[name])}" for name in SECTIONS]
        blocks.append("Results on the test set\n" + str(self))
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        if not self.looks:
            return f"{self.model}: the test set was not evaluated."
        text = [_said(self.looks[0])]
        if len(self.looks) > 1:
            again = [f"  look {look.number}, because: {look.reason}\n{_said(look)}" for look in self.looks[1:]]
            text += [
                f"  The test set was evaluated {_times(len(self.looks))}; what follows the first is flattered.",
                *again,
            ]
        else:
            text.append("  The test set was evaluated once.")
        return "\n".join(text)


def _said(look: Look) -> str:
    lines = [
        f"  {look.images} images of {look.patients} patients, {look.prevalence:.0%} of the images ill",
        f"  ill from a probability of {look.threshold:.3f}, after division by the temperature {look.temperature:.2f}",
    ]
    lines += [
        f"  {name:20}{row['value']:.3f}  (95 % interval by patient {row['low']:.3f} to {row['high']:.3f})"
        for name, row in look.table.iterrows()
    ]
    lines.append(f"  {'calibration error':20}{look.calibration:.3f}")
    if look.subgroups is not None:
        lines += ["    " + line for line in look.subgroups.round(3).to_string(na_rep="-").splitlines()]
    return "\n".join(lines)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 92, initial_indent="  ", subsequent_indent="  ")
