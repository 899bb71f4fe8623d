"""The command line: `python -m tlhelpers doctor | train FOLDER | predict RUN IMAGE... | check NOTEBOOK`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlhelpers.errors import TLError, TrainingError

if TYPE_CHECKING:
    from tlhelpers.data.dataset import ImageData
    from tlhelpers.training import Run

WEIGHTS_FILE = "model.safetensors"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 for success, 1 for trouble, 130 after Ctrl-C."""
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
    parser = argparse.ArgumentParser(prog="python -m tlhelpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="check this machine and say what to do about troubles")
    doctor.set_defaults(command=_doctor)

    train = commands.add_parser(
        "train",
        help="train a network on a folder of images, or a named data set",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(command=_train)
    train.add_argument("data", help="folder with a subfolder for each class, with or without train/val/test; or a name")
    # Of the networks that need no download, the one that has seen most: ImageNet, at 224 px.
    arch = os.environ.get("TL_ARCH") or "efficientnet_lite0"
    train.add_argument("--arch", default=arch, help="architecture")
    train.add_argument("--out", type=Path, help="folder to keep weights, history and report in")
    train.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    train.add_argument("--lr", type=float, default=3e-3, help="learning rate of the head")
    train.add_argument("--unfreeze", type=int, default=0, metavar="N", help="blocks to train besides the head")
    train.add_argument("--factor", type=float, default=0.1, help="learning rate of each earlier block, relative")
    train.add_argument("--size", type=int, help="side of the images in pixels (None: the weights' own)")
    train.add_argument("--batch-size", type=int, default=32, help="images in a step")
    train.add_argument(
        "--weights", choices=("embedded", "imagenet", "none"), help="where to start from (None: pre-trained)"
    )
    train.add_argument("--no-augment", action="store_true", help="show every training image as it is")
    train.add_argument("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    train.add_argument("--seed", type=int, default=0, help="first seed of training")
    train.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds and give the spread")
    train.add_argument("--split-seed", type=int, default=0, help="seed of the division into parts, where there is one")
    train.add_argument("--group", metavar="PATTERN", help="regular expression for the patient or the like in a path")
    train.add_argument("--on-bad", choices=("skip", "refuse"), default="skip", help="what to do about bad files")
    train.add_argument("--workers", type=int, default=0, help="processes that read images")

    predict = commands.add_parser("predict", help="say what a trained network sees in images")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", type=Path, help="folder that `train --out` wrote, or a .safetensors file")
    predict.add_argument("images", nargs="+", type=Path, help="image files")
    predict.add_argument("--top", type=int, default=3, help="classes to name for each image")

    for command in entry_points(group="tlhelpers.commands"):  # what other packages add, such as the course's `check`
        command.load()(commands)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from tlhelpers.doctor import main

    return main()


def _train(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    if options.out is not None:
        _claim(options.out)
    data = _load(options)
    print(data, tl.current_profile(), sep="\n")
    results = []
    for seed in range(options.seed, options.seed + options.seeds):
        run, result = _train_once(data, options, seed)
        results.append(result)
        print(f"seed {seed}: {_sentence(result)}")
        if options.out is not None:
            folder = options.out if options.seeds == 1 else options.out / f"seed{seed}"
            _keep(folder, run, {"data": data.name, **result})
        if run.stopped:
            print(run.stopped)
            return 130
    if options.seeds > 1:
        print(_spread(results))
        if options.out is not None:
            used = tl.current_profile()
            settings = {"profile": used.name, "device": used.device.type, "precision": used.precision}
            content = {"data": data.name, "settings": settings, "cores": os.cpu_count(), "seeds": results}
            _write_json(options.out / "seeds.json", content)
    return 0


def _load(options: argparse.Namespace) -> ImageData:
    import tlhelpers as tl

    wanted = {"groups": options.group, "on_bad": options.on_bad, "seed": options.split_seed}
    is_folder = Path(options.data).exists()
    return tl.load_data(Path(options.data) if is_folder else options.data, **(wanted if is_folder else {}))


def _train_once(data: ImageData, options: argparse.Namespace, seed: int) -> tuple[Run, dict[str, Any]]:
    import tlhelpers as tl
    from tlhelpers.models.freezing import param_groups

    start = time.perf_counter()
    model = tl.load_model(options.arch, classes=data.classes, weights=options.weights, size=options.size, seed=seed)
    if seed == options.seed:
        print(model.card.sentence)
    if options.weights != "none":
        tl.unfreeze(tl.freeze(model), last=options.unfreeze)
    rates = {g["name"]: g["lr"] for g in param_groups(model, options.lr, factor=options.factor)}
    run = tl.fit(
        model,
        data,
        epochs=options.epochs,
        lr=rates if options.weights != "none" else options.lr,
        batch_size=options.batch_size,
        augment=not options.no_augment,
        keep=options.keep,
        seed=seed,
        workers=options.workers,
    )
    if not run.kept_epoch:
        raise TrainingError("training was interrupted before its first epoch ended, so there is nothing to keep")
    seconds = time.perf_counter() - start
    last = run.history.iloc[-1]
    result = {
        "seed": seed,
        "epochs": len(run.history),
        "kept_epoch": run.kept_epoch,
        "seconds": round(seconds, 1),
        "val_images": len(data.val),
        "val_accuracy": float(run.history["val_accuracy"][run.kept_epoch]),
        "val_accuracy_last": float(last["val_accuracy"]),
    }
    if data.test is not None:
        test = tl.evaluate(model, data.test, workers=options.workers)
        low, high = test.interval
        scores = {"test_accuracy": test.accuracy, "test_low": low, "test_high": high}
        result |= {**scores, "test_balanced_accuracy": test.balanced_accuracy, "test_images": len(data.test)}
    return run, result


def _sentence(result: dict[str, Any]) -> str:
    text = (
        f"validation {result['val_accuracy']:.1%} at epoch {result['kept_epoch']}, "
        f"{result['val_accuracy_last']:.1%} at the last ({result['val_images']} images)"
    )
    if "test_accuracy" in result:
        text += (
            f"; test {result['test_accuracy']:.1%} (95 % interval {result['test_low']:.1%} to "
            f"{result['test_high']:.1%}), balanced {result['test_balanced_accuracy']:.1%} "
            f"({result['test_images']} images)"
        )
    else:
        text += "; no test set, and a best epoch chosen on validation flatters: the last epoch is the honest number"
    return f"{text}; {result['seconds']:.0f} s"


def _spread(results: list[dict[str, Any]]) -> str:
    import numpy as np

    lines = [f"over {len(results)} seeds, mean ± standard deviation (lowest to highest):"]
    for key in ("val_accuracy", "val_accuracy_last", "test_accuracy", "test_balanced_accuracy"):
        if key in results[0]:
            values = np.array([result[key] for result in results])
            lines.append(
                f"  {key:24}{values.mean():.1%} ± {values.std(ddof=1):.1%} ({values.min():.1%} to {values.max():.1%})"
            )
    seconds = [result["seconds"] for result in results]
    return "\n".join([*lines, f"  {'seconds':24}{np.mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"])


def _claim(folder: Path) -> None:
    """A folder for results must be ours: new, empty, or from an earlier run that is to be replaced."""
    if folder.is_dir() and any(folder.iterdir()) and not list(folder.glob("**/report.json")):
        raise TrainingError(f"{folder} holds other files; name a new folder with --out, so that nothing is lost")
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file; --out needs a folder")
    folder.mkdir(parents=True, exist_ok=True)


def _keep(folder: Path, run: Run, report: dict[str, Any]) -> None:
    import tlhelpers as tl
    from tlhelpers.files import atomic_write

    folder.mkdir(parents=True, exist_ok=True)
    tl.save(run.model, folder / WEIGHTS_FILE)
    with atomic_write(folder / "history.csv") as file:
        file.write(run.history.to_csv().encode())
    _write_json(folder / "report.json", report)
    print(f"kept in {folder}: {WEIGHTS_FILE}, history.csv, report.json")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from tlhelpers.files import atomic_write

    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def _predict(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    path = options.run / WEIGHTS_FILE if options.run.is_dir() else options.run
    model = tl.load(path)
    failed = 0
    for image in options.images:
        try:
            table = tl.predict(model, image, top=options.top)
        except TLError as error:
            print(f"✗ {error}", file=sys.stderr)
            failed += 1
            continue
        seen = ", ".join(f"{row['class']} {row['probability']:.1%}" for _, row in table.iterrows())
        print(f"{image}: {seen}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
