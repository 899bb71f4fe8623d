"""Install the project into .venv: `make lab` and `make test` run this first.

Where there is no make: `python tools/install.py`. From Python 3.6 on, one that is too old is told so.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 14)  # as in pyproject.toml
ROOT = Path(__file__).resolve().parents[1]
ENV = ROOT / ".venv"
STAMP = ENV / ".installed"  # written last: an interrupted installation leaves none, and is taken up again
PYTHON = ENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PROJECT = ["-e", ".[dev]"]
# Which versions of other packages: make test VERSIONS=oldest. Only uv can find the oldest.
VERSIONS = {
    "tested": ["-c", "constraints.txt"],
    "oldest": ["--resolution", "lowest-direct"],
    "newest": ["--upgrade", "--prerelease", "allow"],
}
CHOSEN = os.environ.get("VERSIONS", "tested")

NO_VENV = """The environment .venv could not be made with {python}.
On Debian and Ubuntu the module for it is a package of its own:
    sudo apt install python3-venv
Then type the same command again."""
NO_INSTALL = """The installation stopped; what pip said is above. Nothing is lost: type the same command again to go on.
It fetches up to 3 GB and needs 8 GB of disk, and the package registry must be within reach."""
DONE = """Installed. For `python` and `tlhelpers` in a terminal, activate the environment there:
    {command}"""


def main():
    """Make the environment if need be, install into it, and leave the stamp. Returns the exit code."""
    problem = unfit(sys.version_info, sys.platform, platform.machine())
    if problem:
        print(problem, file=sys.stderr)
        return 1
    if STAMP.exists():
        STAMP.unlink()
    if not make_environment():
        print(NO_VENV.format(python=sys.executable), file=sys.stderr)
        return 1
    if not install():
        print(NO_INSTALL, file=sys.stderr)
        return 1
    STAMP.touch()
    print(DONE.format(command=activation(os.name)))
    return 0


def unfit(version, system, machine):
    """Why this Python cannot run the project; None if it can."""
    if not OLDEST <= version[:2] <= NEWEST:
        return (
            f"Python {dotted(OLDEST)} to {dotted(NEWEST)} is needed; {sys.executable} is Python {dotted(version)}.\n"
            "Install one from that range, then name it: make lab PYTHON=python3.12"
        )
    if (system, machine) == ("darwin", "x86_64"):
        return "PyTorch has no builds for Intel Macs. On an Apple processor, install an arm64 Python and use that."
    if CHOSEN not in VERSIONS:
        return f"VERSIONS is '{CHOSEN}'; expected {', '.join(VERSIONS)}."
    return None


def activation(name):
    """The command that activates the environment, on Windows (`os.name` is "nt") or elsewhere."""
    return ".venv\\Scripts\\activate" if name == "nt" else "source .venv/bin/activate"


def dotted(version):
    """(3, 10, 4) as "3.10"."""
    return f"{version[0]}.{version[1]}"


def make_environment():
    """Make .venv, or keep it if it works and has this Python's version. Returns True if it is there."""
    if version_of(PYTHON) == dotted(sys.version_info):
        return True
    if ENV.exists():
        print("The environment .venv is incomplete or of another Python: making it anew.", flush=True)
        shutil.rmtree(str(ENV))
    return run([sys.executable, "-m", "venv", str(ENV)])


def version_of(python):
    """The version of an environment's Python, "3.12" say; "" where it does not run or has no pip."""
    command = [str(python), "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def install():
    """Install with uv, which is quick, or else with pip; compile, so that first imports are quick. Returns success."""
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    uv = [str(PYTHON), "-m", "uv", "pip", "install", "--python", str(PYTHON), "--compile-bytecode"]
    print("Installing into .venv: up to 3 GB to fetch and 7 GB on the disk.", flush=True)
    if run([*pip, "--quiet", *VERSIONS["tested"], "uv"]) and run(uv + VERSIONS[CHOSEN] + PROJECT):
        return True
    if CHOSEN != "tested":
        return False
    print("uv could not be had or failed: installing with pip, which takes a few minutes longer.", flush=True)
    return run(pip + VERSIONS[CHOSEN] + PROJECT)


def run(command):
    """Run a command in the project's folder; returns True if it succeeded."""
    return subprocess.call(command, cwd=str(ROOT)) == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Type the same command again to go on.")
