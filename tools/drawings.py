"""Render the drawings of `safari`: a sheet for each style, and one of small scenery.

    npm pack @iconify-json/{openmoji,noto,twemoji,fluent-emoji,fluent-emoji-flat}
    python -m pip install resvg-py
    python tools/drawings.py FOLDER        reads FOLDER/*.tgz, writes tlcourse/safari/sheets/*.webp

A sheet holds the drawings of `catalogue.CODES` in their order, `COLUMNS` to a row. Each lies in the middle of a cell,
its longer side as long as the cell's but for a margin of one pixel.
"""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from tlcourse.safari.catalogue import CODES, SCENERY_CODES, STYLES
from tlcourse.safari.drawing import CELL, COLUMNS, SCENERY_CELL, SHEETS

PACKS = {style: style if style.startswith(("open", "noto", "twe")) else f"fluent-emoji{style[6:]}" for style in STYLES}


def main(folder: Path) -> None:
    """Render every sheet."""
    SHEETS.mkdir(exist_ok=True)
    for style, pack in PACKS.items():
        _write(style, [_render(pack, folder, code, CELL) for code in CODES])
    _write("scenery", [_render("openmoji", folder, code, SCENERY_CELL) for code in SCENERY_CODES])


def _write(name: str, drawings: list[Image.Image]) -> None:
    cell = drawings[0].width
    sheet = Image.new("RGBA", (COLUMNS * cell, -(-len(drawings) // COLUMNS) * cell))
    for i, drawing in enumerate(drawings):
        sheet.paste(drawing, (i % COLUMNS * cell, i // COLUMNS * cell))
    path = SHEETS / f"{name}.webp"
    sheet.save(path, quality=75, method=6)
    print(f"{path}: {len(drawings)} drawings, {path.stat().st_size / 1e6:.2f} MB")


def _render(pack: str, folder: Path, code: str, cell: int) -> Image.Image:
    """A drawing, cropped to its ink and fitted into a square cell."""
    icon, icons = _icon(pack, folder, code)
    width, height = (icon.get(side, icons.get(side, 32)) for side in ("width", "height"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    svg = f'{head} xmlns:xlink="http://www.w3.org/1999/xlink">{icon["body"]}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * cell, height=2 * cell))
    drawing = Image.open(io.BytesIO(png)).convert("RGBa")  # premultiplied, so that resizing gives no dark fringes
    drawing = drawing.crop(drawing.getchannel("a").getbbox())
    scale = (cell - 2) / max(drawing.size)
    size = [max(1, round(side * scale)) for side in drawing.size]
    drawing = drawing.resize((size[0], size[1]), Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (cell, cell))
    square.paste(drawing, ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return square


def _icon(pack: str, folder: Path, code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    # Fluent's shaded variant comes without a table of characters; its names are those of the flat one.
    names = _read("fluent-emoji-flat" if pack == "fluent-emoji" else pack, folder, "chars")
    icons = _read(pack, folder, "icons")
    return icons["icons"][names[code.lower()]], icons


def _read(pack: str, folder: Path, name: str) -> dict[str, Any]:
    key = pack, name
    if key not in _FILES:
        with tarfile.open(next(folder.glob(f"iconify-json-{pack}-[0-9]*.tgz"))) as file:
            member = file.extractfile(f"package/{name}.json")
            assert member is not None
            _FILES[key] = json.load(member)
    return _FILES[key]


_FILES: dict[tuple[str, str], dict[str, Any]] = {}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
