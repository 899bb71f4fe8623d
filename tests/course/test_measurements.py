"""Results files, and the table of claims: no verdict says more than the seeds do."""

import json

import nbformat
import notebooks
import numpy as np
import pandas as pd
import pytest
from toy import ROOT, cases, refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.measurements import results
from tlcourse.measurements.chapter_claims import CLAIMS
from tlcourse.measurements.claims import Claim, Gain, table_of_claims
from tlcourse.measurements.comparison import clustered_interval

CHAPTER = ROOT / "chapter12"
VERDICTS = {"holds", "holds when", "does not hold here", "not adequately tested here"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The results file x alone."""
    runs = [{"method": "a", "seed": seed, "test": 0.5 + 0.1 * seed} for seed in range(3)]
    write(tmp_path, runs)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def write(folder, runs):
    facts = {"command": "python experiments/x.py", "machine": "Linux", "runs": runs}
    (folder / "x.json").write_text(json.dumps(facts), encoding="utf8")


def test_mean_and_spread(folder):
    found = tc.load_results("x")
    assert str(found) == "3 runs, measured by `python experiments/x.py` on Linux"
    assert found.mean("test", method="a") == pytest.approx(0.6)
    assert found.spread("test", method="a") == "60.0 ± 10.0 %"
    assert found.mean("test", method="a", seed=2) == pytest.approx(0.7)
    absent = r"no run with \{'method': 'b'\}; `python experiments/x.py` measures"
    refused(tl.DataError, absent, found.mean, "test", method="b")
    refused(tl.DataError, r"no results named 'y' .* there are: x", tc.load_results, "y")


def test_every_results_file_says_how_it_was_made_and_nothing_of_one_machine():
    for path in results.FOLDER.glob("*.json"):
        text = path.read_text(encoding="utf8")
        assert not any(place in text for place in ("/tmp/", "/home/", "/root/", "Users")), path
        if "runs" in json.loads(text):
            assert (ROOT / tc.load_results(path.stem).facts["command"].split()[1]).is_file(), path


def test_no_claim_is_made_twice_and_each_has_an_executed_cell_that_asserts():
    assert len({claim.name for claim in CLAIMS}) == len({claim.sentence for claim in CLAIMS}) == len(CLAIMS) >= 20
    assert {claim.verdict for claim in CLAIMS} == VERDICTS
    gains = json.loads((results.FOLDER / "claim_gains.json").read_text("utf8"))
    assert gains.keys() == {claim.name for claim in CLAIMS if claim.gain}
    assert all(": " in claim.conclusion for claim in CLAIMS if claim.verdict == "holds when"), "a condition is named"
    cells = [cell for path in CHAPTER.glob("*.ipynb") for cell in nbformat.read(path, as_version=4).cells]
    for claim in CLAIMS:
        tagged = [cell for cell in cells if f"claim-{claim.name}" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1, claim.name
        assert "assert" in tagged[0].source or "tc.report_finding(" in tagged[0].source, f"{claim.name} cannot fail"
        assert "nbval-ignore-output" not in tagged[0].metadata["tags"], f"{claim.name}: its output is not compared"


def test_the_stored_outputs_are_those_of_the_notebooks():
    stored = json.loads((results.FOLDER / "claim_outputs.json").read_text(encoding="utf8"))
    assert stored == notebooks.claim_outputs(CHAPTER), "tools/notebooks.py sync"
    assert set(stored) == {claim.name for claim in CLAIMS}
    assert all(printed for _, printed in stored.values())
    table = table_of_claims(CLAIMS)
    assert len(table) == len(CLAIMS)
    assert table["measured"].str.contains("points").sum() >= sum(claim.gain is not None for claim in CLAIMS)


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.gain], ids=lambda claim: claim.name)
def test_the_verdict_is_that_of_the_seeds(claim):
    assert claim.gain is not None
    assert claim.gain.verdict() == claim.verdict.removesuffix(" when"), str(claim.gain)


@cases(
    "gains, verdict, text",
    ((0.10, 0.12, 0.11), "holds", "+11.0 points (+8.5 to +13.5)"),
    ((-0.10, -0.12, -0.11), "does not hold here", "-11.0 points (-13.5 to -8.5)"),
    ((0.10, -0.12, 0.11), "not adequately tested here", "+3.0 points (-29.3 to +35.3)"),
    ((0.10,), "not adequately tested here", "+10.0 points (+nan to +nan)"),
)
def test_a_gain_is_counted_seed_by_seed(gains, verdict, text, folder):
    runs = [{"method": "a", "seed": s, "n": 1, "test": 0.5 + gain} for s, gain in enumerate(gains)]
    runs += [{"method": "b", "seed": s, "n": 1, "test": 0.5} for s in range(3)]
    runs += [{"method": method, "seed": s, "n": 2, "test": 0.9} for method in "ab" for s in range(3)]
    write(folder, runs)
    gain = Gain("x", "a", "b", {"n": 1})
    assert (gain.verdict(), str(gain)) == (verdict, text)
    refused(tl.DataError, r"no run with {'n': 3}", Gain("x", "a", "b", {"n": 3}).verdict)
    refused(ValueError, "duplicate", Gain("x", "a", "b").verdict)


def right(*rows):
    """Runs of seeds 0, 1, ... in which these images were right."""
    digits = [f"{int(''.join(map(str, row)), 2):0{len(row) // 4}x}" for row in rows]
    return pd.DataFrame({"seed": range(len(rows)), "right": digits})


def test_a_clustered_interval_counts_clusters_and_not_images():
    rng = np.random.default_rng(0)
    rows, none = rng.integers(0, 2, size=(5, 40)), np.zeros((5, 40), dtype=int)
    labels, apart = [i % 2 for i in range(40)], list(range(40))
    mean, low, high = clustered_interval(right(*rows), right(*none), labels, apart)
    assert mean == pytest.approx(rows.mean())
    assert low < mean < high
    copies = right(*(np.repeat(row, 4) for row in rows))  # four images of each drawing, all right or all wrong
    fourfold = np.repeat(labels, 4).tolist()
    same = clustered_interval(copies, None, fourfold, np.repeat(apart, 4).tolist())
    assert same == pytest.approx((mean, low, high), abs=0.02)
    _, low_images, high_images = clustered_interval(copies, None, fourfold, list(range(160)))
    assert high_images - low_images < 0.8 * (high - low)
    assert clustered_interval(right(*rows), right(*rows), labels, apart) == (0, 0, 0)


def test_a_clustered_interval_weighs_classes_alike_and_pairs_seeds():
    labels = [0] * 30 + [1] * 10
    ones, half = [1] * 30 + [0] * 10, [1] * 40
    mean, low, high = clustered_interval(right(ones), None, labels, list(range(40)))
    assert (mean, low, high) == (0.5, 0.5, 0.5)
    better, worse = right(ones, half), right(half, ones).iloc[::-1]
    assert clustered_interval(better, worse.assign(seed=[0, 1]), labels, list(range(40)))[0] == 0


def test_a_claim_without_a_cell_is_refused(folder):
    cell = nbformat.v4.new_code_cell("assert True", metadata={"tags": ["claim-x"]})
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="It\nholds – ±.\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("X"), cell]), folder / "n.ipynb")
    notebooks.write_claim_outputs(folder)
    assert table_of_claims((Claim("x", "X.", "holds"),)).iloc[0].tolist() == ["X.", "n", "It holds – ±.", "holds"]
    refused(tl.DataError, "no cell has the tag 'claim-y'", table_of_claims, (Claim("y", "Y.", "holds"),))


def test_a_sentence_is_said_only_if_all_of_it_is_so(capsys):
    tc.report_finding("It is larger.", np.bool_(True), 2 > 1)
    tc.report_finding("It is larger.", True, np.bool_(False))
    assert capsys.readouterr().out == "It is larger.\nNot so here: It is larger.\n"
    refused(ValueError, "rests on", tc.report_finding, "Just so.")
    refused(ValueError, "ambiguous", tc.report_finding, "All of them.", np.array([True, False]))
