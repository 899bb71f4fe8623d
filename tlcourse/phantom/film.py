"""From a chest to an image: attenuation along the ray, scattered light, counted photons, the screen.

The law of Beer and Lambert: of the photons that enter, the share exp(-sum of mu * centimetres) leaves at the far side.
The attenuation coefficients are those of 60 keV (NIST, X-Ray Mass Attenuation Coefficients, NISTIR 5632, tables for
ICRU-44 soft tissue and cortical bone): mass coefficients 0.205 and 0.315 cm2/g, at densities 1.06 and 1.92 g/cm3. Lungs
are taken for soft tissue of density 0.26 g/cm3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MU_SOFT = 0.217  # 1/cm
MU_LUNG = 0.053
MU_BONE = 0.605
LEAD = 4.0  # attenuation of the lead letter, a pure number
SCATTER = 0.22  # chosen so that about as many photons come scattered as straight, as with a grid
TOKEN = "B"  # what the second hospital lays on the film


class Exposure(NamedTuple):
    """How an image is taken and shown.

    Attributes:
        photons: that would reach a pixel of the usual size (1/128 of the side) without a patient.
        brightness: added to the shown image, in units of its range.
        contrast: by which differences are multiplied.
        seed: of the noise.
    """

    photons: float
    brightness: float
    contrast: float
    seed: int


def attenuation(
    body: np.ndarray, lung: np.ndarray, air: np.ndarray, bone: np.ndarray, fluid: np.ndarray | float = 0.0
) -> np.ndarray:
    """The sum of mu times centimetres along each ray, a pure number, from maps in cm.

    Args:
        body: depth of the whole body.
        lung: of it, filled by lung.
        air: of it, filled by air.
        bone: of it, filled by bone.
        fluid: of the lung's depth, filled by fluid or vessels instead of air.
    """
    lung = lung - fluid
    soft = (body - lung - air - bone).clip(0)
    return MU_SOFT * soft + MU_LUNG * lung + MU_BONE * bone


def transmitted(attenuated: np.ndarray) -> np.ndarray:
    """The share of photons that passes, 0 to 1: Beer and Lambert's law."""
    return np.exp(-attenuated)


def signal_of(attenuated: np.ndarray) -> np.ndarray:
    """What reaches the detector, as a share of what left the tube: the photons that passed, and scattered ones.

    To first order a ray loses `attenuated` of its photons to scattering where it passes; they arrive all around.
    """
    passed = transmitted(attenuated)
    return passed + SCATTER * _spread(passed * attenuated)


def window_of(signal: np.ndarray) -> tuple[float, float]:
    """The attenuation that is shown almost black and almost white: quantiles of the image's middle part."""
    side = len(signal)
    middle = signal[side // 8 : -side // 8 : 2, side // 8 : -side // 8 : 2]
    low, high = -np.log(np.quantile(middle, (0.98, 0.005)))
    return float(low), float(high)


def develop(
    signal: np.ndarray, exposure: Exposure, window: tuple[float, float], *, lead: np.ndarray | None = None
) -> np.ndarray:
    """The image as a radiologist sees it: a negative, so the more attenuation, the brighter.

    Args:
        signal: of `signal_of`, (side, side).
        exposure: how the image is taken and shown; `photons` may be infinite, then there is no noise.
        window: of `window_of`.
        lead: attenuation of a lead letter that lies on the film, (side, side).

    Returns:
        uint8 array (side, side).
    """
    if lead is not None:
        signal = signal * transmitted(lead)
    photons = exposure.photons * (128 / len(signal)) ** 2
    # Counts are in the hundreds, where the distribution of Poisson is as good as the normal one.
    chance = np.random.default_rng(exposure.seed).standard_normal(signal.shape, dtype=np.float32)
    counted = signal + chance * np.sqrt(signal / photons)
    low, high = window
    grey = 0.07 + 0.86 * (-np.log(counted.clip(1e-6)) - low) / (high - low)
    grey = 0.5 + exposure.contrast * (grey - 0.5) + exposure.brightness
    return (255 * grey.clip(0, 1) + 0.5).astype(np.uint8)


def _spread(passed: np.ndarray) -> np.ndarray:
    """What every pixel gets of its neighbours' photons by scattering: a wide blur, done on a small copy."""
    side = len(passed)
    small = Image.fromarray(np.ascontiguousarray(passed, dtype=np.float32)).resize((32, 32), Image.Resampling.BOX)
    for _ in range(3):  # GaussianBlur takes no image of floats
        small = Image.fromarray(_box(np.asarray(small)))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).clip(1e-4)


def _box(values: np.ndarray, reach: int = 3) -> np.ndarray:
    """The mean of each value's neighbours up to `reach` away."""
    width = 2 * reach + 1
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach + 1, reach)
        sums = np.pad(values, pad, mode="edge").cumsum(axis=axis, dtype=np.float64)
        ahead, behind = (slice(width, None), slice(None, -width))
        cut = (ahead, slice(None)) if axis == 0 else (slice(None), ahead)
        tail = (behind, slice(None)) if axis == 0 else (slice(None), behind)
        values = ((sums[cut] - sums[tail]) / width).astype(np.float32)
    return values


def letter(side: int, x: float, y: float, height: float = 0.085) -> np.ndarray:
    """The attenuation of a lead letter at (x, y), in a lead ring: a pure number, (side, side)."""
    scale = 4  # drawn finer, then shrunk
    canvas = Image.new("L", (side * scale, side * scale))
    pen = ImageDraw.Draw(canvas)
    size = height * side * scale
    centre = (x * side * scale, y * side * scale)
    pen.text(centre, TOKEN, fill=255, font=ImageFont.load_default(size), anchor="mm")
    radius = 0.78 * size
    ring = [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
    pen.ellipse(ring, outline=255, width=max(1, round(0.1 * size)))
    drawn = canvas.reduce(scale).filter(ImageFilter.GaussianBlur(0.3))
    return np.asarray(drawn, dtype=np.float32) * np.float32(LEAD / 255)
