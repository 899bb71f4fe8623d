"""The book's page without Python: it trains a head in the browser, and gives what PyTorch and scikit-learn give."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from serve_book import server
from sklearn.linear_model import LogisticRegression
from toy import ROOT

import tlhelpers as tl

SIZES = ((300, 200), (200, 333), (97, 100), (256, 256), (640, 481), (225, 224), (150, 260))
PENALTY = 0.01  # as in head.js

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the page, served as the book is."""
    folder = tmp_path_factory.mktemp("book")
    subprocess.run([sys.executable, str(ROOT / "tools/browser_page.py"), str(folder / "browser")], check=True)
    if not (folder / "browser").exists():
        pytest.skip("onnxruntime-web cannot be had from the npm registry")
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/browser/"
        running.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of two kinds to train on, six and four, and of four new images, of many sizes."""
    folder, data = tmp_path_factory.mktemp("images"), tl.load_data("safari", size=256, per_class=8)
    files = {"bird": [], "food": []}
    for name, own in files.items():
        rows = [i for i, label in enumerate(data.train.labels.tolist()) if data.classes[label] == name]
        for row, size in zip(rows, SIZES, strict=False):
            own.append(folder / f"{name}{len(own)}.png")
            data.train.image(row).resize(size).save(own[-1])
    return files["bird"][:6], files["food"][:4], files["bird"][6:] + files["food"][4:]


def features_of(files):
    model = tl.load_model("efficientnet_lite0")
    prepare, model.classifier = model.card.preprocessing.evaluation(), torch.nn.Identity()
    with torch.inference_mode():
        return model(torch.stack([prepare(tl.open_image(file)) for file in files])).double().numpy()


def probabilities(known, labels, new):
    """Of the second kind, by scikit-learn."""
    share = 0.5 / np.where(labels, labels.sum(), (1 - labels).sum())
    mean = share @ known
    spread = np.sqrt(share @ ((known - mean) ** 2).sum(axis=1))
    head = LogisticRegression(C=1 / (len(known) * PENALTY), class_weight="balanced", tol=1e-10, max_iter=10_000)
    head.fit((known - mean) / spread, labels)
    return head.predict_proba((new - mean) / spread)[:, 1]


def right_unseen(known, labels):
    """How many are right if each is predicted without it and without one image of the other kind."""
    right = 0
    for i, label in enumerate(labels):
        own, other = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        left_out = [i, other[list(own).index(i) % len(other)]]
        rest = np.setdiff1d(np.arange(len(labels)), left_out)
        right += (probabilities(known[rest], labels[rest], known[[i]])[0] > 0.5) == label
    return right


def test_ten_images_train_a_head_in_seconds_without_a_network_and_as_python_does(address, browser, images, tmp_path):
    page = browser.new_page()
    elsewhere, errors = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    page.on("request", lambda request: request.url.startswith((address, "blob:")) or elsewhere.append(request.url))
    page.goto(address)
    inputs, broken = page.locator("input[type=file]"), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    inputs.nth(0).set_input_files([*images[0], broken])  # before the network is there: they wait for it
    page.locator("#state[data-ready]").wait_for()
    start = time.perf_counter()
    inputs.nth(1).set_input_files(images[1])
    page.get_by_text("Now try new images").wait_for()
    assert time.perf_counter() - start < 10
    known, labels = features_of([*images[0], *images[1]]), np.repeat([0, 1], [len(images[0]), len(images[1])])
    assert f"{right_unseen(known, labels)} of 10 right" in page.locator("#result").inner_text()
    assert "broken.png was left out: it is no image" in page.locator(".refused").first.inner_text()
    inputs.nth(2).set_input_files([*images[2], images[0][0]])
    page.get_by_text("which the head has seen").wait_for()
    found = page.locator("[data-probability]").evaluate_all("all => all.map(each => Number(each.dataset.probability))")
    np.testing.assert_allclose(found, probabilities(known, labels, features_of(images[2])), atol=1e-3)
    page.get_by_role("button", name=f"Remove {images[0][0].name}").click()
    page.get_by_text("of 9 right").wait_for()
    page.get_by_role("button", name="Load an example (replaces your images)").click()
    page.get_by_text("of 10 right").wait_for()
    page.locator("[data-probability]").nth(3).wait_for()
    page.get_by_role("button", name="Remove all images").click()
    page.get_by_text("Add two images").wait_for()
    assert (page.locator("figure").count(), elsewhere, errors) == (0, [], [])


def test_the_mean_of_the_evidence_is_the_logit(address, browser):
    page = browser.new_page()
    page.goto(address)
    found = page.evaluate("""async () => {
        const { head, products } = await import("./head.js"), random = (n) => Array.from({ length: n }, Math.random);
        const features = [0, 1, 2, 3, 4].map(() => random(6)), map = random(6 * 4);
        const trained = head(features, [0, 0, 1, 1, 1], products(features));
        const mean = (all) => all.reduce((a, b) => a + b) / 4;
        const pooled = [0, 1, 2, 3, 4, 5].map((c) => mean(map.slice(4 * c, 4 * c + 4)));
        return [mean(trained.evidence({ map, places: 4 })), trained.probability(pooled)];
    }""")
    assert 1 / (1 + np.exp(-found[0])) == pytest.approx(found[1], abs=1e-9)
