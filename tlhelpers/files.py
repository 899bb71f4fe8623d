"""Paths, checksums of files, and writing that a crash cannot leave half-done."""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tlhelpers.errors import DataError, OutputError


def user_path(path: Any) -> Path:
    """A path that a reader gave, with `~` for the home folder; a DataError if it is none."""
    try:
        if os.fspath(path) in ("", b""):
            raise ValueError("it is empty")
        return Path(path).expanduser()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"expected the path of a file or folder, and {path!r:.80} is none: {error}") from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder for results, unless it exists, and try to write there; an OutputError says why it fails."""
    folder = user_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(f"nothing can be written to the folder {folder}: {error.strerror or error}") from error
    return folder


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing bytes so that `path` is, at any instant, the old file or the whole new one.

    The bytes go to a hidden file beside it, which takes its name when the block ends without an error; after an error,
    Ctrl-C included, it is removed and `path` is as before. If `path` is a symbolic link, its target is replaced. An
    OutputError says that the folder does not exist or cannot be written to, `path` is a folder, or the disk is full.
    """
    target = Path(os.path.realpath(user_path(path)))
    if target.is_dir():
        raise OutputError(f"cannot write the file {target}: a folder has that name")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target.name}: the folder {target.parent} does not exist")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        raise
    with contextlib.suppress(OSError):  # the new name must reach the disk, too; Windows and some disks cannot do it
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
