"""Kill training again and again, and see whether anything is lost.

    python experiments/kill_test.py [--kills 40] [--write]

A child process trains a small network with a checkpoint after every epoch. At random moments it is killed outright
(SIGKILL), some of them while it saves; then another one goes on from the checkpoint. Checked after every kill: the
checkpoint is whole, and no finished epoch is gone. Checked at the end of every run: the weights and the history are
those of a run that nobody disturbed, bit for bit. `--write` puts the table into tlcourse/measurements/data/kills.json.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data" / "kills.json"
EPOCHS = 10
SAVE_SECONDS = 0.1  # a save takes at least so long, so that kills hit some
SETTINGS: dict[str, dict[str, Any]] = {  # what the runs differ in; those of the notebooks
    "head on cached activations": {"augment": False, "last": 0, "optimizer": "AdamW", "schedule": "cosine"},
    "head on four views": {"augment": True, "views": 4, "last": 0, "optimizer": "SGD", "schedule": "cosine"},
    "last block, crops": {"augment": True, "last": 1, "optimizer": "AdamW", "schedule": "one-cycle"},
    "everything, crops": {"augment": True, "last": None, "optimizer": "SGD", "schedule": "step"},
}


def main() -> int:
    """Run the test; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="how many in all, divided among the settings")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--write", action="store_true", help="write the table into the results")
    options = parser.parse_args()
    rows = kill_all(options.kills, options.seed)
    print(table(rows))
    if options.write:
        _write(rows)
    return int(any(row["epochs_lost"] or row["torn"] or not row["equal"] for row in rows))


def kill_all(kills: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each setting: kills, how many hit a save, what was lost, whether the end is the same."""
    moments = random.Random(seed)
    each = -(-kills // len(SETTINGS))
    with tempfile.TemporaryDirectory() as place:
        return [_tried(Path(place) / str(i), name, each, moments) for i, name in enumerate(SETTINGS)]


def _tried(place: Path, name: str, kills: int, moments: random.Random) -> dict[str, Any]:
    folder, lost, torn, in_save, done = place / "run", 0, 0, 0, 0
    place.mkdir()
    for _ in range(kills):
        epochs, _ = _state(folder)
        if epochs == EPOCHS:  # it got to its end between two kills: begin another one
            (folder / "last.pt").unlink()
            epochs = 0
        _kill_one(folder, name, moments)
        done += 1
        in_save += bool(list(folder.glob(".last.pt.*.part")))
        after, whole = _state(folder)
        lost += max(epochs - after, 0)
        torn += not whole
    _run(folder, name)
    _run(place / "undisturbed", name)
    return {
        "setting": name,
        "kills": done,
        "in_a_save": in_save,
        "epochs_lost": lost,
        "torn": torn,
        "equal": _end(folder) == _end(place / "undisturbed"),
    }


def _kill_one(folder: Path, name: str, moments: random.Random) -> None:
    child, begins = _started(folder, name)
    if not begins.poll(120):  # it has loaded everything and begins
        raise SystemExit(f"the run '{name}' did not begin")
    if moments.random() < 0.3:  # in the middle of a save, however slow the machine is
        while child.is_alive() and not any(folder.glob(".last.pt.*.part")):
            child.join(timeout=0.01)
    else:
        child.join(timeout=moments.uniform(0.0, 2.5))
    child.kill()
    child.join()


def _run(folder: Path, name: str) -> None:
    child, _ = _started(folder, name)
    child.join()
    if child.exitcode != 0:
        raise SystemExit(f"the run '{name}' ended with {child.exitcode}")


def _started(folder: Path, name: str) -> tuple[Any, Any]:
    """A child process, and the pipe through which it says that it begins to train."""
    # Where the system can fork, children come from a server that has imported everything already.
    known = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    if "forkserver" in known:
        context.set_forkserver_preload(["tlhelpers.training", "tlcourse.safari.dataset", "tlhelpers.models.loading"])
    begins, said = context.Pipe(duplex=False)
    child = context.Process(target=train_child, args=(folder, name, said))
    child.start()
    said.close()
    return child, begins


def _state(folder: Path) -> tuple[int, bool]:
    """How many epochs the checkpoint has, and whether it is whole (or there is none)."""
    import torch

    path = folder / "last.pt"
    if not path.exists():
        return 0, True
    try:
        return len(torch.load(path, weights_only=True)["progress"]["rows"]), True
    except Exception:  # whatever it is, the file is torn
        return 0, False


def _end(folder: Path) -> str:
    """A fingerprint of the weights and of the history, but for the seconds."""
    return (folder / "end.json").read_text()


def train_child(folder: Path, name: str, said: Any) -> None:
    """What a child process does: train with one of the settings, and write down how it ended."""
    import torch

    import tlhelpers as tl

    settings = SETTINGS[name]
    fsync = os.fsync

    def slowly(descriptor: int) -> None:
        time.sleep(SAVE_SECONDS)
        fsync(descriptor)

    os.fsync = slowly
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    tl.use_profile("quick", device="cpu", precision="fp32")
    data = tl.load_data("safari", size=32, per_class=2)
    data.val = data.val.per_class(1)
    model = tl.load_model("resnet18", classes=data.classes, size=32)
    if settings["last"] is not None:
        tl.unfreeze(tl.freeze(model), last=settings["last"])
    kinds = {"AdamW": torch.optim.AdamW, "SGD": functools.partial(torch.optim.SGD, momentum=0.9)}
    halving = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
    said.send("begins")
    run = tl.fit(
        model,
        data,
        epochs=EPOCHS,
        batch_size=8,
        lr=1e-3,
        augment=settings["augment"],
        optimizer=kinds[settings["optimizer"]],
        schedule=halving if settings["schedule"] == "step" else settings["schedule"],
        cache=settings.get("views", True),
        checkpoint=folder,
        resume=True,
    )
    digest = hashlib.sha256()
    for tensor in run.model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    history = run.history.drop(columns="seconds").to_dict("list")
    (folder / "end.json").write_text(json.dumps({"weights": digest.hexdigest(), "history": history}))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| training | kills | of them in a save | finished epochs lost | damaged files | result as if undisturbed |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = "yes, bit for bit" if row["equal"] else "NO"
        cells = (row["setting"], row["kills"], row["in_a_save"], row["epochs_lost"], row["torn"], same)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _write(rows: list[dict[str, Any]]) -> None:
    from tlhelpers.files import atomic_write

    facts = {
        "command": f"python experiments/kill_test.py --kills {sum(row['kills'] for row in rows)} --write",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch {version('torch')}",
        "rows": rows,
    }
    with atomic_write(TARGET) as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
