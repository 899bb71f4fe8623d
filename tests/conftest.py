"""What all tests share: the profile is always quick, on the CPU, in fp32, unless a test says otherwise."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests share helper modules that lie beside them
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("experiments", "tools")]


@pytest.fixture(autouse=True)
def plain_profile(monkeypatch):
    """No test sees the settings of the one before it, or of the reader's environment."""
    from tlhelpers import device

    for name in ("TL_PROFILE", "TL_DEVICE", "TL_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    device.use_profile("quick", device="cpu", precision="fp32")
    yield
    device._current = None


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images that tests marked `real` read."""
    folder = os.environ.get("TL_REAL_DATA")
    if not folder:
        pytest.skip("TL_REAL_DATA does not name a folder with real images")
    return Path(folder)
