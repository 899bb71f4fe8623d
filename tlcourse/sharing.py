"""The commands `export` and `report` of `python -m tlhelpers`: a trained network for other programs and people."""

import argparse
import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import tlhelpers as tl
from tlcourse.looking_inside.activations import grad_cam
from tlcourse.plots.images import evidence
from tlhelpers.__main__ import weights_of
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.errors import DataError, ModelError
from tlhelpers.evaluation import Evaluation
from tlhelpers.files import atomic_write, user_path
from tlhelpers.plots import Chart

MANY = 30  # classes, above which a confusion matrix cannot be read


def add_commands(commands: Any) -> None:
    """Add both commands to the subparsers of `python -m tlhelpers`."""
    for name, function, what in (
        ("export", _export, "write a run's network as ONNX, int8 and torch.export, with a model card"),
        ("report", _report, "write one HTML page on a run: curves, confusion matrix, worst mistakes and why"),
    ):
        command = commands.add_parser(name, help=what)
        command.set_defaults(command=function)
        command.add_argument("run", help="folder of one run of `train --out`; the results go there, too")
        command.add_argument("--data", help="the run's images, if they have moved since it was trained")


def _open(options: argparse.Namespace) -> tuple[Path, Any, ImageSplit, dict[str, Any]]:
    """The folder of a run, its network, the images to judge it by, and what the templates need to know of the run."""
    weights = weights_of(user_path(options.run))
    model, file = tl.load(weights), weights.with_name("report.json")
    facts = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    if not (source := options.data or facts.get("source")):
        raise DataError(f"{weights.parent} does not say where its images are; name their folder: --data FOLDER")
    data = tl.load_data(source, **facts.get("options", {}))
    now = {f"{split.name}_images": len(split) for split in data.splits()}
    then = [(name.replace("_", " "), facts.get(name, count), count) for name, count in now.items()]
    if changed := [f"{found} {name} instead of {before}" for name, before, found in then if before != found]:
        raise DataError(f"{source} is not what was trained on: it has {', '.join(changed)}. Name another with --data")
    split = data.val if data.test is None else data.test  # of the same division into splits as for training
    return weights.parent, model, split, {"facts": facts, "data": data, "split": split, "card": model.card}


def _export(options: argparse.Namespace) -> int:
    from tlcourse.portable import export_and_compare

    folder, model, split, run = _open(options)
    table = export_and_compare(model, folder, run["data"].train, split)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="–"))
    _write(folder, "model_card.md", **run, rows=table.to_dict("records"))
    return 0


def _report(options: argparse.Namespace) -> int:
    folder, model, split, run = _open(options)
    found, figures = tl.evaluate(model, split), dict[str, Chart]()
    if (file := folder / "history.csv").is_file():
        figures["training"] = tl.plots.history(
            pd.read_csv(file, index_col="epoch"), best_epoch=run["facts"]["kept_epoch"]
        )
    if len(split.classes) <= MANY:
        figures["confusion"] = found.plot_confusion()
    pairs = found.confusion().stack().rename("images").reset_index()
    pairs = pairs[(pairs["true"] != pairs["predicted"]) & (pairs["images"] > 0)].nlargest(10, "images")
    if len(pairs):
        figures["mistakes"] = _mistakes(model, found)
    run |= {"found": found, "figures": figures, "pairs": pairs}
    _write(folder, "report.html", **run, most_frequent=float(split.labels.bincount().max()) / len(split))
    return 0


def _mistakes(model: Any, found: Evaluation) -> Chart:
    """The most certain mistakes, each with the evidence for what was predicted, if the network has feature maps."""
    worst, preprocessing = found.worst(8), model.card.preprocessing
    tensors = [preprocessing.evaluation()(found.split.image(i)) for i in worst["index"]]
    targets = [found.classes.index(name) for name in worst["predicted"]]
    try:
        heats = [grad_cam(model, each[None], target=target) for each, target in zip(tensors, targets, strict=True)]
    except ModelError:  # a transformer has none
        return found.show_worst(8)
    titles = [f"{row.true}, called {row.predicted} ({row.confidence:.0%})\n{row.key}" for row in worst.itertuples()]
    images = [preprocessing.undo(each).permute(1, 2, 0).numpy() for each in tensors]
    return evidence(images, heats, titles, title="The most certain mistakes, and the evidence for what was predicted")


def _write(folder: Path, name: str, **values: Any) -> None:
    """Fill in the template of this name, write it into a folder, and print where it is."""
    source = (Path(__file__).parent / "templates" / name).read_text(encoding="utf8")
    environment = jinja2.Environment(autoescape=name.endswith("html"), trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(source).render(**values)
    with atomic_write(folder / name) as file:
        file.write(text.encode("utf8", "backslashreplace"))
    print(f"written: {folder / name}")
