"""The command line, on folders good and bad."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from junk import plant_junk
from toy import QUICK_TRAINING, cases, image_folder, train

import tlhelpers as tl
from tlhelpers.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """An image folder without splits: 12 images of each of two classes, two of each patient."""
    return image_folder(tmp_path / "images", 24)


def test_train_then_predict(folder, tmp_path, capsys):
    run, image = tmp_path / "run", next(folder.glob("*/*.png"))
    assert train(folder, "--out", run) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["data"] == "images"
    assert 0 <= report["test_low"] <= report["test_accuracy"] <= report["test_high"] <= 1
    assert (run / "history.csv").read_text().startswith("epoch,train_loss")
    assert tl.load(run / "model.safetensors").card.classes == ("green", "red")
    capsys.readouterr()
    (tmp_path / "bad.jpg").write_bytes(b"")
    assert main(["predict", str(run), str(tmp_path / "bad.jpg"), str(image)]) == 1
    said = capsys.readouterr()
    assert f"{image}: " in said.out, "one bad file must not keep the others from being answered"
    assert "bad.jpg" in said.err


def test_seeds_give_a_spread(folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(folder, "--seeds", 2, "--seed", 5, "--out", run) == 0
    assert "over 2 seeds, mean ± standard deviation" in capsys.readouterr().out
    assert [result["seed"] for result in json.loads((run / "seeds.json").read_text())["seeds"]] == [5, 6]
    assert (run / "seed5" / "model.safetensors").exists()


def test_a_folder_full_of_junk(folder, capsys):
    planted = plant_junk(folder)
    assert train(folder) == 0
    said = capsys.readouterr().out
    assert [path for path in planted if path not in said] == [], "not in the report"
    assert "2 classes" in said
    assert train(folder, "--on-bad", "refuse") == 1
    assert "DataError" in capsys.readouterr().err


def test_patients_stay_together(folder, tmp_path, capsys):
    assert train(folder, "--group", r"(patient\d+)") == 0
    assert train(folder, "--group", r"(doctor\d+)") == 1
    assert "doctor" in capsys.readouterr().err


def test_results_are_not_written_over_other_files(folder, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    assert train(folder, "--out", tmp_path / "thesis") == 1
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


@cases(
    "command, message",
    (["train", "no_such_folder"], "no_such_folder"),
    (["train", "{folder}", "--arch", "resnet19"], "Did you mean 'resnet1"),
    (["train", "{folder}", "--arch", "resnet50"], "never touches the network"),
    (["predict", "no_such_run", "x.jpg"], "there is no file"),
)
def test_mistakes_get_a_sentence_and_signals_are_handled_as_before(folder, capsys, command, message):
    before = signal.getsignal(signal.SIGTERM)
    assert main([word.replace("{folder}", str(folder)) for word in command]) == 1
    assert message in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def process(*command, cwd=None):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=cwd, **pipes)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process could catch")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_training_ends_finished_epochs_stay(folder, tmp_path, number):
    options = [*QUICK_TRAINING[:-4], "--epochs", "1000", "--batch-size", "8", "--out", tmp_path / "run"]
    training = process("-m", "tlhelpers", "train", folder, *options)
    while not (tmp_path / "run" / "last.pt").exists() and training.poll() is None:
        time.sleep(0.1)
    training.send_signal(number)
    said = training.communicate(timeout=60)[0]
    assert training.returncode == (-9 if number == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    assert main(["predict", str(tmp_path / "run"), str(next(folder.glob("*/*.png")))]) == 0


SPAWNING = """
import multiprocessing, random, sys
import tlhelpers as tl
from torchvision.transforms import v2
import torch

def augment(image):
    steps = [v2.RandomCrop(48), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(steps)(image)

def work(augment=augment):
    tl.use_profile("quick", device="cpu", precision="fp32")
    data = tl.load_data("./images", workers=2)
    model = tl.load_model("resnet18", classes=data.classes, weights="none", size=48)
    print(tl.fit(model, data, epochs=1, batch_size=8, augment=augment))

"""


@cases(
    "end, said",
    ("work()", 'a script must do its work below `if __name__ == "__main__":`'),
    ('if __name__ == "__main__":\n    work(lambda image: augment(image))', "must be defined in a file"),
    ('if __name__ == "__main__":\n    work()', "Run of 1 epochs"),
)
def test_what_goes_wrong_when_reading_processes_are_spawned(folder, tmp_path, end, said):
    spawn = 'multiprocessing.set_start_method("spawn", force=True)\n'
    (tmp_path / "script.py").write_text(SPAWNING + spawn + end, encoding="utf8")
    output = process("script.py", cwd=tmp_path).communicate(timeout=120)[0]
    assert said in output
    assert "memory" not in output


def test_a_very_narrow_image_takes_little_memory(tmp_path):
    resource = pytest.importorskip("resource")
    script = "import resource, sys, tlhelpers as tl\nfrom PIL import Image\n"
    script += "tl.use_profile('quick', device='cpu', precision='fp32')\n"
    script += "net = tl.load_model('resnet18', num_classes=2, weights='none', size=224)\n"
    script += "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    script += "tl.predict(net, Image.new('RGB', (9, 9)))\nbefore = most()\n"
    script += "tl.predict(net, [Image.new('RGB', size) for size in ((1, 4000), (1, 60000), (60000, 1))])\n"
    script += "print(most() - before)"
    grown = int(process("-c", script).communicate()[0].splitlines()[-1]) * (1 if sys.platform == "darwin" else 1024)
    assert resource
    assert grown < 0.1e9


@pytest.mark.real
def test_hymenoptera_is_learned_in_a_minute(real_data, tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(real_data / "hymenoptera"), "--minutes", "1", "--out", str(run)]) == 0
    assert json.loads((run / "report.json").read_text())["val_accuracy"] >= 0.88
