"""The table of claims: every row has its cell, and no verdict says more than the seeds do."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

import tlcourse as tc
import tlhelpers as tl
from tlcourse.measurements.chapter_claims import CLAIMS
from tlcourse.measurements.claims import VERDICTS, Claim, Gain, table_of_claims, tagged_cells
from tlhelpers import results

CHAPTER = Path(__file__).resolve().parents[2] / "chapter12"


def test_there_are_enough_and_none_twice() -> None:
    assert len(CLAIMS) >= 20
    assert len({claim.name for claim in CLAIMS}) == len({claim.sentence for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.verdict for claim in CLAIMS} == set(VERDICTS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_has_an_executed_cell_that_asserts(claim: Claim) -> None:
    notebook, printed = tagged_cells(CHAPTER)[claim.name]
    assert printed, "the cell prints nothing that a table could quote"
    for cell in nbformat.read(CHAPTER / f"{notebook}.ipynb", as_version=4).cells:
        if f"claim-{claim.name}" in cell.metadata.get("tags", []):
            assert "assert" in cell.source or "tc.report_finding(" in cell.source, (
                "a cell that cannot fail tests nothing"
            )
            assert "nbval-ignore-output" not in cell.metadata["tags"], "its output is not compared"


def test_no_tagged_cell_is_missing_from_the_table() -> None:
    assert set(tagged_cells(CHAPTER)) == {claim.name for claim in CLAIMS}


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.gain], ids=lambda claim: claim.name)
def test_the_verdict_is_that_of_the_seeds(claim: Claim) -> None:
    assert claim.gain is not None
    expected = "holds" if claim.verdict == "holds when" else claim.verdict
    assert claim.gain.verdict() == expected, str(claim.gain)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_condition_is_named(claim: Claim) -> None:
    assert claim.because or claim.verdict != "holds when"


# --- how it is counted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gains", "expected", "said"),
    [
        ((0.10, 0.12, 0.11), "holds", "+11.0 ± 1.0 points, 3 seeds"),
        ((-0.10, -0.12, -0.11), "does not hold", "-11.0 ± 1.0 points, 3 seeds"),
        ((0.10, -0.12, 0.11), "not shown", "+3.0 ± 13.0 points, 3 seeds"),
    ],
)
def test_gain(
    gains: tuple[float, ...], expected: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [{"method": "a", "seed": s, "n": 1, "test": 0.5 + gain} for s, gain in enumerate(gains)]
    runs += [{"method": "b", "seed": s, "n": 1, "test": 0.5} for s in range(3)]
    runs += [{"method": method, "seed": s, "n": 2, "test": 0.9} for method in "ab" for s in range(3)]
    (tmp_path / "x.json").write_text(json.dumps({"runs": runs, "command": "c", "machine": "m"}), encoding="utf8")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    gain = Gain("x", "test", {"method": "a"}, {"method": "b"}, {"n": 1})
    assert gain.verdict() == expected
    assert str(gain) == said
    with pytest.raises(tl.DataError, match=r"x: 0 runs with {'way': 'c'}, {'n': 1}; expected one a seed"):
        Gain("x", "test", {"method": "c"}, {"method": "b"}, {"n": 1}).verdict()
    with pytest.raises(tl.DataError, match="x: 6 runs"):
        Gain("x", "test", {"method": "a"}, {"method": "b"}, {}).verdict()


def test_a_claim_without_a_cell_is_refused(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("assert True", metadata={"tags": ["claim-x"]})
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="It\nholds.\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    table = table_of_claims((Claim("x", "X.", "holds"),), tmp_path)
    assert table.iloc[0].tolist() == ["X.", "n", "It holds.", "holds"]
    with pytest.raises(tl.DataError, match=r"no cell in .* has the tag 'claim-y'"):
        table_of_claims((Claim("y", "Y.", "holds"),), tmp_path)


def test_a_sentence_is_said_only_if_all_of_it_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    tc.report_finding("It is larger.", np.bool_(True), 2 > 1)
    tc.report_finding("It is larger.", True, np.bool_(False))
    assert capsys.readouterr().out == "It is larger.\nNot so here: It is larger.\n"
    with pytest.raises(ValueError, match="rests on"):
        tc.report_finding("Just so.")
    with pytest.raises(ValueError, match="ambiguous"):
        tc.report_finding("All of them.", np.array([True, False]))
