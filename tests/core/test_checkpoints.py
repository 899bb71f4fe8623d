"""Checkpoints: going on equals never having stopped; what does not fit is refused, and nothing is lost."""

import contextlib
import functools
import pickle
import signal
from types import SimpleNamespace
from unittest.mock import Mock

import kill_test
import pytest
import torch
from epoch_order import EpochOrder
from filelock import FileLock
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR
from toy import Mischief, cases, refused, same_weights, toy_data, toy_network

import tlhelpers as tl
from tlhelpers import checkpoints, trainer
from tlhelpers.pixel_batches import Order, PixelBatches

PREPROCESSING = tl.Preprocessing(size=32, resize=32)
network = functools.partial(toy_network, "mobilenet_v3_small", size=32)  # quick, and it has dropout and BatchNorm


def fit(folder=None, resume=False, model=None, data=None, **changes):
    options = {"epochs": 3, "batch_size": 8, "lr": 1e-2, **changes}
    return tl.fit(model or network(), data or toy_data(), checkpoint=folder, resume=resume, **options)


def pixel_batches():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    given = pixels, torch.arange(24) % 2, PREPROCESSING
    train = PixelBatches(*given, EpochOrder(24, 8, 0), crop=0.5, sizes=[32, 32, 48])
    return {"train": train, "val": PixelBatches(*given, Order(24, 8))}


@contextlib.contextmanager
def killed_after(epochs):
    """Training ends without a word after so many epochs."""
    left, epoch = [None] * epochs, trainer.train_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train_epoch", lambda *args, **kwargs: left.pop() or epoch(*args, **kwargs))
        with pytest.raises(IndexError, match="pop from empty list"):
            yield


SOURCES = {  # where a network's input comes from, and what of it trains
    "crops of decoded images": {},
    "pixels of one's own": {"data": pixel_batches},
    "a transform of one's own": {"augment": PREPROCESSING.training()},
    "cached activations": {"last": 0, "augment": False},
    "cached views": {"last": 0, "cache": 2},
    "last block on cached activations": {"last": 1, "augment": False},
}


@cases(
    "optimizer, schedule",
    (AdamW, "cosine"),
    pytest.param(AdamW, "constant", marks=pytest.mark.slow),
    (functools.partial(SGD, momentum=0.9, nesterov=True), "one-cycle"),
    ids=["AdamW, cosine", "AdamW, constant", "SGD, one-cycle"],
)
@pytest.mark.parametrize("source", list(SOURCES))
def test_going_on_equals_never_having_stopped(source, optimizer, schedule, tmp_path):
    def train(folder=None, resume=False):
        options = dict(SOURCES[source])
        model, data = network(last=options.pop("last", None)), options.pop("data", toy_data)()
        return fit(folder, resume, model, data, keep="last", optimizer=optimizer, schedule=schedule, **options)

    whole = train()
    with killed_after(2):
        train(tmp_path)
    torch.rand(7)  # the state of the reader's generators must not matter
    resumed = train(tmp_path, resume=True)
    assert same_weights(resumed.model, whole.model)
    assert resumed.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert resumed.best_epoch == whole.best_epoch


def test_the_best_epochs_weights_survive(tmp_path):
    uphill = {"optimizer": SGD, "schedule": lambda o: LambdaLR(o, lambda epoch: -1.0 if epoch else 1.0)}

    def train(folder=None, resume=False):
        return fit(folder, resume, network(last=0), epochs=4, **uphill)

    whole = train()
    with killed_after(3):
        train(tmp_path)
    resumed = train(tmp_path, resume=True)
    assert resumed.kept_epoch == whole.kept_epoch == 1
    assert same_weights(resumed.model, whole.model)


def test_ctrl_c_while_the_best_weights_are_written_keeps_their_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save", Mock(side_effect=KeyboardInterrupt))
    run = fit(tmp_path)
    assert (len(run.history), run.kept_epoch) == (1, 1)
    assert "kept epoch 1" in repr(run)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    first = fit(tmp_path, epochs=1)
    monkeypatch.delattr(trainer, "train_epoch")
    again = fit(tmp_path, resume=True, epochs=1)
    assert same_weights(again.model, first.model)
    assert again.history.equals(first.history)


def test_without_resume_a_new_run_replaces_the_old_and_keeps_its_best_weights(tmp_path):
    fit(tmp_path, epochs=2)
    run = fit(tmp_path, epochs=1)
    assert len(run.history) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.safetensors", "in_use.lock"}
    assert same_weights(tl.load(tmp_path / "best.safetensors", classes=("red", "green")), run.model)


