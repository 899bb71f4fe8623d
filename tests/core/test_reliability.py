"""What can go wrong while a network trains: each ends in a sentence, and what was reached stays usable."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from junk import make_classes
from PIL import Image
from toy import ToyImages, toy_data

import tlhelpers as tl
from tlhelpers import checkpoints, inputs, training

OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "lr": 0.01}


def network(*classes: str) -> Any:
    names = classes or ("red", "green")
    return tl.freeze(tl.load_model("resnet18", classes=names, weights="none", size=64))


# --- the disk ---------------------------------------------------------------------------------------------------


class FullDisk:
    """Writes of checkpoints fail from the second on, after half of the bytes."""

    def __init__(self) -> None:
        self.calls, self.real = 0, checkpoints.atomic_write

    def __call__(self, path: Path) -> Any:
        self.calls += 1
        return self.real(path) if self.calls == 1 else self._failing(path)

    def _failing(self, path: Path) -> Any:
        import contextlib

        @contextlib.contextmanager
        def opened() -> Iterator[Any]:
            with self.real(path) as file:

                class Half:
                    def write(self, data: Any) -> int:
                        file.write(bytes(data)[: len(data) // 2])
                        raise OSError(28, "No space left on device")

                    def __getattr__(self, name: str) -> Any:
                        return getattr(file, name)

                yield Half()

        return opened()


def test_a_full_disk_leaves_the_checkpoint_before_and_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {**OPTIONS, "schedule": "constant", "checkpoint": tmp_path}
    model, whole = network(), network()
    tl.fit(whole, toy_data(20, 8, 4), **{**OPTIONS, "schedule": "constant"})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "atomic_write", FullDisk())
        with pytest.raises(tl.CheckpointError, match=r"No space left on device.*GB are free.*go on with resume=True"):
            tl.fit(model, toy_data(20, 8, 4), **options)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert tl.evaluate(model, toy_data(20, 8, 4).val).accuracy > 0, "the network is usable"
    assert not list(tmp_path.glob(".*.part"))
    resumed = network()
    run = tl.fit(resumed, toy_data(20, 8, 4), resume=True, **options)
    assert len(run.history) == 3
    assert tl.changed(resumed, tl.snapshot(whole)) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(tl.CheckpointError, match="cannot hold checkpoints"):
        tl.fit(network(), toy_data(), checkpoint=tmp_path / "file" / "run", **OPTIONS)


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)
    before = (tmp_path / "last.pt").read_bytes()
    with (
        FileLock(tmp_path / "in_use.lock"),
        pytest.raises(tl.CheckpointError, match=r"another run is writing to .* just now"),
    ):
        tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)
    assert (tmp_path / "last.pt").read_bytes() == before
    tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)  # the folder is free again


def test_best_weights_are_a_file_of_their_own(tmp_path: Path) -> None:
    model = network()
    run = tl.fit(model, toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)
    assert run.kept_epoch == run.best_epoch
    kept = tl.load(tmp_path / "best.safetensors", classes=("red", "green"))
    assert tl.changed(kept, tl.snapshot(model)) == []


# --- what does not fit ------------------------------------------------------------------------------------------


def test_other_classes_or_in_another_order(tmp_path: Path) -> None:
    tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)
    swapped = toy_data(20, 8, 4, classes=("green", "red"))
    with pytest.raises(tl.CheckpointError, match=r"classes was \['red', 'green'\] and is now \['green', 'red'\]"):
        tl.fit(network("green", "red"), swapped, checkpoint=tmp_path, resume=True, **OPTIONS)


def test_another_seed(tmp_path: Path) -> None:
    tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, **OPTIONS)
    with pytest.raises(tl.CheckpointError, match="seed was 0 and is now 1"):
        tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, resume=True, seed=1, **OPTIONS)


class Mischief:
    """Unpickling this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("method", ["zip", "pickle"])
def test_a_planted_checkpoint_runs_no_code(method: str, tmp_path: Path) -> None:
    planted, path = tmp_path / "planted", tmp_path / "last.pt"
    if method == "zip":
        torch.save({"format": checkpoints.FORMAT, "progress": Mischief(planted)}, path)
    else:
        path.write_bytes(pickle.dumps({"format": checkpoints.FORMAT, "progress": Mischief(planted)}, protocol=2))
    with pytest.raises(tl.CheckpointError, match="is damaged"):
        tl.fit(network(), toy_data(20, 8, 4), checkpoint=tmp_path, resume=True, **OPTIONS)
    assert not planted.exists()


