"""The book's page without Python: it trains a head in the browser, and gives what PyTorch and scikit-learn give."""

import functools
import http.server
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
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
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/browser/"
        server.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of two kinds to train on, five of each, and of four new images, of many sizes."""
    folder, data = tmp_path_factory.mktemp("images"), tl.load_data("safari", size=256, per_class=8)
    files = {"bird": [], "food": []}
    for name, own in files.items():
        rows = [i for i, label in enumerate(data.train.labels.tolist()) if data.classes[label] == name]
        for row, size in zip(rows, SIZES, strict=False):
            own.append(folder / f"{name}{len(own)}.png")
            data.train.image(row).resize(size).save(own[-1])
    return files["bird"][:5], files["food"][:5], files["bird"][5:] + files["food"][5:]


def by_python(images):
    """The probabilities of the second kind for the new images."""
    model = tl.load_model("efficientnet_lite0")
    prepare = model.card.preprocessing.evaluation()

    model.classifier = torch.nn.Identity()

    def features(files):
        with torch.inference_mode():
            return model(torch.stack([prepare(tl.open_image(file)) for file in files])).double().numpy()

    known, new = features([*images[0], *images[1]]), features(images[2])
    labels = np.repeat([0, 1], [len(images[0]), len(images[1])])
    mean = known.mean(axis=0)
    spread = np.sqrt(((known - mean) ** 2).sum(axis=1).mean())
    head = LogisticRegression(C=1 / (len(known) * PENALTY), tol=1e-10, max_iter=10_000)
    head.fit((known - mean) / spread, labels)
    return head.predict_proba((new - mean) / spread)[:, 1]


def test_ten_images_train_a_head_in_seconds_without_a_network_and_as_python_does(address, browser, images, tmp_path):
    page = browser.new_page()
    elsewhere, errors = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    def only_the_book(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        elsewhere.append(route.request.url)
        return route.abort()

    page.route("**/*", only_the_book)
    page.goto(address)
    page.locator("#state[data-ready]").wait_for()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    inputs, start = page.locator("input[type=file]"), time.perf_counter()
    inputs.nth(0).set_input_files([*images[0], broken])
    inputs.nth(1).set_input_files(images[1])
    page.locator("#result").wait_for()
    assert time.perf_counter() - start < 10
    assert "of 10 right" in page.locator("#result").inner_text()
    inputs.nth(2).set_input_files(images[2])
    predicted = page.locator("[data-probability]")
    predicted.nth(len(images[2]) - 1).wait_for()
    found = predicted.evaluate_all("all => all.map((each) => Number(each.dataset.probability))")
    np.testing.assert_allclose(found, by_python(images), atol=1e-3)
    inputs.nth(1).set_input_files([broken])
    page.get_by_text("broken.png is no image").wait_for()
    page.get_by_role("button", name="Take ten drawings").click()
    page.get_by_text("of 20 right").wait_for()
    assert (elsewhere, errors) == ([], [])
    page.close()
