"""`tlhelpers export` and `report`: the same answers as PyTorch's, on images of any size; pages that stand alone."""

import json
import re
import shutil
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from toy import ARCHS, image_folder, refused, run_python, train

import tlcourse as tc
import tlhelpers as tl
from tlcourse import portable, sharing
from tlhelpers.__main__ import main
from tlhelpers.models.families import FAMILIES

FAMILY = {family: next(name for name, row in ARCHS.items() if row.family == family) for family in FAMILIES}
SLOW = [pytest.param(name, marks=pytest.mark.slow, id=name) for name in FAMILY.values() if "lite" not in name]
CLASSES = ("grün & <b>", "red")
pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch.export.load of 2.11


def image(height, width):
    noise = np.random.default_rng(height).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def answers_of(model, folder, sizes):
    network = portable.WithPreprocessing(model)
    portable.export_model(model, folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    program = torch.export.load(folder / "model.pt2").module()
    pixels = [np.array(image(*size)) for size in sizes]
    with torch.no_grad():
        own, programs = ([each(torch.from_numpy(x)).numpy() for x in pixels] for each in (network, program))
    return np.stack(own), np.stack(programs), np.stack([session.run(None, {"image": x})[0] for x in pixels])


@pytest.mark.parametrize("arch", [FAMILY["efficientnet_lite"], *SLOW])
def test_onnx_and_exported_program_answer_as_pytorch_does(arch, tmp_path):
    model = tl.load_model(arch, classes=["a", "b", "c"], weights="none", size=64)
    side = model.card.preprocessing.resize
    sizes = (side, side), (side + 9, side), (side, side + 40)  # cropped only: noise in the resizing would be amplified
    batch = torch.stack([model.card.preprocessing.evaluation()(image(*size)) for size in sizes])
    with torch.no_grad():  # makes of the random network one that says something else of each image
        for each in model.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.train().momentum = 1.0
        model(batch)
        head, logits = tl.get_head(model), model.eval()(batch)
        head.bias.sub_(logits.mean(dim=0)).div_(logits.std(dim=0))
        head.weight.div_(logits.std(dim=0)[:, None])
    own, programs, onnxs = answers_of(model, tmp_path, sizes)
    assert np.ptp(own, axis=0).max() > 0.1, "a network that says the same of all images proves nothing"
    np.testing.assert_allclose(programs, own, atol=1e-5)
    np.testing.assert_allclose(onnxs, own, atol=1e-3)
    facts = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["a", "b", "c"]
    assert json.loads(facts["preprocessing"])["size"] == 64


class Coarse(torch.nn.Module):
    def forward(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, 8).flatten(1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_of_any_size_are_prepared_as_the_card_says(interpolation, tmp_path):
    model, sizes = Coarse(), [(64, 64), (50, 131), (200, 90), (77, 76), (37, 37), (300, 40)]
    preprocessing = tl.Preprocessing(32, 37, interpolation=interpolation)
    card = model.card = tl.ModelCard("", preprocessing=preprocessing, classes=("a",))
    batch = torch.stack([card.preprocessing.evaluation()(image(*size)) for size in sizes])
    own, programs, onnxs = map(np.log, answers_of(model, tmp_path, sizes))
    grey_level = 1 / 255 / min(card.preprocessing.std)
    np.testing.assert_allclose(programs, own, atol=1e-5)
    np.testing.assert_allclose(onnxs, own, atol=grey_level)
    np.testing.assert_allclose(own, model(batch).log_softmax(dim=1), atol=grey_level)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A reader's folder of images and a run on it."""
    root = tmp_path_factory.mktemp("sharing")
    assert train(image_folder(root / "images", 40, CLASSES), "--out", root / "run", "--split-seed", 3) == 0
    return root


def shared(command, run, capsys, *options):
    code = main([command, str(run), *map(str, options)])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def place(trained, tmp_path):
    """A copy of the run, and its images where they were."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def test_the_report_stands_alone_and_says_what_was_measured(trained, place, capsys):
    code, said = shared("report", place, capsys)
    assert code == 0, said
    page = (place / "report.html").read_text(encoding="utf8")
    facts = json.loads((place / "report.json").read_text(encoding="utf8"))
    assert "--split-seed 3" in page
    assert f"{facts['test_accuracy']:.1%}</strong>" in page
    assert f"of {facts['test_images']} test images" in page
    loads = r'(?:src|href)="(?!data:image/png;base64,)|url\(|@import|<script|<link'
    assert re.findall(loads, page) == []
    assert len(re.findall("<img ", page)) == len(re.findall(r'<img [^>]*alt="[^"]{30}', page)) == 3
    assert "grün &amp; &lt;b&gt;" in page
    assert "<b>" not in page.replace("</b>", ""), "a class's name is no markup"


def test_what_the_card_tells_readers_to_type_works(trained, place, capsys):
    code, said = shared("export", place, capsys)
    assert code == 0, said
    card = (place / "model_card.md").read_text(encoding="utf8")
    for name in ("model.onnx", "model.int8.onnx", "model.pt2"):
        assert name in card
        assert (place / name).stat().st_size > 1e6
        assert b"site-packages" not in (place / name).read_bytes(), "a folder of whoever has exported it"
    assert 3 < (place / "model.onnx").stat().st_size / (place / "model.int8.onnx").stat().st_size < 4.5
    shown = next((trained / "images").glob("*/*.png"))
    Image.open(shown).save(place / "image.jpg", quality=100)
    done = run_python("-X", "utf8", "-c", re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], cwd=place)
    assert done.returncode == 0, done.stderr
    expected = tl.predict(tl.load(place / "model.safetensors"), place / "image.jpg").iloc[0]
    name, probability = done.stdout.strip().rsplit(" ", 1)
    assert (name, float(probability)) == (expected["class"], pytest.approx(expected["probability"], abs=0.05))
    assert train(trained / "images", "--out", place) == 0
    left = {path.name for path in place.iterdir()} & {"model.onnx", "model_card.md", "model.pt2"}
    assert left == set(), "they would be of the training before"


def test_only_images_that_training_did_not_see_may_judge(trained, place, tmp_path, capsys):
    moved = shutil.copytree(trained / "images", tmp_path / "moved")
    facts = json.loads((place / "report.json").read_text(encoding="utf8"))
    (place / "report.json").write_text(json.dumps({**facts, "source": str(tmp_path / "gone")}), encoding="utf8")
    code, said = shared("report", place, capsys)
    assert (code, "There is no folder" in said) == (1, True)
    assert shared("report", place, capsys, "--data", moved)[0] == 0
    shutil.copy(next(moved.glob("*/*.png")), moved / "red" / "new.png")  # another division of as many images
    code, said = shared("report", place, capsys, "--data", moved)
    assert (code, "is no longer divided as for the training" in said) == (1, True)
    for damaged in ("", "[1]", json.dumps({**facts, "options": None})):
        (place / "report.json").write_text(damaged, encoding="utf8")
        code, said = shared("report", place, capsys)
        assert (code, "does not tell which images the network was trained on" in said) == (1, True)


def test_a_training_that_was_killed_has_a_report(trained, place, capsys):
    facts = json.loads((place / "report.json").read_text(encoding="utf8"))
    begun = {name: facts[name] for name in ("source", "options", "fingerprint", "training", "command")}
    (place / "report.json").write_text(json.dumps(begun), encoding="utf8")
    (place / "model.safetensors").unlink()
    (place / "history.csv").write_text("epoch", encoding="utf8")
    code, said = shared("report", place, capsys)
    assert (code, "history.csv is damaged" in said) == (1, True)
    (place / "history.csv").unlink()
    assert shared("report", place, capsys)[0] == 0
    assert "Training history" not in (place / "report.html").read_text(encoding="utf8")


def test_a_network_without_maps_or_names_and_a_missing_package(trained, tmp_path, monkeypatch):
    data = tl.load_data(trained / "images", seed=3, verbose=False)
    model = tl.load_model("resnet18", classes=data.classes, weights="none", size=32)
    monkeypatch.setattr(tc, "grad_cam", partial(tc.grad_cam, layer="fc"))  # which has no maps, as in a transformer
    assert "Most certain mistakes" in sharing._mistakes(model, tl.evaluate(model, data.train))[0].alt
    refused(tl.ModelError, "gives a head with names", portable.export_model, tl.replace_head(model, 2), tmp_path)
    monkeypatch.setattr(portable, "find_spec", lambda name: None if name == "onnxscript" else name)
    named = tl.replace_head(model, classes=data.classes)
    refused(tl.TLError, r'needs onnxscript: pip install "tlhelpers\[export\]"', portable.export_model, named, tmp_path)


def test_the_commands_are_added_without_pytorch_so_that_doctor_starts_where_it_is_broken():
    assert run_python("-c", "import sys; sys.modules['torch'] = None; import tlcourse.sharing").stderr == ""
