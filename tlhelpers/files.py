"""Files that are whole or not there: checksums, and writing that no crash can tear."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes read at a time
STALE = 24 * 3600  # seconds after which a temporary file that nobody writes to is taken for a leftover


def digest_of(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """The checksum of a file as lower-case hexadecimal digits, read in pieces of 1 MiB.

    A progress bar appears where this takes more than two seconds.

    Args:
        path: the file.
        algorithm: any name that `hashlib` knows, "sha256" or "md5" say.

    Raises:
        OSError: if the file cannot be read.
    """
    from tlhelpers.progress import tqdm

    path = Path(path)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    options = {"unit": "B", "unit_scale": True, "desc": f"checking {path.name}", "delay": 2}
    with path.open("rb") as file, tqdm(total=path.stat().st_size, **options) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file: 64 lower-case hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    return digest_of(path, "sha256")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing bytes so that `path` is, at any instant, the old file or the whole new one.

    The bytes go to a temporary file in the same folder. When the block ends without an error they are forced to
    the disk and the temporary file takes the name `path`; after an error, Ctrl-C included, it is removed and
    `path` is as before. A process killed outright leaves the temporary file, named `.<name>.<digits>.part`; the
    next write to the same path removes it once it is a day old.

        with atomic_write("model.pt") as file:
            torch.save(state, file)

    Args:
        path: the file to write; its folder must exist. Where it is a symbolic link, the file that the link names is
            replaced and the link stays.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if `path` is a folder.
        OSError: if the disk is full or the folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write the file {target}: a folder has that name")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target.name}: the folder {target.parent} does not exist")
    remove_leftovers(target)
    part = part_beside(target)
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:  # Ctrl-C too
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def part_beside(target: Path) -> Path:
    """A new hidden name beside `target`, on the same disk, under which to prepare what will take its place."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def remove_leftovers(target: Path, older_than: float = STALE) -> None:
    """Remove what killed processes left beside `target` under names of `part_beside`; `older_than` in seconds."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):  # another process may have been quicker
            if time.time() - part.stat().st_mtime >= older_than:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk; Windows has no such call, and some network disks refuse it."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
