"""For every run of pytest, nbval's kernels included: the same surroundings, wherever it was started from."""

import contextlib
import os
import signal

os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: tlhelpers/__init__.py; read when torch is first imported

# Under `make test`, a make that a test starts would take over options and variables, and announce its level.
for _name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VERSIONS"):
    os.environ.pop(_name, None)

# A shell starts background jobs, and some CI its steps, with Ctrl-C ignored; tests that press it would wait in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
