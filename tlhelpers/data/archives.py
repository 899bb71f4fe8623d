"""Unpacking an archive that somebody else made: nothing outside the folder, nothing endless, nothing by halves."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from tlhelpers.data.download import megabytes
from tlhelpers.errors import DownloadError
from tlhelpers.files import atomic_write, part_beside, remove_leftovers

MAX_MEMBERS = 200_000  # files and folders in one archive

_CHUNK = 1 << 18
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, struct.error)


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    max_bytes: int,
    top: str | None = None,
    max_members: int = MAX_MEMBERS,
) -> Path:
    """Unpack a zip, tar or tar.gz archive into `folder`, completely or not at all, and return `folder`.

    It is unpacked beside `folder` and then renamed, so `folder` never holds half an archive. How many files
    there were, and of how many bytes, is noted beside it in `<folder>.unpacked.json`. Where `folder` is there already
    and agrees with that note it is used as it is; where it does not, that is an error, and nothing is deleted.
    Files whose name begins with a dot do not count: operating systems add them.

    Args:
        archive: the file to unpack; what it is shows in its first bytes, not in its name.
        folder: where the contents go; its parent is made if it is missing.
        max_bytes: unpacked bytes at which to stop, counted as they are written, whatever the archive says.
        top: the one folder of the archive that becomes `folder`; None takes all there is.
        max_members: the number of files and folders at which to stop.

    Raises:
        DownloadError: if the archive is damaged or of another kind; if a member has an absolute path or "..", or
            is a link, a device or anything but a file or folder; if it is too large; if the disk is full; or
            if `folder` holds something else already.
    """
    from tlhelpers.progress import tqdm

    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return _checked(archive, folder)
    part = part_beside(folder)
    with _as_sentences(archive, part):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        part.mkdir()
        with tqdm(unit="B", unit_scale=True, desc=f"unpacking {archive.name}", delay=2) as bar:
            _extract(archive, _Writer(archive, part, max_bytes, max_members, bar))
        whole = part if top is None else part / top
        if not whole.is_dir():
            raise DownloadError(f"{archive} has no folder '{top}'; it has {sorted(p.name for p in part.iterdir())}")
        note = {"archive_bytes": archive.stat().st_size, **_contents(whole)}
        with atomic_write(_note_of(folder)) as file:  # first the note: without one a folder is not trusted
            file.write(json.dumps(note).encode())
        try:
            whole.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            return _checked(archive, folder)  # another process was quicker
    return folder


def _note_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".unpacked.json")


def _contents(folder: Path) -> dict[str, int]:
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _checked(archive: Path, folder: Path) -> Path:
    """`folder`, if it holds just what was unpacked into it from `archive`."""
    found = _contents(folder)
    says = "there is no record of an unpacking"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # the note is missing or spoilt
        note = json.loads(_note_of(folder).read_bytes())
        same_archive = not archive.exists() or note["archive_bytes"] == archive.stat().st_size
        if same_archive and found == {key: note[key] for key in found}:
            return folder
        says = (
            f"its record says {note['files']} files with {megabytes(note['bytes'])}, from an archive of "
            f"{megabytes(note['archive_bytes'])}"
        )
    raise DownloadError(
        f"{folder} is not as it was unpacked from {archive.name}: it holds {found['files']} files with "
        f"{megabytes(found['bytes'])}, but {says}. Nothing was changed: move or delete that folder, and run again."
    )


@contextlib.contextmanager
def _as_sentences(archive: Path, part: Path) -> Iterator[None]:
    """Turn what can go wrong into sentences, and leave no half-unpacked folder behind."""
    try:
        yield
    except DownloadError:
        raise
    except _DAMAGE as error:
        raise DownloadError(f"{archive} is damaged ({error}): delete it and download it again") from error
    except (RuntimeError, NotImplementedError, ValueError) as error:  # an unknown method, an impossible name
        raise DownloadError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        full = "; make room, or let TL_HOME name a folder on a larger disk" if error.errno == errno.ENOSPC else ""
        raise DownloadError(f"{archive} cannot be unpacked: {error.strerror or error}{full}") from error
    finally:  # after Ctrl-C too
        shutil.rmtree(part, ignore_errors=True)


def _extract(archive: Path, writer: _Writer) -> None:
    with archive.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            _extract_zip(file, writer)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as plain:
                _extract_tar(plain, writer)
        elif start[257:262] == b"ustar":
            _extract_tar(file, writer)
        else:
            raise DownloadError(f"{archive} is neither a zip nor a tar nor a tar.gz archive")


def _extract_zip(file: BinaryIO, writer: _Writer) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was made on Windows
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refusal(member.filename, "is a link or a device")
            if member.flag_bits & 1:
                raise writer.refusal(member.filename, "needs a password")
            if member.is_dir():
                writer.folder(member.filename)
            else:
                with archive.open(member) as source:
                    writer.file(member.filename, source)


def _extract_tar(file: IO[bytes] | gzip.GzipFile, writer: _Writer) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError(
            f"Python {sys.version.split()[0]} is too old to unpack tar archives safely: install the newest patch "
            f"release (at least 3.10.12 or 3.11.4)"
        )
    capped: Any = _Capped(file, writer)
    with tarfile.open(fileobj=capped, mode="r|") as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()):
                raise writer.refusal(member.name, "is a link or a device")
            writer.parts(member.name)  # before the filter, which would make an absolute path relative
            tarfile.data_filter(member, str(writer.root))
            if member.isdir():
                writer.folder(member.name)
            else:
                source = archive.extractfile(member)
                assert source is not None  # it is a regular file
                with source:
                    writer.file(member.name, source)
    while capped.read(_CHUNK):  # to the end of a gzip file, where its checksum is
        pass


class _Capped:
    """A tar stream that ends in an error when far more is read than files of `max_bytes` need: headers count too."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, writer: _Writer) -> None:
        self.file = file
        self.writer = writer
        self.left = 2 * writer.left + (10 << 20)

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, _CHUNK))
        self.left -= len(data)
        if self.left < 0:
            raise self.writer.too_large()
        return data


