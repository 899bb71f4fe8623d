"""The command line: `tlhelpers doctor | train FOLDER | predict RUN IMAGE...`, also as `python -m tlhelpers`."""

import argparse
import contextlib
import functools
import io
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tlhelpers.errors import TLError, TrainingError, WeightsError
from tlhelpers.files import atomic_write, make_folder, user_path

WEIGHTS_FILE = "model.safetensors"
SHARED = ("report.html", "model_card.md", "model.onnx", "model.int8.onnx", "model.pt2")  # by `report` and `export`
RESULTS = (WEIGHTS_FILE, "history.csv", "report.json", "seeds.json", *SHARED)
CHECKPOINTS = ("best.safetensors", "last.pt")  # what `fit` writes after each epoch


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error, 2 for a wrong option, 130 after Ctrl-C or SIGTERM."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without ✓ or – must not end the run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    options.line = shlex.join(["tlhelpers", *(sys.argv[1:] if arguments is None else arguments)])
    before = signal.getsignal(signal.SIGTERM)
    if in_main_thread := threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, functools.partial(_interrupt, os.getpid()))
    try:
        return int(options.command(options))
    except (TLError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _interrupt(process: int, *_: Any) -> None:
    """Let SIGTERM, with which schedulers and `kill` end a process, do what Ctrl-C does."""
    if os.getpid() != process:  # one that reads images
        os._exit(1)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _number(text: str, kind: type, low: float) -> Any:
    with contextlib.suppress(ValueError):
        if low <= (number := kind(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"'{text}': expected a {'whole ' * (kind is int)}number, {low:g} or more")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a regular expression ({error})") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tlhelpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="check this machine, and say what to do about problems")
    doctor.set_defaults(command=_doctor)

    count = functools.partial(_number, kind=int, low=1)
    natural, rate = functools.partial(_number, kind=int, low=0), functools.partial(_number, kind=float, low=0)
    defaults = argparse.ArgumentDefaultsHelpFormatter
    train = commands.add_parser("train", help="train a network on images", formatter_class=defaults)
    train.set_defaults(command=_train)
    add = train.add_argument
    add("data", nargs="?", help="folder with a subfolder for each class, or a name (None: TL_DATA, or the profile's)")
    # The strongest network that needs no download: it has ImageNet weights.
    add("--arch", default=os.environ.get("TL_ARCH") or "efficientnet_lite0", help="architecture")
    add("--out", help="folder for weights, history and report; an earlier training in it is replaced")
    add("--resume", action="store_true", help="go on with the training in --out, if there is one")
    minutes = functools.partial(_number, kind=float, low=0.1)
    add("--minutes", type=minutes, help="time for the default recipe: the head, then more, by validation (None: 3)")
    add("--epochs", type=count, help="passes over the training images, in place of the recipe (None: 10)")
    add("--lr", type=rate, help="learning rate of the head, in place of the recipe (None: 0.003)")
    add("--unfreeze", type=natural, help="blocks to train besides the head, in place of the recipe (None: 0)")
    add("--size", type=functools.partial(_number, kind=int, low=32), help="side in pixels (None: the weights' own)")
    add("--batch-size", type=count, default=32, help="images in a step")
    add("--weights", choices=("embedded", "imagenet", "none"), help="where to start from (None: pre-trained)")
    add("--no-augment", action="store_true", help="show every training image as it is")
    add("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    add("--seed", type=natural, help="first seed of training (None: TL_SEED, or 0)")
    add("--seeds", type=count, default=1, metavar="N", help="repeat with N seeds and report the spread")
    add("--split-seed", type=natural, help="seed of the division into splits, where the folder has none (None: 0)")
    add("--group", type=_pattern, metavar="PATTERN", help="regular expression for the patient or the like in a path")
    add("--on-bad", choices=("skip", "refuse"), help="what to do about bad files (None: skip)")
    add("--workers", type=natural, help="processes that read images which do not fit into memory (None: a few)")

    predict = commands.add_parser("predict", help="say what a trained network sees in images")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", help="folder of one run of `train --out`, or a .safetensors file")
    predict.add_argument("images", nargs="+", help="image files")
    predict.add_argument("--top", type=count, default=3, help="classes to name for each image")
    for command in (train, predict):
        command.add_argument("--quiet", action="store_true", help="print results and errors only")
        command.add_argument("--json", action="store_true", help="print results as JSON, and nothing else")

    for entry in entry_points(group="tlhelpers.commands"):  # what other packages add, such as the course's `check`
        with contextlib.suppress(ImportError):  # `doctor` has to start where packages are missing
            entry.load()(commands)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from tlhelpers.diagnosis import doctor

    print(report := doctor())
    return 0 if report.ok else 1


def _train(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    if silent := options.quiet or options.json:
        os.environ["TQDM_DISABLE"] = "1"
    results, lines = list[dict[str, Any]](), list[str]()
    with contextlib.redirect_stdout(io.StringIO() if silent else sys.stdout):
        used, data = tl.current_profile(), _load(options)
        print(data, used, sep="\n")
        for seed, place in options.places.items():
            result, line, stopped = _train_once(data, options, seed, place)
            print(line)
            results.append(result)
            lines.append(line)
            if stopped:
                break
    answer: dict[str, Any] = {"data": data.name, "cores": os.cpu_count(), "stopped": stopped, "seeds": results}
    answer["settings"] = {"profile": used.name, "device": used.device.type, "precision": used.precision}
    if options.out is not None and options.seeds > 1:
        _write(options.out / "seeds.json", json.dumps(answer, indent=1))
    said = [*lines * options.quiet, *[_spread(results)] * (len(results) > 1), *[stopped] * bool(stopped)]
    for line in [json.dumps(answer, indent=1)] if options.json else said:
        print(line)
    return 130 if stopped else 0


def _load(options: argparse.Namespace) -> Any:
    """The data set, after a check of everything that can be wrong before it is read."""
    import tlhelpers as tl
    from tlhelpers.models.families import find_arch

    profile = tl.current_profile()
    find_arch(options.arch)
    options.seed = profile.seed if options.seed is None else options.seed
    own = [name for name in ("epochs", "lr", "unfreeze") if getattr(options, name) is not None]
    own += ["weights none"] * (options.weights == "none") + ["no-augment"] * options.no_augment
    if options.minutes is not None and own:
        raise TrainingError(
            f"--minutes is for the default recipe, and --{own[0]} for a training of your own: leave one out"
        )
    if options.resume and not own:
        raise TrainingError("--resume goes on with a training of your own, of --epochs; the recipe starts anew")
    options.recipe = not own
    options.epochs, options.unfreeze = options.epochs or 10, options.unfreeze or 0
    options.lr = 3e-3 if options.lr is None else options.lr
    if options.unfreeze and options.weights == "none":
        raise TrainingError("--unfreeze does not apply with --weights none, where everything trains")
    if options.resume and options.out is None:
        raise TrainingError("--resume needs --out, the folder of the training that is to go on")
    out = options.out = None if options.out is None else user_path(options.out)
    seeds = range(options.seed, options.seed + options.seeds)
    options.places = {seed: out / f"seed{seed}" if out and len(seeds) > 1 else out for seed in seeds}
    options.stale = [] if out is None else _claim(out, options)
    name = profile.data if options.data is None else options.data
    given = {"groups": options.group and options.group.pattern, "on_bad": options.on_bad, "seed": options.split_seed}
    options.given = {option: value for option, value in given.items() if value is not None}
    options.source = source_of(name)
    data = tl.load_data(options.source, **options.given)
    for split in data.splits():
        split.workers = options.workers
    return data


def source_of(name: str) -> str:
    """The name of a data set, or the absolute path of a folder, which is meant where there is one of that name."""
    return str(user_path(name).absolute()) if user_path(name).exists() else name


def _train_once(data: Any, options: argparse.Namespace, seed: int, place: Path | None) -> tuple[Any, str, str]:
    """Train with one seed and write all results; returns the scores, a line that says them, and why it stopped."""
    import tlhelpers as tl
    from tlhelpers.checkpoints import CheckpointFolder

    start, used = time.perf_counter(), tl.current_profile()
    model = tl.load_model(options.arch, classes=data.classes, weights=options.weights, size=options.size, seed=seed)
    if seed == options.seed:
        print(model.card.sentence)
    lr: float | dict[str, float] = options.lr
    if options.weights != "none" and not options.recipe:
        tl.unfreeze(tl.freeze(model), last=options.unfreeze)
        lr = {group["name"]: group["lr"] for group in tl.param_groups(model, options.lr, factor=0.1)}
    for file in options.stale:  # kept until now, since a mistake must lose nothing
        with CheckpointFolder(file.parent, {}):  # refuses a folder that another run is writing to
            file.unlink(missing_ok=True)
    options.stale = []
    names = ("recipe", "epochs", "unfreeze", "lr", "batch_size", "no_augment", "weights", "keep")
    facts: dict[str, Any] = {"data": data.name, "source": options.source, "options": options.given}
    facts |= {"fingerprint": data.fingerprint, "training": {name: getattr(options, name) for name in names}}
    facts |= {"command": options.line, "device": str(used.device), "precision": used.precision}
    if place is not None and not options.resume:  # now, so that a training that is killed has said this
        _write(make_folder(place) / "report.json", json.dumps(facts, indent=1))
    settings = {"batch_size": options.batch_size, "augment": not options.no_augment, "seed": seed}
    if options.recipe:
        size, minutes = options.batch_size, options.minutes or 3.0
        run = tl.train_within(model, data, minutes, batch_size=size, seed=seed, checkpoint=place)
    else:
        settings |= {"epochs": options.epochs, "keep": options.keep}
        run = tl.fit(model, data, lr=lr, checkpoint=place, resume=options.resume, **settings)
    print(*run.notes, sep="\n")
    if not run.kept_epoch:
        print("Training was interrupted before its first epoch ended, so there is nothing to keep.", file=sys.stderr)
        raise KeyboardInterrupt
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
    line = f"seed {seed}: {text}; {result['seconds']:.0f} s"
    if place is not None:
        _write(place / "history.csv", run.history.to_csv())
        facts |= {**result, "notes": run.notes, "stopped": run.stopped}
        _write(place / "report.json", json.dumps(facts, indent=1))
        tl.save(model, place / WEIGHTS_FILE)
        print(f"kept in {place}: {WEIGHTS_FILE}, history.csv, report.json")
    return result, line, run.stopped


def _spread(results: list[dict[str, Any]]) -> str:
    import pandas as pd

    lines = [f"over {len(results)} seeds, mean ± standard deviation (lowest to highest):"]
    for key, row in pd.DataFrame(results).agg(["mean", "std", "min", "max"]).items():
        if "accuracy" in str(key):
            lines.append("  {:24}{:.1%} ± {:.1%} ({:.1%} to {:.1%})".format(key, *row))
    return "\n".join([*lines, "  {:24}{:.0f} ({:.0f} to {:.0f})".format("seconds", *row[["mean", "min", "max"]])])


def _claim(folder: Path, options: argparse.Namespace) -> list[Path]:
    """The files of an earlier training that this one replaces; a folder with other files is refused."""
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file; --out needs a folder")
    old = [file for place in ("", "seed*/") for name in RESULTS + CHECKPOINTS for file in folder.glob(place + name)]
    names = {file.name for file in folder.rglob("*") if file.is_file()} - {"in_use.lock"}
    if names and not {"report.json", *CHECKPOINTS} & {file.name for file in old}:
        raise TrainingError(f"{folder} holds other files; name a new folder with --out, so that nothing is lost")
    make_folder(folder)
    if not options.resume:
        return old
    if others := [f for f in old if f.parent not in options.places.values() and f.name != "seeds.json"]:
        raise TrainingError(f"{others[0]} is of another training, which cannot be resumed like this")
    return [f for f in old if f.name in SHARED]


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def weights_of(run: Path) -> Path:
    """The file with the weights of a run; of an unfinished one, which has no newer, those of its best epoch so far."""
    found = [run / name for name in (WEIGHTS_FILE, CHECKPOINTS[0]) if (run / name).exists()]
    if found or not run.is_dir():
        return max(found, key=lambda file: file.stat().st_mtime) if found else run
    if seeds := sorted(str(place) for place in run.glob("seed*") if place.is_dir()):
        raise WeightsError(f"{run} holds a training with several seeds; name the run of one: {', '.join(seeds)}")
    raise WeightsError(f"{run} holds no network; there is no file {run / WEIGHTS_FILE}, which `train --out` writes")


def _predict(options: argparse.Namespace) -> int:
    import tlhelpers as tl

    model = tl.load(weights_of(user_path(options.run)))
    answers: list[dict[str, Any]] = []
    for image in options.images:
        try:
            rows = tl.predict(model, image, top=options.top)[["class", "probability"]].to_dict("records")
            answers.append({"image": image, "classes": rows})
            if not options.json:
                print(f"{image}: " + ", ".join(f"{row['class']} {row['probability']:.1%}" for row in rows))
        except TLError as error:
            print(f"✗ {error}", file=sys.stderr)
            answers.append({"image": image, "error": str(error)})
    if options.json:
        print(json.dumps(answers, indent=1))
    return int(any("error" in answer for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
