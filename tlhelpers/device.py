"""Which profile (`quick`: no network; `full`: downloads), device and precision are in force, and why."""

import functools
import os
import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from tlhelpers.errors import TLError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_DATA = {"quick": "safari", "full": "hymenoptera"}
DEFAULT_ARCH = {"quick": "efficientnet_lite0", "full": "resnet18"}  # the strongest that pip brings, and the book's
MIN_GAIN = 1.3  # a CPU computes in bf16 only if that is this many times as fast: noise must not change the choice


@dataclass(frozen=True)
class Profile:
    """The settings in force."""

    name: str  # "quick" or "full"
    device: torch.device  # where models run
    precision: str  # "fp32", "bf16" or "fp16": the autocast type of forward passes; weights stay in fp32
    reasons: dict[str, str] = field(repr=False)  # why "profile", "device" and "precision" were chosen

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a torch dtype."""
        return PRECISIONS[self.precision]

    @property
    def arch(self) -> str:
        """The architecture that notebooks load where they name none: TL_ARCH, or the profile's own."""
        return os.environ.get("TL_ARCH") or DEFAULT_ARCH[self.name]

    @property
    def data(self) -> str:
        """The data set that notebooks load where they name none: TL_DATA, a name or folder, or the profile's own."""
        return os.environ.get("TL_DATA") or DEFAULT_DATA[self.name]

    @property
    def seed(self) -> int:
        """The seed that notebooks begin with: TL_SEED, which must be a whole number, or 0."""
        text = os.environ.get("TL_SEED") or "0"
        if not text.isdecimal():
            raise TLError(f"TL_SEED is '{text}'; expected a whole number, 0 or more")
        return int(text)

    def __str__(self) -> str:
        rows = (("profile", self.name), ("device", self.device), ("precision", self.precision))
        return "\n".join(f"{key:10}{value!s:8}{self.reasons[key]}" for key, value in rows)


_current: Profile | None = None


def current_profile() -> Profile:
    """The profile in force; the first call finds it, as `use_profile()` does."""
    return _current if _current is not None else use_profile()


def use_profile(name: str | None = None, *, device: str | None = None, precision: str | None = None) -> Profile:
    """Set the profile, device and precision for what follows, and return them.

    `name` is "quick" or "full"; None takes TL_PROFILE, or "quick". `device` is "cpu", "cuda", "cuda:1", "mps"...; None
    takes TL_DEVICE, or the first that works. `precision` is "fp32", "bf16" or "fp16"; None takes TL_PRECISION, or the
    fastest on the device. A TLError says that a value is not known, or that the device does not work on this machine.
    """
    global _current
    name, why_name = _setting("profile", name, DEFAULT_DATA)
    device, why_device = _setting("device", device)
    precision, why_precision = _setting("precision", precision, PRECISIONS)
    if name is None:
        name, why_name = "quick", "the default; needs no network"
    if device is None:
        device, why_device = find_device()
    elif problem := _problem(device):
        raise TLError(f"device '{device}' ({why_device}) does not work here: {problem}")
    if precision is None:
        precision, why_precision = find_precision(torch.device(device))
    reasons = {"profile": why_name, "device": why_device, "precision": why_precision}
    _current = Profile(name, torch.device(device), precision, reasons)
    return _current


def _setting(kind: str, value: str | None, known: Collection[str] = ()) -> tuple[str | None, str]:
    """A setting and its source: the argument, or the environment variable."""
    source = "asked for by use_profile" if value else f"set by TL_{kind.upper()}"
    value = value or os.environ.get(f"TL_{kind.upper()}")
    if value and known and value not in known:
        raise TLError(f"{kind} '{value}' ({source}) is not known; expected one of {', '.join(known)}")
    return value or None, source


def find_device() -> tuple[str, str]:
    """The first device that works, and its name or why no GPU is used."""
    with warnings.catch_warnings(record=True) as caught:  # how torch says that a driver is too old
        warnings.simplefilter("always")
        for kind, is_available in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
            if is_available():
                if problem := _problem(kind):
                    return "cpu", f"{kind} is there but does not work: {problem}"
                return kind, torch.cuda.get_device_name() if kind == "cuda" else "Apple GPU"
    return "cpu", ": ".join(["no GPU was found", *(str(each.message) for each in caught[:1])])


def _problem(device: str) -> str:
    """Why a small convolution fails on `device`, or "": a driver that is too old shows in use."""
    try:
        images, kernels = torch.ones(1, 3, 8, 8, device=device), torch.ones(4, 3, 3, 3, device=device)
        functional.conv2d(images, kernels).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).strip().partition("\n")[0]
    return ""


def find_precision(device: torch.device) -> tuple[str, str]:
    """The autocast precision that is fastest on `device`, and why."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes bf16 itself"
        return "fp16", "this GPU has no bf16 of its own; fp16 runs with loss scaling"
    if device.type != "cpu":
        return "fp32", f"the plain choice on {device.type}"
    if (gain := bf16_gain()) >= MIN_GAIN:
        return "bf16", f"measured {gain:.1f} times as fast as fp32 on this CPU"
    return "fp32", f"bf16 measured {gain:.1f} times as fast on this CPU, which does not pay"


@functools.cache
def bf16_gain() -> float:
    """Speed of training a convolution in bf16, as a multiple of that in fp32, on this CPU; measured once, in 0.3 s."""
    # Processor time, and the best of interleaved rounds: a busy machine must not change what a seed gives.
    images = torch.linspace(-1, 1, 16 * 64 * 28 * 28).reshape(16, 64, 28, 28).to(memory_format=torch.channels_last)
    kernels = torch.linspace(-1, 1, 64 * 64 * 9).reshape(64, 64, 3, 3).requires_grad_()
    # Windows counts processor time in ticks of 16 ms, longer than a step; there wall-clock time is used.
    clock = time.process_time if time.get_clock_info("process_time").resolution < 1e-4 else time.perf_counter
    best = {False: float("inf"), True: float("inf")}  # seconds
    for number in range(9):
        for bf16 in best:
            start = clock()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                functional.conv2d(images, kernels, padding=1).sum().backward()
            best[bf16] = min(best[bf16], clock() - start)
        if number == 1 and best[True] > 2 * best[False]:
            break  # clearly slower: more rounds would only take time
    return best[False] / best[True]
