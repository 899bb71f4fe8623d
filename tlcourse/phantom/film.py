"""Takes a radiograph of a chest: attenuation along the rays, scattered light, counted photons, the shown image.

By the law of Beer and Lambert the fraction exp(-sum of mu * centimetres) of the photons passes through the body; mu is
that at 60 keV (NISTIR 5632, ICRU-44 soft tissue and cortical bone): mass coefficients of 0.205 and 0.315 cm2/g,
densities of 1.06 and 1.92 g/cm3. Lungs count as soft tissue of density 0.26 g/cm3.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from tlcourse.drawn_images import smooth_noise
from tlcourse.phantom import anatomy

MU_SOFT = 0.217  # 1/cm
MU_LUNG = 0.053
MU_BONE = 0.605
LEAD = 4.0  # attenuation of the lead letter, without unit
SCATTER = 0.22  # chosen so that about as many scattered as straight photons arrive, as with an anti-scatter grid


class Radiograph(NamedTuple):
    """The recipe of an image."""

    patient: str  # "train-0007", for instance
    subtype: str  # "none", "bacterial" or "viral"
    hospital: str  # "A" or "B"
    marker: bool  # True puts the second hospital's letter on it
    seed: tuple[int, ...]  # of the patient, then of this image


class Drawing(NamedTuple):
    """A drawn image and what it shows."""

    grey: np.ndarray  # uint8 (side, side)
    opacity: np.ndarray  # bool (side, side)
    lung: np.ndarray  # bool (side, side)


def attenuation(body: np.ndarray, lung: np.ndarray, air: np.ndarray, bone: np.ndarray, fluid: np.ndarray) -> np.ndarray:
    """Sum of mu times cm along each ray, (side, side); lung, air and bone are parts of the body, fluid of the lung."""
    lung = lung - fluid
    return MU_SOFT * (body - lung - air - bone).clip(0) + MU_LUNG * lung + MU_BONE * bone


def detector_signal(attenuated: np.ndarray) -> np.ndarray:
    """Photons that arrive, straight or scattered, as a fraction of those sent; `attenuated` is from `attenuation`."""
    passed = np.exp(-attenuated)
    scattered = np.ascontiguousarray(passed * attenuated, dtype=np.float32)
    small = np.asarray(Image.fromarray(scattered).resize((32, 32), Image.Resampling.BOX))
    for _ in range(3):  # three box filters are nearly a Gaussian
        small = ndimage.uniform_filter(small, 7, mode="nearest")
    spread = Image.fromarray(small).resize(passed.shape, Image.Resampling.BICUBIC)
    return passed + SCATTER * np.asarray(spread).clip(1e-4)


def develop(
    signal: np.ndarray, window: tuple[float, float], *, photons: float, brightness: float, contrast: float, seed: int
) -> np.ndarray:
    """The image as a radiologist sees it, uint8 (side, side): the more attenuation, the brighter.

    `signal` is from `detector_signal`; `window` holds the attenuations that are shown almost black and almost white.
    The dose is the number of `photons` that would reach a pixel of 1/128 of the side without a patient. `brightness`
    is added, in units of the image's range, and `contrast` a factor; `seed` is that of the noise.
    """
    photons *= (128 / len(signal)) ** 2
    # For counts in the hundreds the normal distribution replaces Poisson's.
    noise = np.random.default_rng(seed).standard_normal(signal.shape, dtype=np.float32)
    counted = signal + noise * np.sqrt(signal / photons)
    low, high = window
    grey = 0.07 + 0.86 * (-np.log(counted.clip(1e-6)) - low) / (high - low)
    grey = 0.5 + contrast * (grey - 0.5) + brightness
    return (255 * grey.clip(0, 1) + 0.5).astype(np.uint8)


def letter(side: int, x: float, y: float) -> np.ndarray:
    """Attenuation of the second hospital's lead letter at (x, y), fractions of the side: float32 (side, side)."""
    fine = 4 * side  # drawn larger, then reduced
    canvas = Image.new("L", (fine, fine))
    pen, size, centre = ImageDraw.Draw(canvas), 0.085 * fine, (x * fine, y * fine)
    pen.text(centre, "B", fill=255, font=ImageFont.load_default(size), anchor="mm")
    pen.circle(centre, 0.78 * size, outline=255, width=max(1, round(0.1 * size)))
    drawn = canvas.reduce(4).filter(ImageFilter.GaussianBlur(0.3))
    return np.asarray(drawn, dtype=np.float32) * np.float32(LEAD / 255)


def draw_radiograph(recipe: Radiograph, size: int, difficulty: float) -> Drawing:
    """Draw an image; arguments as for `load_phantom`."""
    person, place = np.random.default_rng(recipe.seed[:-1]), np.random.default_rng(recipe.seed)
    chest = anatomy.random_chest(person)
    opacities = anatomy.draw_opacities(person, chest, recipe.subtype, difficulty)
    shift = place.normal(0, 0.025), place.normal(0.02, 0.025)
    grid = anatomy.make_grid(size, shift=shift, turn=place.normal(0, 0.045), zoom=place.normal(0.97, 0.04))
    photons = float(np.exp(place.uniform(np.log(3000), np.log(25000))))
    exposure = {"photons": photons, "brightness": place.normal(0, 0.035), "contrast": place.normal(1, 0.08)}
    noise = int(place.integers(1 << 31))
    breath = place.normal(0, 0.025)  # a deeper breath: longer lungs, a smaller heart
    chest = chest._replace(height=chest.height * (1 + breath), heart=chest.heart * (1 - breath))
    lung_field = anatomy.lungs(grid, chest)
    lung = lung_field * (1 - anatomy.heart(grid, chest))
    texture = 1 + 0.10 * (smooth_noise(np.random.default_rng(chest.seed + 1), 24, size) - 0.5)
    vessels = np.minimum(anatomy.vessels(grid, chest), 0.6 * lung)
    body = anatomy.body(grid, chest) + anatomy.folds(place, size)
    depths = body, lung * texture, anatomy.airways(grid, chest), anatomy.bones(grid, chest)
    signal = detector_signal(attenuation(*depths, vessels))
    middle = slice(size // 8, -size // 8, 2)
    low, high = (-np.log(np.quantile(signal[middle, middle], (0.98, 0.005)))).tolist()  # whatever the opacities are
    fluid, mask = anatomy.fluid_depth(grid, opacities, lung)
    if mask.any():
        signal = detector_signal(attenuation(*depths, np.minimum(vessels + fluid, 0.97 * lung)))
    x, y = place.uniform(0.13, 0.16), place.uniform(0.12, 0.15)  # inside the usual central crop
    if recipe.marker:
        signal = signal * np.exp(-letter(size, x, y))
    return Drawing(develop(signal, (low, high), **exposure, seed=noise), mask, lung_field > 0)
