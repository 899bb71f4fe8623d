"""JupyterLab for tests, started as `make lab` starts it."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse

from toy import ROOT

STARTS = 120  # seconds that JupyterLab may take to start on a busy machine


def listens(address):
    """Whether a server accepts connections."""
    where = urllib.parse.urlsplit(address)
    with contextlib.suppress(OSError), socket.create_connection((where.hostname, where.port)):
        return True


@contextlib.contextmanager
def jupyter_lab(course, folder):
    """The address, with its token, of the first notebook of a course; the log is `lab.log`, all else lies beside."""
    own = {f"JUPYTER_{name.upper()}_DIR": str(folder / name) for name in ("config", "data", "runtime")}
    own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(folder / name) for name in ("settings", "workspaces")}
    own |= {"IPYTHONDIR": str(folder / "ipython"), "TL_PROFILE": "quick", "PYTHONPATH": str(ROOT), "CI": "1"}
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import lab, pathlib; "
    start += "lab.ROOT = pathlib.Path(sys.argv.pop(1)); lab.main()"  # Jupyter takes only one root
    command = [sys.executable, "-c", start, str(ROOT / "tools"), str(course), "--ServerApp.port=0", "--no-browser"]
    log, end = folder / "lab.log", time.monotonic() + STARTS
    with log.open("w", encoding="utf8") as file:
        options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        lab = subprocess.Popen(command, env={**os.environ, **own}, **options)
    try:
        while not (found := re.search(r"JupyterLab is open at (\S+)\s", log.read_text(encoding="utf8"))):
            assert lab.poll() is None, log.read_text(encoding="utf8")
            assert time.monotonic() < end, log.read_text(encoding="utf8")
            time.sleep(0.2)
        while not listens(found[1]):  # the address is told a moment before
            assert time.monotonic() < end, "nothing listens"
            time.sleep(0.2)
        yield found[1]
    finally:
        lab.terminate()
        try:
            lab.wait(60)
        except subprocess.TimeoutExpired:
            lab.kill()
