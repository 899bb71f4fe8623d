"""For every run of pytest, nbval's kernels included: no progress bars, and threads that do not spin while they wait."""

import os

os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: tlhelpers/__init__.py; read when torch is first imported
