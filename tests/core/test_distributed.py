"""Two processes under torchrun train as one does: the same weights, the same numbers, one writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
import tlhelpers as tl
from tlhelpers import distributed, files

torch.set_num_threads(1)
tl.use_profile("quick", device="cpu", precision="fp32")
folder = Path(sys.argv[1])
written = []
real = files.atomic_write
from tlhelpers import checkpoints
from tlhelpers.models import saving
def noting(path):
    written.append(Path(path).name)
    return real(path)
checkpoints.atomic_write = saving.atomic_write = noting
data = tl.load_data("safari", size=32, per_class=4)
data.val = data.val.select(range(0, len(data.val), 7))
results = {}
for name, augment, cache in (("kept", False, True), ("crops", True, True), ("all", False, False)):
    model = tl.freeze(tl.load_model("resnet18", classes=data.classes, size=32))
    tl.unfreeze_modules(model.layer4[1].conv2)  # no BatchNorm moves: with two halves of a batch it would differ
    run = tl.fit(model, data, epochs=3, batch_size=10, augment=augment, cache=cache, lr=1e-2, optimizer=torch.optim.SGD,
                 keep="last", checkpoint=folder / name)
    state = model.state_dict().items()
    weights = {key: value.flatten()[:50].tolist() for key, value in state if value.is_floating_point()}
    results[name] = {"weights": weights, "history": run.history.drop(columns="seconds").to_dict("list")}
rank = distributed.rank()
(folder / f"{rank}.json").write_text(json.dumps({"results": results, "written": written, "world": distributed.world()}))
if distributed.world() > 1:
    torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="gloo's rendezvous needs a POSIX system here")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    found = {}
    for name, start in (
        ("one", [sys.executable]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            [*start, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    (one,), (first, second) = found["one"], found["two"]
    assert (one["world"], first["world"], second["world"]) == (1, 2, 2)
    assert first["results"] == second["results"], "the two processes disagree"
    for method, expected in one["results"].items():
        result = first["results"][method]
        for name, values in expected["weights"].items():
            assert result["weights"][name] == pytest.approx(values, abs=2e-5), f"{method}: {name}"
        for column, values in expected["history"].items():
            assert result["history"][column] == pytest.approx(values, abs=2e-4), f"{method}: {column}"
    assert first["written"]
    assert second["written"] == [], "only process 0 writes"
