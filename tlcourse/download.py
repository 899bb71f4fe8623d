"""Download a file once and check its hash; the quick profile never touches the network."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pooch
from pooch.hashes import hash_matches

from tlhelpers.device import current_profile
from tlhelpers.errors import DownloadError
from tlhelpers.files import user_path
from tlhelpers.progress import tqdm


def cache_folder() -> Path:
    """Folder for downloads: the environment variable TL_HOME, else the user's cache folder."""
    home = os.environ.get("TL_HOME")
    return user_path(home) if home else platformdirs.user_cache_path("tlhelpers", appauthor=False)


def fetch(url: str, known_hash: str, *, folder: Path | None = None, size_hint: float = 0) -> Path:
    """Path of a file that is downloaded unless it is there already; its hash is checked in either case.

    The last part of `url` is the file's name. `known_hash` is a SHA-256 in hexadecimal digits, or "md5:..." where the
    source publishes no better one. The file goes into `folder`; None: `downloads` in `cache_folder()`. `size_hint` is
    the expected size in bytes, for messages and the progress bar. Raises DownloadError in the quick profile, unless the
    file is there; if network, server, disk or hash are at fault.
    """
    target = (folder or cache_folder() / "downloads") / url.rpartition("/")[2].partition("?")[0]
    need = f"{target.name} must be downloaded" + (f" ({size_hint / 1e6:,.1f} MB)" if size_hint else "")
    if target.exists():
        if hash_matches(str(target), known_hash):
            return target
        need = f"{target} is damaged (its hash is not {known_hash}) and must be downloaded again"
        print(need)
    if current_profile().name == "quick":
        need += '; the quick profile never touches the network: call tl.use_profile("full") or set TL_PROFILE=full'
        raise DownloadError(need)
    pooch.get_logger().setLevel("WARNING")
    with explain_failures(url), tqdm(total=size_hint or 1, unit="B", unit_scale=True, desc=target.name) as bar:
        downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 18, timeout=30)
        pooch.retrieve(url, known_hash, target.name, target.parent, downloader=downloader)
    return target


@contextlib.contextmanager
def explain_failures(source: str | Path) -> Iterator[None]:
    """Turn failures of network, server and disk (OSError) and of the hash (ValueError) into a DownloadError."""
    try:
        yield
    except (OSError, ValueError) as error:
        if (answer := getattr(error, "response", None)) is not None:
            answer.close()
        advice = "check the network connection, or try again later"
        if getattr(error, "errno", None) == errno.ENOSPC:
            advice = "make room on the disk, or let TL_HOME name a folder on a larger one"
        raise DownloadError(f"{source} could not be downloaded or unpacked ({error}): {advice}") from error
