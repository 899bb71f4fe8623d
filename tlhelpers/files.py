"""Checksums of files, and writing that a crash cannot leave half-done."""

import contextlib
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes read at a time


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file: 64 lower-case hexadecimal digits. A progress bar appears after two seconds."""
    from tlhelpers.progress import tqdm  # late: `doctor` must start where tqdm is missing

    path, digest = Path(path), hashlib.sha256()
    options = {"unit": "B", "unit_scale": True, "desc": f"checking {path.name}", "delay": 2}
    with path.open("rb") as file, tqdm(total=path.stat().st_size, **options) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing bytes so that `path` is, at any instant, the old file or the whole new one.

    The bytes go to a hidden file beside it, which takes its name when the block ends without an error; after an error,
    Ctrl-C included, it is removed and `path` is as before. If `path` is a symbolic link, its target is replaced.

    Raises:
        OSError: if the folder does not exist or cannot be written to, `path` is a folder, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write the file {target}: a folder has that name")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target.name}: the folder {target.parent} does not exist")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:  # Ctrl-C too
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name must reach the disk, too; Windows has no such call, nor some network disks
        with contextlib.suppress(OSError):
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove_leftovers(target: Path) -> None:
    """Remove temporary files that killed processes left beside `target`."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        part.unlink(missing_ok=True)
