"""Files that a crash cannot tear."""

import errno
import os

import pytest

from tlhelpers.files import atomic_write


@pytest.fixture
def path(tmp_path):
    """A file that is there already."""
    (tmp_path / "f").write_bytes(b"old")
    return tmp_path / "f"


def test_a_file_is_replaced_at_the_end_only(path):
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old", "what a killed writer would leave"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def write(path, error):
    with atomic_write(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OSError(errno.ENOSPC, "disk full")])
def test_an_error_leaves_the_old_file_alone(path, error):
    with pytest.raises(error if isinstance(error, type) else OSError):
        write(path, error)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor links for everyone")
def test_links_and_the_usual_mode_stay(path):
    link, target = path.with_name("link"), path.with_name("real")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == path.stat().st_mode
