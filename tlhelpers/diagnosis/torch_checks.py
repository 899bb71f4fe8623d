"""The checks of `doctor` on torch, torchvision, the GPU and the profile."""

from __future__ import annotations

from pathlib import PurePath

from tlhelpers.diagnosis.checks import Finding, Level, install_command, is_missing, requirement
from tlhelpers.diagnosis.facts import Facts, Package

MISMATCH = (  # how the two say that they were not built for each other
    "operator torchvision::",
    "custom C++ ops",
    "different CUDA major versions",
    "undefined symbol",
    "Symbol not found",
    "specified procedure could not be found",
)
SYSTEM_LIBRARY = ("cannot open shared object file", "DLL load failed", "Error loading", "Library not loaded")
NEWEST_DRIVERS = "the driver of your GPU (nvidia.com; on Linux, your distribution's package)"


def reinstall_pair(facts: Facts) -> str:
    """How to get a torch and a torchvision that belong together."""
    pinned = ["-c constraints.txt"] if facts.interpreter.checkout else []
    return (
        "Reinstall both together, from one place:\n"
        + install_command(facts, "--force-reinstall", *pinned, "torch torchvision")
        + "\nA smaller pair, for the CPU only: the same command with --index-url and the address of PyTorch's CPU "
        "index (pytorch.org > Get started > CPU). Name both packages in one command, never one alone."
    )


def check_torch(facts: Facts) -> Finding:
    """PyTorch is there, new enough, and can be used."""
    package = requirement(facts, "torch")
    if package is not None and package.installed is None:
        return _missing_torch(facts)
    if package is not None and package.satisfied is False:
        found = f"{package.installed} is installed; this package needs {package.wanted}"
        return Finding("trouble", "torch", found, reinstall_pair(facts))
    probe = facts.probe
    if probe is None:
        return _not_tried("torch", package)
    if probe.torch_error is None:
        return Finding("ok", "torch", f"{probe.torch}, {_build(facts)}")
    error = probe.torch_error
    if probe.torch_file is None:
        return _missing_torch(facts)
    if PurePath(probe.torch_file).parent.name != "torch":
        found = f"'import torch' finds {probe.torch_file}, which is not PyTorch: {error}"
        return Finding(
            "trouble", "torch", found, f"Rename that file; so would any other beside it be found: {probe.torch_file}"
        )
    return Finding("trouble", "torch", f"cannot be used: {error}", _remedy(facts, error))


def _not_tried(name: str, package: Package | None) -> Finding:
    """The quick check's word on torch or torchvision."""
    if package is None:
        return Finding("note", name, "not looked at, since tlhelpers is not installed")
    return Finding("ok", name, f"{package.installed}, not tried out")


def _missing_torch(facts: Facts) -> Finding:
    python = facts.interpreter
    if python.system == "Darwin" and python.machine == "x86_64":
        advice = (
            "PyTorch has no builds for Intel Macs, nor for an Intel Python on an Apple processor. On the latter, "
            "install an arm64 Python, then make clean and make lab; on the former, use another computer."
        )
        return Finding("trouble", "torch", "not installed, and this is an Intel Python on a Mac", advice)
    pinned = ["-c constraints.txt"] if python.checkout else []
    advice = "Install it together with torchvision:\n" + install_command(facts, *pinned, "torch torchvision")
    return Finding("trouble", "torch", "not installed", advice)


def _build(facts: Facts) -> str:
    probe = facts.probe
    assert probe is not None
    if probe.cuda_build:
        return f"built for CUDA {probe.cuda_build}"
    return f"built for ROCm {probe.hip_build}" if probe.hip_build else "built without CUDA"


def _remedy(facts: Facts, error: str) -> str:
    """What to do about an error of importing torch."""
    if "SIGILL" in error or "0xc000001d" in error:
        return "This processor lacks instructions that PyTorch's builds use (AVX2, say): use another computer."
    if "no answer within" in error:
        return "Try again: the first import is slow on a cold disk. If it happens again, restart the machine."
    if facts.interpreter.system == "Windows" and any(sign in error for sign in SYSTEM_LIBRARY):
        return (
            "First install Microsoft's Visual C++ Redistributable (x64) and restart. If that does not help:\n"
            + reinstall_pair(facts)
        )
    return reinstall_pair(facts)


