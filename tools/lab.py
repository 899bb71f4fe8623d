"""Opens JupyterLab at the first notebook: what `make lab` runs. Further options are handed on to Jupyter."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START = "chapter12/00_start_here.ipynb"


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
    """What to tell JupyterLab; its own safeguards (the token, this machine only) stay as they are.

    Args:
        reason: why there is no screen, or None.
        root: whether this runs as root, which Jupyter refuses unless told otherwise.
    """
    options = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{START}"]
    if reason is not None:
        options.append("--no-browser")
    if root:
        options.append("--allow-root")
    return options


def main() -> None:
    """Say what is wrong here, if anything is, and become JupyterLab."""
    # The kernel of this environment comes first, whatever another project has left in the user's home.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: tlhelpers/__init__.py
    print_troubles()
    reason = no_screen(os.environ, sys.platform)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        print("You are root, so JupyterLab is started with --allow-root.")
    if reason is not None:
        print(f"No browser is opened, since {reason}: open the address that JupyterLab prints below.")
    if reason is not None and "ssh" in reason:
        print("First, on your own computer: ssh -L 8888:localhost:8888 HOST (with the port of that address).")
    sys.stdout.flush()
    sys.argv = ["jupyter-lab", *jupyter_options(reason, root=root), *sys.argv[1:]]
    runpy.run_module("jupyterlab", run_name="__main__")


def print_troubles() -> None:
    """Doctor's quick checks; nothing is printed where all is well."""
    from tlhelpers.doctor import Report, doctor

    troubles = doctor(quick=True).troubles
    if troubles:
        print(Report(troubles).text(sys.stdout.encoding))


if __name__ == "__main__":
    main()