class _Writer:
    """Writes members below `root`, and stops when they are too many, too large or out of place."""

    def __init__(self, archive: Path, root: Path, max_bytes: int, max_members: int, bar: Any) -> None:
        self.archive = archive
        self.root = root
        self.max_bytes = max_bytes
        self.max_members = max_members
        self.left = max_bytes
        self.members = 0
        self.bar = bar

    def refusal(self, name: str, why: str) -> DownloadError:
        return DownloadError(f"{self.archive} is refused: its member {name!r} {why}. Nothing was unpacked.")

    def too_large(self) -> DownloadError:
        limit = megabytes(self.max_bytes)
        return DownloadError(f"{self.archive} is refused: it unpacks to more than {limit}. Nothing was unpacked.")

    def parts(self, name: str) -> list[str]:
        """The path of a member as names below `root`."""
        slashed = name.replace("\\", "/")
        parts = [part for part in slashed.split("/") if part not in ("", ".")]
        if slashed.startswith("/"):
            raise self.refusal(name, "has an absolute path")
        # Windows takes ':' for a drive or stream and drops trailing dots and spaces, so '.. ' would climb, too.
        if any(not part.strip(" .") or ":" in part or not part.isprintable() for part in parts):
            raise self.refusal(name, "has a path that leads outside, or a name that is not valid everywhere")
        return parts

    def folder(self, name: str) -> None:
        self._count()
        self.root.joinpath(*self.parts(name)).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes]) -> None:
        self._count()
        parts = self.parts(name)
        if not parts:
            raise self.refusal(name, "has no name")
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            target = path.open("xb")
        except FileExistsError as error:
            raise self.refusal(name, "is there twice") from error
        with target:
            while chunk := source.read(_CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise self.too_large()
                target.write(chunk)
                self.bar.update(len(chunk))

    def _count(self) -> None:
        self.members += 1
        if self.members > self.max_members:
            raise DownloadError(
                f"{self.archive} is refused: it has more than {self.max_members} members. Nothing was unpacked."
            )