def check_torchvision(facts: Facts) -> Finding:
    """The installed torchvision is new enough, fits torch, and its compiled operators work."""
    package, wants, probe = requirement(facts, "torchvision"), facts.torchvision_wants, facts.probe
    if package is not None and package.installed is None:
        advice = "Install it together with torch, as above." if is_missing(facts, "torch") else reinstall_pair(facts)
        return Finding("trouble", "torchvision", "not installed", advice)
    if package is not None and package.satisfied is False:
        found = f"{package.installed} is installed; this package needs {package.wanted}"
        return Finding("trouble", "torchvision", found, reinstall_pair(facts))
    if wants is not None and wants.installed is not None and wants.satisfied is False:
        found = f"it needs torch{wants.wanted}, and torch {wants.installed} is installed"
        return Finding("trouble", "torchvision", found, reinstall_pair(facts))
    if probe is None:
        return _not_tried("torchvision", package)
    if probe.torch_error is not None:
        return Finding("note", "torchvision", "not tried, since torch cannot be used")
    error = probe.torchvision_error
    if error is None:
        return Finding("ok", "torchvision", f"{probe.torchvision}, fits this torch")
    if any(sign in error for sign in MISMATCH):
        found = (
            f"it was not built for this torch ({probe.torch}, {_build(facts)}): one of the two is a CPU build and the "
            f"other a CUDA build, or their versions do not match. It says: {error}"
        )
        return Finding("trouble", "torchvision", found, reinstall_pair(facts))
    return Finding("trouble", "torchvision", f"cannot be used: {error}", reinstall_pair(facts))


def check_gpu(facts: Facts) -> Finding:
    """A GPU that is there is used. None is needed in the quick profile, so there its troubles are notes."""
    probe, gpu = facts.probe, facts.gpu
    if probe is None or gpu is None or probe.torch_error is not None:
        return Finding("note", "GPU", "not tried, since torch cannot be used")
    level: Level = "trouble" if probe.profile == "full" else "note"
    if probe.gpu and probe.gpu_problem is None:
        return Finding("ok", "GPU", probe.gpu)
    if probe.gpu:
        advice = f"Update {NEWEST_DRIVERS}; until then TL_DEVICE=cpu runs everything on the processor."
        return Finding(level, "GPU", f"{probe.gpu}: {probe.gpu_problem}", advice)
    if gpu.hidden is not None:
        return Finding(level, "GPU", f"hidden by CUDA_VISIBLE_DEVICES={gpu.hidden!r}", "Unset it to use the GPU.")
    if gpu.name:
        return _unused_gpu(facts, level)
    if gpu.error:
        found = f"nvidia-smi is there but fails: {gpu.error}"
        return Finding(level, "GPU", found, f"Without a GPU, ignore this. Otherwise reinstall {NEWEST_DRIVERS}.")
    return _no_gpu(facts)


def _unused_gpu(facts: Facts, level: Level) -> Finding:
    """There is an NVIDIA GPU and torch does not see it: the wrong build, or the wrong driver."""
    assert facts.probe is not None
    assert facts.gpu is not None
    there = f"{facts.gpu.name} with driver {facts.gpu.driver} is there"
    if facts.probe.cuda_build is None:
        advice = (
            "To use it, install torch and torchvision together from PyTorch's CUDA index: pytorch.org > Get started "
            "gives the --index-url for your driver. On Windows pip's own builds are for the CPU."
        )
        return Finding(level, "GPU", f"{there}, but this torch is built for the CPU only", advice)
    found = f"{there}, but torch, built for CUDA {facts.probe.cuda_build}, cannot use it"
    if facts.probe.gpu_problem:
        found += f": {facts.probe.gpu_problem}"
    advice = (
        f"The driver is most likely too old for CUDA {facts.probe.cuda_build}: update {NEWEST_DRIVERS}, or install "
        "torch and torchvision together for an older CUDA (pytorch.org > Get started)."
    )
    return Finding(level, "GPU", found, advice)


def _no_gpu(facts: Facts) -> Finding:
    assert facts.probe is not None
    if facts.interpreter.system == "Darwin" and facts.interpreter.machine == "arm64":
        return Finding(
            "note", "GPU", "Apple's GPU cannot be used by this torch", "Update macOS: PyTorch needs 14 or later."
        )
    if facts.probe.profile == "full":
        advice = "The full profile is meant for a GPU: on a CPU expect hours where the notebooks say minutes."
        return Finding("note", "GPU", "none", advice)
    return Finding("ok", "GPU", "none, and the quick profile needs none")


def check_profile(facts: Facts) -> Finding:
    """The profile, device and precision in force, and why."""
    probe = facts.probe
    if probe is None or probe.torch_error is not None:
        return Finding("note", "profile", "unknown, since torch cannot be used")
    if probe.profile_error is not None:
        advice = "If TL_PROFILE, TL_DEVICE or TL_PRECISION are set in the environment, correct or unset them."
        return Finding("trouble", "profile", probe.profile_error, advice)
    values = {"profile": probe.profile, "device": probe.device, "precision": probe.precision}
    parts = [f"{value} ({probe.reasons.get(key, 'no reason given')})" for key, value in values.items()]
    return Finding("ok", "profile", ", ".join(parts))
