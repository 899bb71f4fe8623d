"""The commands `export` and `report` of `python -m tlhelpers`: a trained network for other programs and people."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import jinja2

import tlhelpers as tl
from tlhelpers.__main__ import WEIGHTS_FILE, source_of, weights_of
from tlhelpers.errors import DataError, ModelError
from tlhelpers.files import atomic_write, make_folder, user_path

# What needs PyTorch is imported in functions: `tlhelpers doctor` loads this module, too, and starts where it is broken.
MANY = 30  # classes, above which a confusion matrix cannot be read


def add_commands(commands: Any) -> None:
    """Add both commands to the subparsers of `python -m tlhelpers`."""
    for name, function, what in (
        ("export", _export, "write a run's network as ONNX, int8 and torch.export, with a model card"),
        ("report", _report, "write one HTML page on a run: curves, confusion matrix, the most certain mistakes"),
    ):
        command = commands.add_parser(name, help=what)
        command.set_defaults(command=function)
        command.add_argument("run", help="folder of one run of `train --out`; the results go there, too")
        command.add_argument("--data", help="the run's images, if they have moved since it was trained")


def _open(options: argparse.Namespace) -> tuple[Path, Any, Any, dict[str, Any]]:
    """The folder of a run, its network, the images to judge it by, and what the templates need to know of the run."""
    weights = weights_of(user_path(options.run))
    file = weights.with_name("report.json")
    try:
        facts = json.loads(file.read_text(encoding="utf8"))
        source, given, trained = (
            source_of(options.data or facts["source"]),
            dict(facts["options"]),
            facts["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{file} does not tell which images the network was trained on ({error!r}), so none can judge it"
        raise DataError(f"{text}: train it again. `tlhelpers predict` works without") from error
    if "kept_epoch" in facts and (whole := file.with_name(WEIGHTS_FILE)).exists():
        weights = whole  # of a training that was resumed and killed there are others, of which the report says nothing
    data = tl.load_data(source, **given)
    if data.fingerprint != trained:
        text = "images came, went or have other names, so that the network may have learned from those to judge it by"
        advice = "put them back, or name another folder with --data"
        raise DataError(f"{source} is no longer divided as for the training: {text}; {advice}")
    split, own = data.val if data.test is None else data.test, Path(source).is_absolute()
    run = {"facts": facts, "data": data, "split": split, "card": (model := tl.load(weights)).card, "own": own}
    return make_folder(weights.parent), model, split, run


def _export(options: argparse.Namespace) -> int:
    from tlcourse.portable import export_and_compare

    folder, model, split, run = _open(options)
    table = export_and_compare(model, folder, run["data"].train, split)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="–"))
    _write(folder, "model_card.md", **run, rows=table.to_dict("records"))
    return 0


def _report(options: argparse.Namespace) -> int:
    import pandas as pd

    folder, model, split, run = _open(options)
    found, figures = tl.evaluate(model, split), dict[str, Any]()
    if (file := folder / "history.csv").is_file():
        kept = run["facts"].get("kept_epoch", 0)
        try:
            figures["training"] = tl.plots.history(pd.read_csv(file, index_col="epoch"), best_epoch=kept)
        except (ValueError, KeyError) as error:
            raise DataError(f"{file} is damaged ({error}); without it, the report lacks the curves") from error
    if len(split.classes) <= MANY:
        figures["confusion"] = found.plot_confusion()
    pairs = found.confusion().stack().rename("images").reset_index()
    pairs = pairs[(pairs["true"] != pairs["predicted"]) & (pairs["images"] > 0)].nlargest(10, "images")
    run |= {"found": found, "figures": figures, "pairs": pairs}
    if len(pairs):
        figures["mistakes"], run["heat_maps"] = _mistakes(model, found)
    _write(folder, "report.html", **run, most_frequent=float(split.labels.bincount().max()) / len(split))
    return 0


def _mistakes(model: Any, found: Any) -> tuple[Any, bool]:
    """The most certain mistakes, each with a heat map if the network has feature maps, and whether it has."""
    import tlcourse as tc

    worst, preprocessing = found.worst(8), model.card.preprocessing
    tensors = [preprocessing.evaluation()(found.split.image(i)) for i in worst["index"]]
    targets = [found.classes.index(name) for name in worst["predicted"]]
    try:
        heats = [tc.grad_cam(model, each[None], target=target) for each, target in zip(tensors, targets, strict=True)]
    except ModelError:  # a transformer has none
        return found.show_worst(8), False
    titles = [f"{row.true}, predicted {row.predicted} ({row.confidence:.0%})\n{row.key}" for row in worst.itertuples()]
    images = [preprocessing.undo(each).permute(1, 2, 0).numpy() for each in tensors]
    title = "The most certain mistakes, each with a heat map"
    return tc.plots.evidence(images, heats, titles, title=title), True


def _write(folder: Path, name: str, **values: Any) -> None:
    """Fill in the template of this name, write it into a folder, and print where it is."""
    source = (Path(__file__).parent / "templates" / name).read_text(encoding="utf8")
    environment = jinja2.Environment(autoescape=name.endswith("html"), trim_blocks=True, lstrip_blocks=True)
    environment.filters["md"] = lambda text: re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))
    text = environment.from_string(source).render(**values)
    with atomic_write(folder / name) as file:
        file.write(text.encode("utf8", "backslashreplace"))
    print(f"written: {folder / name}")
