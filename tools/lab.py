"""Open the learner's copies of the notebooks in JupyterLab: what `make lab` runs. Options are handed on to Jupyter."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from workbook import Workbook

ROOT = Path(__file__).resolve().parents[1]
START = "chapter12/00_start_here.ipynb"
QUIET = (
    "--ServerApp.jpserver_extensions={'jupyterlab_jupytext': False}",  # authors' tool: it would pair every notebook
    "--ServerApp.log_level=ERROR",  # what a learner has to read stands alone in the terminal
    "--LabApp.log_level=ERROR",
)
GREETING = """
JupyterLab is open at {address}
To stop it: File > Shut Down, or Ctrl-C twice here. A notebook holds 1-2 GB of memory until its kernel is shut down,
in the tab "Running" at the left. For commands such as `tlhelpers doctor`, type first, in a new terminal: {activate}
"""


def no_screen(environment: Mapping[str, str], platform: str) -> str | None:
    """Why no browser can be opened here, as a clause; None where one can.

    Args:
        environment: the environment variables.
        platform: as `sys.platform`.
    """
    if any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return "you are logged in over ssh"
    if environment.get("CI"):
        return "the variable CI is set"
    graphical = platform in ("win32", "darwin") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    return None if graphical else "neither DISPLAY nor WAYLAND_DISPLAY is set"


def jupyter_options(reason: str | None, *, root: bool) -> list[str]:
    """Options for JupyterLab; its own safeguards (the token, this machine only) stay as they are.

    Args:
        reason: why there is no screen, or None.
        root: whether this runs as root, which Jupyter refuses unless told otherwise.
    """
    options = [f"--ServerApp.root_dir={ROOT / 'workbook'}", f"--LabApp.default_url=/lab/tree/{START}", *QUIET]
    if reason is not None:
        options.append("--no-browser")
    if root:
        options.append("--allow-root")
    return options


def activation(prefix: str, environment: Mapping[str, str], platform: str) -> str:
    """The command that activates this environment in a terminal.

    Args:
        prefix: as `sys.prefix`.
        environment: the environment variables.
        platform: as `sys.platform`.
    """
    if environment.get("CONDA_PREFIX") == prefix:
        return f"conda activate {environment.get('CONDA_DEFAULT_ENV', prefix)}"
    place = Path(prefix)
    place = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
    return f"{place}\\Scripts\\activate" if platform == "win32" else f"source {shlex.quote(f'{place}/bin/activate')}"


def main() -> None:
    """Say what is wrong here, if anything is, bring the copies up to date, and run JupyterLab until it is stopped."""
    # The kernel of this environment comes first, whatever another project has left in the user's home.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: tlhelpers/__init__.py
    # The folder labconfig beside this file: no pop-up that asks about news, and no look for updates.
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(paths)
    print_troubles()
    for sentence in Workbook(ROOT).refresh():
        print(sentence)
    reason = no_screen(os.environ, sys.platform)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        print("You are root, so JupyterLab is started with --allow-root.")
    if reason is not None:
        print(f"No browser is opened, since {reason}: open the address that is printed below.")
    if reason is not None and "ssh" in reason:
        print("First, on your own computer: ssh -L 8888:localhost:8888 HOST (with the port of that address).")
    run_jupyter([*jupyter_options(reason, root=root), *sys.argv[1:]])


def run_jupyter(options: list[str]) -> None:
    """Start JupyterLab, print its address and how to stop it, and serve until it is stopped."""
    from jupyterlab.labapp import LabApp

    server = LabApp.initialize_server(argv=options)
    activate = activation(sys.prefix, os.environ, sys.platform)
    print(GREETING.format(address=server.public_url, activate=activate), flush=True)
    server.identity_provider.token_generated = False  # the address is on the screen; Jupyter need not print it again
    server.start()


def print_troubles() -> None:
    """Print the troubles that doctor's quick checks find; nothing where all is well."""
    import tlhelpers as tl

    report = tl.doctor(quick=True)
    if not report.ok:
        print(type(report)(report.troubles))


if __name__ == "__main__":
    main()
