"""Helpers for the chapter "Transfer Learning and Fine-Tuning in PyTorch".

The names are in `__init__.pyi`; each is imported when it is first used, so `doctor` works where torch is broken.
"""

import os
import sys

# On Linux torch's threads wait for each other in a busy loop, which wastes whole time slices if another program runs,
# too: a network was 15 times slower on 2 cores. "passive" makes them sleep.
if "torch" not in sys.modules:  # torch reads the variable once, when it is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    import lazy_loader
except ImportError:  # a Python without this package's requirements: `doctor` still has to say so
    from tlhelpers.diagnosis import doctor as doctor

    def _load(name):
        raise AttributeError(f"tlhelpers.{name} needs packages that are missing here; tlhelpers.doctor() says which")
else:
    _load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    if name != "__version__":
        return _load(name)
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:  # a checkout on the path
        return "unknown"
