"""Which profile, device and precision are in force, and why.

Two profiles run the same notebooks: `quick` (a laptop CPU, no network) and `full` (downloaded weights and real
data, best on a GPU). Device and precision are found by trying them out. All three can be set by hand, by
`use_profile` or by the environment variables TL_PROFILE, TL_DEVICE and TL_PRECISION.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from tlhelpers.errors import TLError

PROFILES = ("quick", "full")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_ARCH = "resnet18"  # the one that the chapter names; `load_model` knows which weights a profile has of it
DEFAULT_DATA = {"quick": "safari", "full": "hymenoptera"}
MUST_GAIN = 1.3  # bf16 is chosen on a CPU only if it is this many times faster: timings are noisy, results must not be


@dataclass(frozen=True)
class Profile:
    """The settings in force.

    Attributes:
        name: "quick" or "full".
        device: where models run.
        precision: "fp32", "bf16" or "fp16": the autocast type of forward passes; weights stay in fp32.
        reasons: for each of these, one clause that says why it was chosen.
    """

    name: str
    device: torch.device
    precision: str
    reasons: dict[str, str] = field(repr=False)

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a torch dtype."""
        return PRECISIONS[self.precision]

    @property
    def arch(self) -> str:
        """The architecture that notebooks load where they do not name another; TL_ARCH overrides it."""
        return os.environ.get("TL_ARCH") or DEFAULT_ARCH

    @property
    def data(self) -> str:
        """The data set, by name or folder, that notebooks load where they do not name another; or TL_DATA."""
        return os.environ.get("TL_DATA") or DEFAULT_DATA[self.name]

    @property
    def seed(self) -> int:
        """The seed that notebooks begin from, 0; or TL_SEED.

        Raises:
            TLError: if TL_SEED is not a whole number.
        """
        text = os.environ.get("TL_SEED") or "0"
        if not text.isdigit():
            raise TLError(f"TL_SEED is '{text}'; expected a whole number, 0 or more")
        return int(text)

    def __str__(self) -> str:
        rows = (("profile", self.name), ("device", self.device), ("precision", self.precision))
        return "\n".join(f"{key:10}{value!s:8}{self.reasons[key]}" for key, value in rows)


_current: Profile | None = None


def current_profile() -> Profile:
    """The profile in force; found at the first call, from the environment and by probing."""
    return _current if _current is not None else use_profile()


def use_profile(name: str | None = None, *, device: str | None = None, precision: str | None = None) -> Profile:
    """Set the profile, device and precision for what follows, and return them.

    Args:
        name: "quick" or "full"; None takes TL_PROFILE, or "quick".
        device: "cpu", "cuda", "cuda:1", "mps" ...; None takes TL_DEVICE, or the first that works.
        precision: "fp32", "bf16" or "fp16"; None takes TL_PRECISION, or what probing finds.

    Raises:
        TLError: if a value is not known or the device does not work on this machine.
    """
    global _current
    name, why_name = _chosen(name, "TL_PROFILE", ("quick", "the default; needs no network"))
    if name not in PROFILES:
        raise TLError(f"profile '{name}' ({why_name}) is not known; expected one of {', '.join(PROFILES)}")
    wanted, why_device = _chosen(device, "TL_DEVICE", None)
    if wanted is None:
        found, why_device = _find_device()
    else:
        found = _checked_device(wanted, why_device)
    wanted, why_precision = _chosen(precision, "TL_PRECISION", None)
    if wanted is None:
        wanted, why_precision = find_precision(found)
    elif wanted not in PRECISIONS:
        raise TLError(f"precision '{wanted}' ({why_precision}) is not known; expected one of {', '.join(PRECISIONS)}")
    reasons = {"profile": why_name, "device": why_device, "precision": why_precision}
    _current = Profile(name, found, wanted, reasons)
    return _current


def _chosen(value: str | None, variable: str, default: tuple[str, str] | None) -> tuple[str | None, str]:
    """A setting and where it came from: the argument, else the environment, else the default."""
    if value is not None:
        return value, "asked for by use_profile"
    if os.environ.get(variable):
        return os.environ[variable], f"set by {variable}"
    return default if default is not None else (None, "")


def _find_device() -> tuple[torch.device, str]:
    for kind, there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if there():
            problem = _device_problem(torch.device(kind))
            if problem is None:
                return torch.device(kind), _device_name(kind)
            return torch.device("cpu"), f"{kind} is there but does not work: {problem}"
    return torch.device("cpu"), "no GPU was found"


def _checked_device(wanted: str, why: str) -> torch.device:
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise TLError(f"device '{wanted}' ({why}) is not known to torch; try 'cpu', 'cuda' or 'mps'") from error
    problem = _device_problem(device)
    if problem is not None:
        raise TLError(f"device '{wanted}' ({why}) does not work here: {problem}")
    return device


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else "Apple GPU"


def _device_problem(device: torch.device) -> str | None:
    """Try a small convolution on `device`: drivers that are too old are found by use, not by asking."""
    try:
        images, kernels = torch.ones(1, 3, 8, 8, device=device), torch.ones(4, 3, 3, 3, device=device)
        functional.conv2d(images, kernels).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).strip().splitlines()[0]
    return None


def find_precision(device: torch.device) -> tuple[str, str]:
    """The autocast precision that pays on `device`, and why, as (name, reason)."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes bf16 itself"
        return "fp16", "this GPU has no bf16 of its own; fp16 runs with loss scaling"
    if device.type == "cpu":
        gain = bf16_gain()
        if gain >= MUST_GAIN:
            return "bf16", f"measured {gain:.1f} times as fast as fp32 on this CPU"
        return "fp32", f"bf16 measured {gain:.1f} times as fast on this CPU, which does not pay"
    return "fp32", f"the plain choice on {device.type}"


_gain: float | None = None


def bf16_gain() -> float:
    """How many times faster a convolution trains in bf16 than in fp32 on this CPU; measured once, about 0.3 s.

    Processor time is compared, rounds are interleaved, and the best of each kind is taken: what else runs on the
    machine must not decide, or the same seed would give other numbers on a busy day.
    """
    global _gain
    if _gain is None:
        # Fixed numbers and not random ones: a probe must not draw from the generator that the reader seeded.
        images = torch.linspace(-1, 1, 16 * 64 * 28 * 28).reshape(16, 64, 28, 28)
        kernels = torch.linspace(-1, 1, 64 * 64 * 9).reshape(64, 64, 3, 3).requires_grad_()
        images = images.to(memory_format=torch.channels_last)

        def step(half: bool) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                functional.conv2d(images, kernels, padding=1).sum().backward()

        best = {half: min(_seconds(step, half) for _ in range(2)) for half in (False, True)}
        if best[True] < 2 * best[False]:  # otherwise it is hopeless, and slow to measure
            for _ in range(7):
                for half in best:
                    best[half] = min(best[half], _seconds(step, half))
        _gain = best[False] / best[True]
    return _gain


def _seconds(step: Callable[[bool], None], half: bool) -> float:
    # Windows counts processor time in ticks of 16 ms, longer than a step; there the clock on the wall has to do.
    clock = time.process_time if time.get_clock_info("process_time").resolution < 1e-4 else time.perf_counter
    start = clock()
    step(half)
    return clock() - start
