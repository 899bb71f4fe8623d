"""The command line: `tlhelpers doctor | train FOLDER | predict RUN IMAGE...`, also as `python -m tlhelpers`."""

import argparse
import contextlib
import json
import os
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlhelpers.errors import TLError, TrainingError
from tlhelpers.files import atomic_write

if TYPE_CHECKING:
    from tlhelpers.data.dataset import ImageData
    from tlhelpers.trainer import Run

WEIGHTS_FILE = "model.safetensors"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without ✓ or – must not end the run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return int(options.command(options))
    except TLError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tlhelpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="check this machine, and say what to do about problems")
    doctor.set_defaults(command=_doctor)

    defaults = argparse.ArgumentDefaultsHelpFormatter
    train = commands.add_parser("train", help="train a network on images", formatter_class=defaults)
    train.set_defaults(command=_train)
    add = train.add_argument
    add("data", help="folder with a subfolder for each class, with or without train/val/test; or a name")
    # The strongest network that needs no download: it has ImageNet weights.
    add("--arch", default=os.environ.get("TL_ARCH") or "efficientnet_lite0", help="architecture")
    add("--out", type=Path, help="folder for weights, history and report")
    add("--epochs", type=int, default=10, help="passes over the training images")
    add("--lr", type=float, default=3e-3, help="learning rate of the head")
    add("--unfreeze", type=int, default=0, metavar="N", help="blocks to train besides the head")
    add("--factor", type=float, default=0.1, help="learning rate of each block, relative to the block after it")
    add("--size", type=int, help="side of the images in pixels (None: the weights' own)")
    add("--batch-size", type=int, default=32, help="images in a step")
    add("--weights", choices=("embedded", "imagenet", "none"), help="where to start from (None: pre-trained)")
    add("--no-augment", action="store_true", help="show every training image as it is")
    add("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    add("--seed", type=int, default=0, help="first seed of training")
    add("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds and report the spread")
    add("--split-seed", type=int, default=0, help="seed of the division into splits, where the folder has none")
    add("--group", metavar="PATTERN", help="regular expression for the patient or the like in a path")
    add("--on-bad", choices=("skip", "refuse"), default="skip", help="what to do about bad files")
    add("--workers", type=int, help="processes that read images which do not fit into memory (None: a few)")

    predict = commands.add_parser("predict", help="say what a trained network sees in images")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", type=Path, help="folder of one run of `train --out`, or a .safetensors file")
    predict.add_argument("images", nargs="+", type=Path, help="image files")
    predict.add_argument("--top", type=int, default=3, help="classes to name for each image")

    for command in entry_points(group="tlhelpers.commands"):  # what other packages add, such as the course's `check`
        with contextlib.suppress(ImportError):  # `doctor` has to start where packages are missing
            command.load()(commands)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from tlhelpers.diagnosis import doctor

    report = doctor()
    print(report)
    return 0 if report.ok else 1


def _train(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    if options.out is not None:
        _claim(options.out)
    folder = Path(options.data)
    choices = {"groups": options.group, "on_bad": options.on_bad, "seed": options.split_seed}
    data = tl.load_data(folder, **choices) if folder.exists() else tl.load_data(options.data)
    for split in data.splits():
        split.workers = options.workers
    used = tl.current_profile()
    print(data, used, sep="\n")
    results = []
    for seed in range(options.seed, options.seed + options.seeds):
        run, result = _train_once(data, options, seed)
        results.append(result)
        if options.out is not None:
            place = options.out if options.seeds == 1 else options.out / f"seed{seed}"
            _write(place / "history.csv", run.history.to_csv())
            _write(place / "report.json", json.dumps({"data": data.name, **result}, indent=1))
            tl.save(run.model, place / WEIGHTS_FILE)
            print(f"kept in {place}: {WEIGHTS_FILE}, history.csv, report.json")
        if run.stopped:
            print(run.stopped)
            return 130
    if options.seeds > 1:
        print(_spread(results))
        if options.out is not None:
            settings = {"profile": used.name, "device": used.device.type, "precision": used.precision}
            content = {"data": data.name, "settings": settings, "cores": os.cpu_count(), "seeds": results}
            _write(options.out / "seeds.json", json.dumps(content, indent=1))
    return 0


def _train_once(data: "ImageData", options: argparse.Namespace, seed: int) -> "tuple[Run, dict[str, Any]]":
    """Train with one seed and print the scores; they are returned, too."""
    import tlhelpers as tl

    start = time.perf_counter()
    model = tl.load_model(options.arch, classes=data.classes, weights=options.weights, size=options.size, seed=seed)
    if seed == options.seed:
        print(model.card.sentence)
    lr: float | dict[str, float] = options.lr
    if options.weights != "none":
        tl.unfreeze(tl.freeze(model), last=options.unfreeze)
        lr = {g["name"]: g["lr"] for g in tl.param_groups(model, options.lr, factor=options.factor)}
    epochs, augment = tl.Epochs(options.epochs, keep=options.keep), not options.no_augment
    run = tl.fit(model, data, epochs=epochs, lr=lr, batch_size=options.batch_size, augment=augment, seed=seed)
    if not run.kept_epoch:
        raise TrainingError("training was interrupted before its first epoch ended, so there is nothing to keep")
    kept, last = (float(run.history["val_accuracy"][epoch]) for epoch in (run.kept_epoch, len(run.history)))
    result: dict[str, Any] = {"seed": seed, "epochs": len(run.history), "kept_epoch": run.kept_epoch}
    result |= {"val_images": len(data.val), "val_accuracy": kept, "val_accuracy_last": last}
    text = f"validation {kept:.1%} at epoch {run.kept_epoch}, {last:.1%} at the last ({len(data.val)} images); "
    if data.test is None:
        text += "no test set, and the best epoch was chosen on validation: the last epoch is the honest number"
    else:
        test = tl.evaluate(model, data.test)
        text += f"test {test}, balanced {test.balanced_accuracy:.1%}"
        result |= {"test_accuracy": test.accuracy, "test_low": test.interval[0], "test_high": test.interval[1]}
        result |= {"test_balanced_accuracy": test.balanced_accuracy, "test_images": len(data.test)}
    result["seconds"] = round(time.perf_counter() - start, 1)
    print(f"seed {seed}: {text}; {result['seconds']:.0f} s")
    return run, result


def _spread(results: list[dict[str, Any]]) -> str:
    import pandas as pd

    lines = [f"over {len(results)} seeds, mean ± standard deviation (lowest to highest):"]
    for key, row in pd.DataFrame(results).agg(["mean", "std", "min", "max"]).items():
        if "accuracy" in str(key):
            lines.append("  {:24}{:.1%} ± {:.1%} ({:.1%} to {:.1%})".format(key, *row))
    return "\n".join([*lines, "  {:24}{:.0f} ({:.0f} to {:.0f})".format("seconds", *row[["mean", "min", "max"]])])


def _claim(folder: Path) -> None:
    """A folder for results must be new, empty, or from an earlier run that is to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file; --out needs a folder")
    if folder.exists() and any(folder.iterdir()) and not list(folder.glob("**/report.json")):
        raise TrainingError(f"{folder} holds other files; name a new folder with --out, so that nothing is lost")
    folder.mkdir(parents=True, exist_ok=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())


def _predict(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    model = tl.load(options.run / WEIGHTS_FILE if options.run.is_dir() else options.run)
    code = 0
    for image in options.images:
        try:
            table = tl.predict(model, image, top=options.top)
            print(f"{image}: " + ", ".join(f"{row['class']} {row['probability']:.1%}" for _, row in table.iterrows()))
        except TLError as error:
            print(f"✗ {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
