"""Fetching a file from the network: checked against a checksum, whole or not there, and never in `quick`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from tlhelpers.device import current_profile
from tlhelpers.errors import DownloadError
from tlhelpers.files import atomic_write, digest_of

MOST_BYTES = 4_000_000_000  # accepted where no size is known beforehand
DIGITS = {"sha256": 64, "md5": 32}  # hexadecimal digits of a checksum

_CHUNK = 1 << 18  # bytes asked for at a time
_PATIENCE = 30.0  # seconds without an answer, or without a byte, after which a connection counts as dead
_WINDOW = 60.0  # seconds over which the speed is judged
_SLOWEST = 1000.0  # bytes a second; below this a download would outlast the reader
_LOCAL_HTTP = False  # tests set this, to run a server of their own on 127.0.0.1


def cache_folder() -> Path:
    """The folder for downloads: what the environment variable TL_HOME says, else the user's cache folder.

    It need not exist yet.
    """
    import platformdirs

    home = os.environ.get("TL_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path("tlhelpers", appauthor=False)


def fetch(
    url: str,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    folder: str | os.PathLike[str],
    filename: str | None = None,
    size_hint: int | None = None,
) -> Path:
    """Download a file once, check it, and return where it is.

    A file that is there already is checked again. If it is as it must be, it is returned, in either profile; if
    it is damaged, that is said, and it is replaced once a good one has arrived. The download goes to a temporary
    file and takes its name when it is whole and checked, so a torn file never stands under that name. Nothing
    is resumed.

    Args:
        url: an https address. Redirections are followed, to https addresses only.
        sha256: the expected SHA-256, 64 hexadecimal digits.
        md5: the expected MD5, 32 hexadecimal digits: for sources that publish no better. One of the two must
            be given; with both, both must agree.
        folder: where the file goes; made if it is missing.
        filename: the name there; None takes the last part of the address.
        size_hint: the size in bytes as far as it is known; shown to the reader, and a download of more than twice as
            much is stopped. None allows 4 GB.

    Raises:
        DownloadError: if the profile is `quick`, no checksum is given, the network, the server or the disk fails,
            or what arrives is not what was asked for.
    """
    wanted = _checksums(url, {"sha256": sha256, "md5": md5})
    _check_address(url)
    target = Path(folder).expanduser() / _checked_name(url, filename)
    with _disk_problems(target):
        need = f"{target.name} must be downloaded"
        if target.exists():
            problem = _difference(wanted, {name: digest_of(target, name) for name in wanted})
            if problem is None:
                return target
            need = f"{target} is damaged (its {problem}) and must be downloaded anew"
            print(need)
        _refuse_in_quick(need, size_hint)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            found = _receive(url, file, target, wanted, size_hint)
            problem = _difference(wanted, found)
            if problem is not None:
                raise DownloadError(
                    f"{url}: {megabytes(file.tell())} arrived, but the {problem}. Nothing was kept: either the file "
                    f"was changed at its source, or something between here and there (a log-in page, say) answered."
                )
    return target


def megabytes(size: float) -> str:
    """A number of bytes as text in decimal megabytes: '0.4 MB', '47 MB', '1,200 MB'."""
    return f"{size / 1e6:.1f} MB" if size < 9.95e6 else f"{size / 1e6:,.0f} MB"


def _checksums(url: str, given: dict[str, str | None]) -> dict[str, str]:
    wanted = {name: value.lower() for name, value in given.items() if value is not None}
    if not wanted:
        raise DownloadError(f"refusing to fetch {url} without a checksum: give sha256= (or md5=)")
    for name, value in wanted.items():
        if len(value) != DIGITS[name] or not set(value) <= set(string.hexdigits):
            raise DownloadError(f"{name} must be {DIGITS[name]} hexadecimal digits, not '{value}'")
    return wanted


def _difference(wanted: dict[str, str], found: dict[str, str]) -> str | None:
    for name, value in wanted.items():
        if found[name] != value:
            return f"{name} is {found[name]}, expected {value}"
    return None


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadError(f"'{url}' is not an address: {error}") from error
    local = _LOCAL_HTTP and parts.scheme == "http" and host in ("127.0.0.1", "localhost")
    if not host or (parts.scheme != "https" and not local):
        raise DownloadError(f"refusing to fetch '{url}': only https addresses are fetched")


def _checked_name(url: str, filename: str | None) -> str:
    name = unquote(PurePosixPath(urlsplit(url).path).name) if filename is None else filename
    if name in ("", ".", "..") or PureWindowsPath(name).name != name or PurePosixPath(name).name != name:
        raise DownloadError(f"'{name}' is not a plain file name to save {url} under: give filename=")
    return name


def _refuse_in_quick(need: str, size: int | None) -> None:
    if current_profile().name == "quick":
        how_much = "" if size is None else f" ({megabytes(size)})"
        raise DownloadError(
            f"{need}{how_much}; the quick profile never touches the network: "
            f'call tl.use_profile("full") or set TL_PROFILE=full'
        )


def _receive(url: str, file: BinaryIO, target: Path, wanted: dict[str, str], hint: int | None) -> dict[str, str]:
    """Copy what `url` answers to `file`, and return its checksums."""
    from tlhelpers.progress import tqdm

    digests = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}
    limit = MOST_BYTES if hint is None else 2 * hint
    with _open(url) as response:
        announced: int | None = response.length
        if announced is not None and announced > limit:
            expected = "" if hint is None else f" where about {megabytes(hint)} were expected"
            raise DownloadError(f"{url}: the server announces {megabytes(announced)}{expected}; refused")
        _check_space(target, announced or hint or 0)
        with tqdm(total=announced, unit="B", unit_scale=True, desc=target.name) as bar:
            received = 0
            for chunk in _chunks(url, response, announced):
                received += len(chunk)
                if received > limit:
                    raise DownloadError(f"{url}: the server sends more than {megabytes(limit)}; stopped")
                file.write(chunk)
                for digest in digests.values():
                    digest.update(chunk)
                bar.update(len(chunk))
    return {name: digest.hexdigest() for name, digest in digests.items()}


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to anything else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str) -> http.client.HTTPResponse:
    """The answer to a request for `url`, its body not yet read."""
    host = urlsplit(url).hostname
    request = urllib.request.Request(url, headers={"User-Agent": "tlhelpers"})
    try:
        response = urllib.request.build_opener(_CheckedRedirects).open(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        with error:
            advice = "the address may have moved" if error.code in (404, 410) else "try again later"
            said = " ".join(str(error.reason).split())
            raise DownloadError(f"{url}: the server says {error.code} {said}; {advice}") from error
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError(f"{url}: {_why_unreachable(host, reason)}") from error
    if response.status != 200:
        with response:
            raise DownloadError(f"{url}: the server says {response.status} {response.reason} and sends no file")
    return response


def _why_unreachable(host: str | None, reason: Any) -> str:
    if isinstance(reason, socket.gaierror):
        return f"the name '{host}' could not be resolved; is this machine connected to a network?"
    if isinstance(reason, ssl.SSLError):
        return f"no trusted connection to '{host}' ({reason}); are clock and certificates of this machine in order?"
    if isinstance(reason, TimeoutError):
        return f"'{host}' did not answer within {_PATIENCE:g} s; try again later"
    return f"'{host}' could not be reached ({reason}); is this machine connected to a network?"


def _chunks(url: str, response: http.client.HTTPResponse, announced: int | None) -> Iterator[bytes]:
    """The body piece by piece; errors of the connection, and of nothing else, become sentences here."""
    received, window_start, window_bytes = 0, time.monotonic(), 0

    def broken(why: str) -> DownloadError:
        whole = "" if announced is None else f" of {megabytes(announced)}"
        return DownloadError(f"{url}: {why} after {megabytes(received)}{whole}. Nothing was kept; try again.")

    while announced is None or received < announced:
        try:
            chunk = response.read1(_CHUNK if announced is None else min(_CHUNK, announced - received))
        except TimeoutError as error:
            raise broken(f"no byte arrived for {_PATIENCE:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise broken(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            if announced is not None:
                raise broken("the connection ended")
            return
        received += len(chunk)
        window_bytes += len(chunk)
        seconds = time.monotonic() - window_start
        if seconds > _WINDOW:
            if window_bytes < _SLOWEST * seconds:
                raise broken(f"fewer than {_SLOWEST:g} bytes a second arrived")
            window_start, window_bytes = time.monotonic(), 0
        yield chunk


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise DownloadError(
            f"{target.name} needs {megabytes(size)}, but {target.parent} has {megabytes(free)} left: make room, or "
            f"let TL_HOME name a folder on a larger disk"
        )


@contextlib.contextmanager
def _disk_problems(target: Path) -> Iterator[None]:
    """Turn what the disk complains of into sentences."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            why = "the disk is full: make room, or let TL_HOME name a folder on a larger disk"
        else:
            why = f"{error.strerror or error}"
        raise DownloadError(f"{target} could not be written or read: {why}") from error
