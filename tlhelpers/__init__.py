"""Helpers for the chapter "Transfer Learning and Fine-Tuning in PyTorch".

The names are listed in `__init__.pyi`; each is imported when it is first used, so `import tlhelpers` is quick
and `python -m tlhelpers doctor` works where torch itself is broken.
"""

import os
import sys

# On Linux the threads of one torch operation wait for each other in a busy loop. If another program uses one of the
# cores, that wastes whole time slices: a network ran 15 times slower on 2 cores. "passive" makes them sleep instead.
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