# --- images that go away --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_classes(tmp_path / "images", {"cats": 14, "dogs": 14})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("change", ["vanished", "changed", "spoiled"])
def test_a_image_that_goes_away_is_named(
    change: str, kept: bool, workers: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tl.load_folder(folder, verbose=False)
    path = folder / data.train.keys[3]
    if change == "vanished":
        path.unlink()
    elif change == "changed":
        Image.new("RGB", (9, 9)).save(path)
    else:
        path.write_bytes(bytes(path.stat().st_size))
    if not kept:
        monkeypatch.setattr(inputs, "pixel_limit", lambda device: 0)
    model = network("cats", "dogs")
    before = tl.snapshot(model)
    with pytest.raises(tl.DataError) as caught:
        tl.fit(model, data, workers=workers, **OPTIONS)
    said = str(caught.value)
    assert path.name in said
    assert "\n" not in said
    assert "Traceback" not in said
    assert {name.split(".")[0] for name in tl.changed(model, before)} <= {"fc"}


def test_a_image_that_goes_away_in_the_second_epoch_leaves_the_first_ones_weights() -> None:
    class Vanishing(ToyImages):
        calls = 0

        def __call__(self, index: int) -> Image.Image:
            Vanishing.calls += 1
            if Vanishing.calls > 20 + 4:
                raise tl.DataError("The image seven.png was there, and is not now.")
            return super().__call__(index)

    data, model = toy_data(20, 8, 4), network()
    data.train.load = Vanishing(0)
    look = model.card.preprocessing
    with pytest.raises(tl.DataError, match=r"seven\.png"):
        tl.fit(model, data, augment=look.training(), **{**OPTIONS, "schedule": "constant"})
    plain = network()
    tl.fit(plain, toy_data(20, 8, 4), augment=look.training(), **{**OPTIONS, "epochs": 1, "schedule": "constant"})
    assert tl.changed(model, tl.snapshot(plain)) == []
    assert not model.training


class Dying(ToyImages):
    """Ends its process at the fifth image."""

    def __call__(self, index: int) -> Image.Image:
        if index == 4:
            os._exit(9)
        return super().__call__(index)


def test_a_worker_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "pixel_limit", lambda device: 0)
    data = toy_data(20, 8, 4)
    data.train.load = Dying(0)
    with pytest.raises(tl.TrainingError, match=r"one of the processes that read images ended .* Take workers=0"):
        tl.fit(network(), data, workers=2, **OPTIONS)


# --- interruptions ----------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import tlhelpers as tl
tl.use_profile("quick", device="cpu", precision="fp32")
data = tl.load_data("safari", size=32, per_class=4)
model = tl.freeze(tl.load_model("resnet18", classes=data.classes, size=32))
print("begins", flush=True)
run = tl.fit(model, data, epochs=100000, checkpoint=sys.argv[1], keep="last")
print(run.stopped, flush=True)
print(len(run.history) > 0, run.kept_epoch == run.best_epoch, len(tl.evaluate(model, data.val).logits), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_a_real_ctrl_c(tmp_path: Path) -> None:
    import signal

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "begins"
        deadline = time.monotonic() + 60
        while not (tmp_path / "last.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert said.startswith("Interrupted by hand in epoch ")
    assert said.splitlines()[1].startswith("True True ")
    assert not list(tmp_path.glob(".*.part"))


def test_ctrl_c_in_the_middle_of_a_save_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    options: dict[str, Any] = {**OPTIONS, "schedule": "constant", "keep": "last"}
    whole, model, handler = network(), network(), signal.getsignal(signal.SIGINT)
    tl.fit(whole, toy_data(20, 8, 4), **options)
    save, calls = torch.save, iter(range(9))

    def pressed(packed: Any, file: Any) -> None:
        class Pressing:
            def write(self, data: Any) -> int:
                if next(calls, None) == 4:
                    signal.raise_signal(signal.SIGINT)
                return int(file.write(data))

            def flush(self) -> None:
                file.flush()

        save(packed, Pressing())

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", pressed)
        run = tl.fit(model, toy_data(20, 8, 4), checkpoint=tmp_path, **options)
    assert run.stopped == "Interrupted by hand in epoch 2."
    assert len(run.history) == 1
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = network()
    tl.fit(resumed, toy_data(20, 8, 4), checkpoint=tmp_path, resume=True, **options)
    assert tl.changed(resumed, tl.snapshot(whole)) == []


# --- the same numbers again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_numbers_and_epochs_differ(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "pixel_limit", lambda device: 0)  # read anew every epoch, augmented by the readers
    sums: list[list[float]] = []
    epoch = training.train_epoch

    def noting(network: Any, batches: Any, *args: Any, **kwargs: Any) -> Any:
        seen = list(batches)
        sums.append(sorted(float(image.sum()) for images, _ in seen for image in images))
        return epoch(network, seen, *args, **kwargs)

    monkeypatch.setattr(training, "train_epoch", noting)
    models = []
    for _ in range(2):
        model = network()
        tl.fit(model, toy_data(12, 4, 4), workers=workers, **OPTIONS)
        models.append(model)
    assert tl.changed(models[0], tl.snapshot(models[1])) == []
    assert sums[:3] == sums[3:]
    assert sums[0] != sums[1] != sums[2] != sums[0]


COMPILED = """
import torch
import tlhelpers as tl
from toy import toy_data

tl.use_profile("quick", device="cpu", precision="fp32")
heads = []
for step in (tl.Step(), tl.Step(compile=True)):
    model = tl.freeze(tl.load_model("resnet18", classes=["red", "green"], weights="none", size=64))
    tl.fit(model, toy_data(16, 8, 4), epochs=2, batch_size=8, lr=0.01, augment=False, step=step, keep="last")
    heads.append(model.fc.weight.detach())
torch.testing.assert_close(heads[1], heads[0], atol=1e-6, rtol=1e-4)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same() -> None:
    """In a process of its own: the compiler changes what other tests have imported, and they what it imports."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
