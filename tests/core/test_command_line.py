"""The command line, on folders good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from junk import plant_junk
from toy import CLASSES, ToyImages

import tlhelpers as tl
from tlhelpers.__main__ import main

QUICK_TRAINING = ["--weights", "none", "--arch", "resnet18", "--size", "32", "--epochs", "1", "--batch-size", "8"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder without splits: 12 images of each of two classes, two of each patient."""
    load = ToyImages(0)
    for index in range(24):
        place = tmp_path / "images" / CLASSES[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        load(index).save(place / f"patient{index // 4}_{index}.png")
    return tmp_path / "images"


def test_train_then_predict(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", str(folder), *QUICK_TRAINING, "--out", str(run)]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["data"] == "images"
    assert 0 <= report["test_low"] <= report["test_accuracy"] <= report["test_high"] <= 1
    assert (run / "history.csv").read_text().startswith("epoch,train_loss")
    assert tl.load(run / "model.safetensors").card.classes == ("green", "red")
    capsys.readouterr()
    image = next(folder.glob("*/*.png"))
    (tmp_path / "bad.jpg").write_bytes(b"")
    assert main(["predict", str(run), str(tmp_path / "bad.jpg"), str(image)]) == 1
    said = capsys.readouterr()
    assert f"{image}: " in said.out, "one bad file must not keep the others from being answered"
    assert "bad.jpg" in said.err


def test_seeds_give_a_spread(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", str(folder), *QUICK_TRAINING, "--seeds", "2", "--seed", "5", "--out", str(run)]) == 0
    assert "over 2 seeds, mean ± standard deviation" in capsys.readouterr().out
    seeds = json.loads((run / "seeds.json").read_text())["seeds"]
    assert [result["seed"] for result in seeds] == [5, 6]
    assert (run / "seed5" / "model.safetensors").exists()


def test_a_folder_full_of_junk(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = plant_junk(folder)
    assert planted
    assert main(["train", str(folder), *QUICK_TRAINING]) == 0
    said = capsys.readouterr().out
    for path, reason in planted.items():
        assert Path(path).name in said or reason == "ignored", f"{path} is not in the report"
    assert "2 classes" in said
    assert main(["train", str(folder), *QUICK_TRAINING, "--on-bad", "refuse"]) == 1
    assert "DataError" in capsys.readouterr().err


def test_patients_stay_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tl.load_data(folder, groups=r"(patient\d+)")
    groups = [set(split.groups) for split in data.splits()]
    assert not set.intersection(groups[0], groups[1]) | set.intersection(groups[0], groups[2])
    assert main(["train", str(folder), *QUICK_TRAINING, "--group", r"(patient\d+)"]) == 0
    assert main(["train", str(folder), *QUICK_TRAINING, "--group", r"(doctor\d+)"]) == 1
    assert "doctor" in capsys.readouterr().err


def test_results_are_not_written_over_other_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    assert main(["train", str(folder), *QUICK_TRAINING, "--out", str(tmp_path / "thesis")]) == 1
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "no_such_folder"], "no_such_folder"),
        (["train", "{folder}", "--arch", "resnet19"], "Did you mean 'resnet1"),
        (["train", "{folder}", "--arch", "resnet50"], "never touches the network"),
        (["predict", "no_such_run", "x.jpg"], "there is no file"),
    ],
)
def test_mistakes_get_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main([word.replace("{folder}", str(folder)) for word in command]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.real
def test_hymenoptera_reaches_what_the_readme_says(real_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(real_data / "hymenoptera"), "--arch", "efficientnet_lite0", "--out", str(run)]) == 0
    assert json.loads((run / "report.json").read_text())["val_accuracy_last"] >= 0.90  # the mean is 93 %; one seed