@cases(
    "change, message",
    ({"epochs": 2}, r"epochs was 3 and is now 2"),
    ({"batch_size": 5}, r"batches was 3 and is now 4"),
    ({"lr": 0.5}, r"groups was .*0\.01.* and is now .*0\.5"),
    ({"optimizer": SGD}, r"optimizer was AdamW and is now SGD"),
    ({"schedule": "constant"}, r"schedule was CosineAnnealingLR and is now ConstantLR"),
    ({"epochs": 3, "keep": "last"}, r"keep was best and is now last"),
    ({"augment": False}, r"images was augment=True, views=None and is now augment=False"),
    ({"cache": 1}, r"images was augment=True, views=None and is now augment=True, views=1"),
    ({"seed": 1}, "seed was 0 and is now 1"),
)
def test_a_run_with_other_settings_is_refused(change, message, tmp_path):
    fit(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    refused(tl.CheckpointError, message, fit, tmp_path, resume=True, **change)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_another_network_or_other_classes_are_refused(tmp_path):
    fit(tmp_path, epochs=1)
    other = "belongs to another run: arch was mobilenet_v3_small and is now resnet18; groups"
    refused(tl.CheckpointError, other, fit, tmp_path, resume=True, model=toy_network("resnet18", size=32), epochs=1)
    swapped = tl.load_model("mobilenet_v3_small", classes=["green", "red"], weights="none", size=32)
    with pytest.raises(tl.CheckpointError, match=r"classes was \['red', 'green'\] and is now \['green', 'red'\]"):
        fit(tmp_path, resume=True, model=swapped, data=toy_data(classes=("green", "red")), epochs=1)


PLANTED = {"format": checkpoints.FORMAT, "progress": Mischief()}
DAMAGE = {
    "short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": lambda path: path.write_bytes(bytes(64) + path.read_bytes()[64:]),
    "other": lambda path: torch.save({"weights": torch.zeros(3)}, path),
    "code in a zip": lambda path: torch.save(PLANTED, path),
    "code in a pickle": lambda path: path.write_bytes(pickle.dumps(PLANTED, protocol=2)),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_checkpoint_is_named_and_left_alone_and_runs_no_code(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(tmp_path, epochs=1)
    path = tmp_path / "last.pt"
    DAMAGE[damage](path)
    before = path.read_bytes()
    with pytest.raises(tl.CheckpointError, match=r"last\.pt (is damaged|was not written by tl\.fit)"):
        fit(tmp_path, resume=True, epochs=1)
    assert path.read_bytes() == before
    assert not (tmp_path / "planted").exists()


def test_a_full_disk_leaves_the_checkpoint_before_and_the_best_weights(tmp_path):
    model, whole, save, calls = network(), fit(schedule="constant"), torch.save, iter(range(1))

    def full(packed, file):
        save(packed, file)
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(tl.CheckpointError, match=r"No space left on device.*GB are free.*go on with resume=True"):
            fit(tmp_path, model=model, schedule="constant")
    assert not model.training, "the network is usable"
    assert not list(tmp_path.glob(".*.part"))
    for name in (".last.pt.01.part", ".mine.part"):  # left by a killed process, and by somebody else
        (tmp_path / name).touch()
    resumed = fit(tmp_path, resume=True, schedule="constant")
    assert [path.name for path in tmp_path.glob(".*.part")] == [".mine.part"]
    assert len(resumed.history) == 3
    assert same_weights(resumed.model, whole.model)


def test_two_runs_do_not_share_a_folder(tmp_path):
    fit(tmp_path, epochs=1)
    before = (tmp_path / "last.pt").read_bytes()
    in_use = pytest.raises(tl.CheckpointError, match=r"another run is writing to .* just")
    with FileLock(tmp_path / "in_use.lock"), in_use:
        fit(tmp_path, epochs=1)
    assert (tmp_path / "last.pt").read_bytes() == before
    fit(tmp_path, epochs=1)  # the folder is free again


def test_ctrl_c_in_the_middle_of_a_save_waits_for_its_end(tmp_path, monkeypatch):
    options = {"epochs": 3, "keep": "last", "schedule": "constant"}
    whole, handler, save, calls = fit(**options), signal.getsignal(signal.SIGINT), torch.save, iter(range(9))

    def pressed(packed, file):
        def write(data):
            if next(calls, None) == 4:
                signal.raise_signal(signal.SIGINT)
            return file.write(data)

        save(packed, SimpleNamespace(write=write, flush=file.flush))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", pressed)
        run = fit(tmp_path, **options)
    assert run.stopped == "Interrupted by hand in epoch 2."
    assert len(run.history) == 1
    assert same_weights(fit(tmp_path, resume=True, **options).model, whole.model)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
def test_twenty_kills_lose_nothing():
    rows = kill_test.kill_all(20, seed=1)
    assert sum(row["kills"] for row in rows) >= 20
    assert sum(row["in_a_save"] for row in rows) >= 2, "no kill hit a save: this proved too little"
    assert {(row["epochs_lost"], row["torn"], row["equal"]) for row in rows} == {(0, 0, True)}
