"""Exports a data set as an image folder that torchvision's `ImageFolder` and `tl.load_data` read."""

import hashlib
import json
import os
import re
from pathlib import Path

from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.errors import DataError
from tlhelpers.files import atomic_write, make_folder, user_path
from tlhelpers.progress import tqdm

MANIFEST = ".tlhelpers_export.json"


def export_folder(data: ImageData, root: str | os.PathLike[str]) -> Path:
    """Write every image, without its transform, to `root/<split>/<class>/<key>.png`; returns `root` as a Path.

    Existing files are kept. Raises DataError if `root` holds something else, or two images would be the same file.
    """
    root, digest = user_path(root), hashlib.sha256()
    plan: dict[Path, tuple[ImageSplit, int]] = {}
    for split in data.splits():
        digest.update(repr((split.name, split.keys, split.labels.tolist())).encode() + split.image(0).tobytes())
        for i, label in enumerate(split.labels.tolist()):
            # Characters that some operating system forbids in a file name become "_".
            stem = re.sub(r'[<>:"/\\|?*\s]', "_", Path(split.keys[i]).stem)
            path = root / split.name / split.classes[label] / f"{stem}.png"
            if path in plan:
                raise DataError(f"{data.name}: two images would be written to {path}; their keys clash")
            plan[path] = split, i
    _claim(root, {"data": data.name, "classes": list(data.classes), "images": digest.hexdigest()})
    for path, (split, i) in tqdm(plan.items(), desc=f"export {data.name}", unit="image", delay=2):
        if not path.exists():
            make_folder(path.parent)
            with atomic_write(path) as file:
                split.image(i).save(file, format="PNG", compress_level=1)  # a third larger, four times as fast
    return root


def _claim(root: Path, identity: dict[str, object]) -> None:
    """Mark a new folder with what it will hold; refuse one that holds anything else."""
    manifest, text = root / MANIFEST, json.dumps(identity)
    if root.is_file() or (root.is_dir() and any(root.iterdir()) and not manifest.exists()):
        found = "is a file" if root.is_file() else "is not empty and was not made by tc.export_folder"
        raise DataError(f"{root} {found}; name a new folder for the export of '{identity['data']}'")
    if manifest.exists() and manifest.read_text(encoding="utf8") != text:
        raise DataError(f"{root} holds the export of other data; delete it, or name another folder")
    if not manifest.exists():
        make_folder(root)
        with atomic_write(manifest) as file:
            file.write(text.encode())
