"""What torch and the GPU's driver say, asked in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from tlhelpers.diagnosis import probe as probe_script
from tlhelpers.errors import TLError

PATIENCE = 120.0  # seconds for importing torch; a slow disk needs half a minute


@dataclass(frozen=True)
class Probe:
    """What `probe` reported; a value is None where there is none, or where an earlier step failed.

    Attributes:
        torch: its version, once imported and used.
        torch_file: the file that `import torch` finds.
        torch_error: why torch cannot be used.
        cuda_build: the CUDA version that torch was built for; None in a build without CUDA.
        hip_build: the same for ROCm.
        torchvision: its version, once imported and used.
        torchvision_error: why torchvision cannot be used.
        gpu: name of the GPU that torch sees.
        gpu_problem: why it cannot be used, or what torch warns of.
        mps_built: whether this torch can use Apple's GPUs.
        profile: "quick" or "full".
        device: where models would run.
        precision: of forward passes.
        reasons: why, for each of these three.
        profile_error: why the profile cannot be found.
    """

    torch: str | None = None
    torch_file: str | None = None
    torch_error: str | None = None
    cuda_build: str | None = None
    hip_build: str | None = None
    torchvision: str | None = None
    torchvision_error: str | None = None
    gpu: str | None = None
    gpu_problem: str | None = None
    mps_built: bool | None = None
    profile: str | None = None
    device: str | None = None
    precision: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    profile_error: str | None = None


@dataclass(frozen=True)
class Gpu:
    """What the tool `nvidia-smi` and the environment say.

    Attributes:
        name: of the first NVIDIA GPU; None where there is none.
        driver: version of its driver.
        error: what nvidia-smi says where it is there but fails.
        hidden: the value of CUDA_VISIBLE_DEVICES where it hides every GPU.
    """

    name: str | None = None
    driver: str | None = None
    error: str | None = None
    hidden: str | None = None


def run_probe(folder: Path, patience: float = PATIENCE) -> Probe:
    """Run the probe in this interpreter's twin.

    Args:
        folder: where the package `tlhelpers` lies.
        patience: seconds after which the attempt is given up.
    """
    source = Path(probe_script.__file__).read_text(encoding="utf-8")
    environment = {**os.environ, "TORCHVISION_WARN_WHEN_EXTENSION_LOADING_FAILS": "1"}
    command = [sys.executable, "-c", source, str(folder)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired as error:
        return read_probe(_text(error.stdout), f"no answer within {patience:.0f} s")
    except OSError as error:
        return Probe(torch_error=f"{sys.executable} could not be started: {error}")
    crash = None if done.returncode == 0 else describe_crash(done.returncode, _text(done.stderr))
    return _as_in_this_process(read_probe(_text(done.stdout), crash))


def read_probe(output: str, crash: str | None) -> Probe:
    """Collect the probe's lines; `crash` is laid at the first step that said nothing."""
    known = {each.name for each in fields(Probe)}
    found: dict[str, object] = {}
    for line in output.splitlines():
        if line.startswith(probe_script.MARK):
            found.update(json.loads(line[len(probe_script.MARK) :]))
    if crash is not None:
        steps = {"torch": "torch_error", "torchvision": "torchvision_error"}
        steps |= {"mps_built": "gpu_problem", "profile": "profile_error"}
        silent = [error for step, error in steps.items() if step not in found and error not in found]
        found.update({error: crash for error in silent[:1]})
    return Probe(**{key: value for key, value in found.items() if key in known})  # type: ignore[arg-type]


def describe_crash(returncode: int, stderr: str) -> str:
    """How a process ended that did not end well, and its last words."""
    try:
        how = f"stopped by {signal.Signals(-returncode).name}"
    except ValueError:
        how = f"ended with exit code {returncode & 0xFFFFFFFF:#x}" if returncode < 0 or returncode > 255 else ""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return ": ".join(filter(None, [how or f"ended with exit code {returncode}", lines[-1][:300] if lines else ""]))


def _as_in_this_process(probe: Probe) -> Probe:
    """Where this process has a profile already (a notebook may have set it), that one is in force."""
    module = sys.modules.get("tlhelpers.device")
    if module is None:
        return probe
    try:
        now = module.current()
    except TLError:  # a wrong setting in the environment: the probe has met it too
        return probe
    return replace(probe, profile=now.name, device=str(now.device), precision=now.precision, reasons=dict(now.reasons))


def gather_gpu() -> Gpu:
    """Ask the NVIDIA driver, where there is one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible if visible is not None and visible.strip() in ("", "-1") else None
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Gpu(hidden=hidden)
    command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpu(error=str(error), hidden=hidden)
    lines = (_text(done.stdout) + _text(done.stderr)).strip().splitlines()
    if done.returncode != 0 or not lines or "," not in lines[0]:
        return Gpu(error=lines[0] if lines else f"exit code {done.returncode}", hidden=hidden)
    name, driver = lines[0].rsplit(",", 1)
    return Gpu(name=name.strip(), driver=driver.strip(), hidden=hidden)


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", errors="replace")
