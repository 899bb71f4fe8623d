"""Unpacking: nothing outside the folder, nothing endless, nothing by halves."""

import errno
import gzip
import io
import json
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tlhelpers import files
from tlhelpers.data import archives
from tlhelpers.data.archives import unpack
from tlhelpers.errors import DownloadError

FILES = {"top/a/1.txt": b"one", "top/a/2.txt": b"two" * 1000, "top/b/3.txt": b""}


def make_zip(path, members=FILES, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path, members=FILES, mode="w", **options):
    with tarfile.open(path, mode, **options) as archive:
        for name, data in members.items():
            add_to_tar(archive, name, data)
    return path


def add_to_tar(archive, name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def make_tgz(path, members=FILES):
    return make_tar(path, members, "w:gz")


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path):
    """A folder of its own for what is unpacked, so that a test sees whatever is left behind."""
    return tmp_path / "out" / "folder"


def assert_refused(archive, out, match, **options):
    before = tree(out.parents[1])
    with pytest.raises(DownloadError, match=match):
        unpack(archive, out, **({"max_bytes": 10_000} | options))
    assert tree(out.parents[1]) == before
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar, make_tgz])


# What works


@MAKERS
def test_contents_arrive(tmp_path, out, make):
    archive = make(tmp_path / "archive.bin")  # the name says nothing
    assert unpack(archive, out, max_bytes=3003) == out
    assert tree(out) == FILES
    assert sorted(p.name for p in out.parent.iterdir()) == ["folder", "folder.unpacked.json"]


@MAKERS
def test_one_folder_of_the_archive(tmp_path, out, make):
    archive = make(tmp_path / "a", FILES | {"beside/x": b"x"})
    unpack(archive, out, top="top", max_bytes=10_000)
    assert tree(out) == {name.removeprefix("top/"): data for name, data in FILES.items()}
    assert sorted(p.name for p in out.parent.iterdir()) == ["folder", "folder.unpacked.json"]


@MAKERS
def test_a_missing_top_folder(tmp_path, out, make):
    assert_refused(make(tmp_path / "a"), out, r"has no folder 'data'; it has \['top'\]", top="data")


def test_folders_without_files_and_names_with_dots(tmp_path, out):
    members = {"./empty/": b"", "./x..y/.hidden": b"h", "a/./b": b"b", "ö ü/…": b"u"}
    unpack(make_zip(tmp_path / "a", members), out, max_bytes=100)
    assert (out / "empty").is_dir()
    assert tree(out) == {"x..y/.hidden": b"h", "a/b": b"b", "ö ü/…": b"u"}


def test_backslashes_of_windows_archives_separate_folders(tmp_path, out):
    unpack(make_zip(tmp_path / "a", {"a\\b.txt": b"b"}), out, max_bytes=100)
    assert tree(out) == {"a/b.txt": b"b"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats(tmp_path, out, format):
    members = {"d/" * 20 + "n" * 90 + ".txt": b"long", "s/ä": b"accent"}
    unpack(make_tar(tmp_path / "a", members, format=format), out, max_bytes=100)
    assert tree(out) == members


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_modes_of_the_archive_do_not_count(tmp_path, out):
    with tarfile.open(tmp_path / "a", "w") as archive:
        add_to_tar(archive, "f", b"x", mode=0o6777)
    unpack(tmp_path / "a", out, max_bytes=100)
    assert (out / "f").stat().st_mode & 0o6111 == 0


# What is there already


def test_what_was_unpacked_is_used_again(tmp_path, out):
    archive = make_zip(tmp_path / "a")
    unpack(archive, out, max_bytes=10_000)
    written = (out / "top/a/1.txt").stat().st_mtime_ns
    (out / ".DS_Store").write_bytes(b"by the operating system")
    assert unpack(archive, out, max_bytes=10_000) == out
    assert (out / "top/a/1.txt").stat().st_mtime_ns == written
    archive.unlink()
    assert unpack(archive, out, max_bytes=10_000) == out


@pytest.mark.parametrize("change", ["lost", "cut", "added"])
def test_a_changed_folder_is_refused_and_kept(tmp_path, out, change):
    archive = make_zip(tmp_path / "a")
    unpack(archive, out, max_bytes=10_000)
    if change == "lost":
        (out / "top/a/1.txt").unlink()
    elif change == "cut":
        (out / "top/a/2.txt").write_bytes(b"tw")
    else:
        (out / "top/mine.txt").write_bytes(b"mine")
    before = tree(out)
    with pytest.raises(DownloadError, match=r"it holds . files with 0.0 MB, but its record says 3 files .*move or del"):
        unpack(archive, out, max_bytes=10_000)
    assert tree(out) == before


@pytest.mark.parametrize("note", [None, b"", b"{", b"[]", b"7", b'{"files": 1}', b'{"files": "x", "bytes": []}'])
def test_a_folder_without_a_sound_record_is_refused_and_kept(tmp_path, out, note):
    out.mkdir(parents=True)
    (out / "mine.txt").write_bytes(b"mine")
    if note is not None:
        (out.parent / "folder.unpacked.json").write_bytes(note)
    before = tree(out.parent)
    with pytest.raises(DownloadError, match=r"it holds 1 files .* but there is no record of an unpacking. Nothing was"):
        unpack(make_zip(tmp_path / "a"), out, max_bytes=10_000)
    assert tree(out.parent) == before


def test_another_archive_is_noticed(tmp_path, out):
    unpack(make_zip(tmp_path / "a"), out, max_bytes=10_000)
    with pytest.raises(DownloadError, match=r"from an archive of 0\.0 MB"):
        unpack(make_zip(tmp_path / "b", {"other": b"x"}), out, max_bytes=10_000)


def test_another_process_that_is_quicker(tmp_path, out, monkeypatch):
    archive = make_zip(tmp_path / "a")
    extract = archives._extract

    def slow(*args):
        extract(*args)
        monkeypatch.setattr(archives, "_extract", extract)
        unpack(archive, out, max_bytes=10_000)

    monkeypatch.setattr(archives, "_extract", slow)
    assert unpack(archive, out, max_bytes=10_000) == out
    assert tree(out) == FILES
    assert sorted(p.name for p in out.parent.iterdir()) == ["folder", "folder.unpacked.json"]


# What must not get out


BAD_NAMES = [
    "../evil",
    "a/../../evil",
    "/evil",
    "//host/share/evil",
    "\\evil",
    "..\\evil",
    "a\\..\\..\\evil",
    "C:evil",
    "C:/evil",
    "c:\\evil",
    "a/f.txt:stream",
    ".. /evil",
    ".../evil",
    "a/ /evil",
    "a/line\nbreak",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@MAKERS
def test_names_that_lead_outside(tmp_path, out, make, name):
    archive = make(tmp_path / "a", {"good": b"x", name: b"evil"})
    assert_refused(archive, out, r"is refused: its member .*(absolute path|leads outside).* Nothing was unpacked")


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../evil"),
        (tarfile.SYMTYPE, "good"),
        (tarfile.LNKTYPE, "../../outside"),
        (tarfile.LNKTYPE, "good"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_in_tar(tmp_path, out, kind, target):
    (tmp_path / "outside").write_bytes(b"mine")
    with tarfile.open(tmp_path / "a", "w") as archive:
        add_to_tar(archive, "good", b"x")
        add_to_tar(archive, "member", type=kind, linkname=target)
    assert_refused(tmp_path / "a", out, "its member 'member' is a link or a device")


def test_the_filter_of_the_standard_library_has_its_say(tmp_path, out, monkeypatch):
    def strict(member, destination):
        raise tarfile.OutsideDestinationError(member, destination)

    monkeypatch.setattr(tarfile, "data_filter", strict)
    assert_refused(make_tgz(tmp_path / "a"), out, r"outside the destination")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_zip(tmp_path, out, kind):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        info = zipfile.ZipInfo("member")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "a", out, "its member 'member' is a link or a device")


@MAKERS
def test_a_file_and_a_folder_of_one_name(tmp_path, out, make):
    assert_refused(make(tmp_path / "a", {"x": b"file", "x/y": b"below"}), out, "cannot be unpacked|is there twice")


def test_two_members_of_one_name(tmp_path, out):
    with tarfile.open(tmp_path / "tar", "w") as archive:
        add_to_tar(archive, "x", b"1")
        add_to_tar(archive, "./x", b"2")
    assert_refused(tmp_path / "tar", out, r"its member '\./x' is there twice")


# What must not grow


@MAKERS
def test_a_byte_too_many(tmp_path, out, make):
    archive = make(tmp_path / "a")
    assert_refused(archive, out, r"unpacks to more than 0.0 MB. Nothing was unpacked", max_bytes=3002)
    assert unpack(archive, out, max_bytes=3003)


def test_a_zip_bomb_of_which_the_header_lies(tmp_path, out):
    path = make_zip(tmp_path / "a", {"bomb": bytes(5_000_000)}, compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    assert len(data) < 6000
    path.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == 10  # what the header claims
    assert_refused(path, out, "more than 0.0 MB|damaged")


def test_a_tar_gz_bomb(tmp_path, out):
    assert_refused(make_tgz(tmp_path / "a", {"bomb": bytes(5_000_000)}), out, "more than 0.0 MB")


def test_a_tar_whose_bulk_is_headers(tmp_path, out):
    """A pax header may be as long as it likes; a reader that trusts it fills the memory."""
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        add_to_tar(archive, "x", pax_headers={"comment": "x" * 30_000_000})
    assert (tmp_path / "a").stat().st_size < 100_000
    assert_refused(tmp_path / "a", out, "more than 0.0 MB")


@MAKERS
def test_too_many_members(tmp_path, out, make):
    archive = make(tmp_path / "a", {f"{i}": b"" for i in range(11)})
    assert_refused(archive, out, "has more than 10 members. Nothing was unpacked", max_members=10)
    assert len(tree(unpack(archive, out, max_bytes=0, max_members=11))) == 11


# What is damaged


@MAKERS
def test_other_files(tmp_path, out, make):
    for data in (b"", b"<html>log in</html>", bytes(1024), b"PK", b"\x1f\x8b", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "a").write_bytes(data)
        assert_refused(tmp_path / "a", out, "is neither a zip nor a tar|is damaged")


@MAKERS
def test_a_truncated_archive(tmp_path, out, make):
    archive = make(tmp_path / "a", {"top/x": os.urandom(8000)})
    archive.write_bytes(archive.read_bytes()[:5000])
    assert_refused(archive, out, r"is damaged \(.*\): delete it and download it again")


@pytest.mark.parametrize("make", [make_zip, make_tgz])
def test_a_flipped_bit(tmp_path, out, make):
    archive = make(tmp_path / "a", {"top/x": os.urandom(8000)})
    data = bytearray(archive.read_bytes())
    data[4000] ^= 1
    archive.write_bytes(data)
    assert_refused(archive, out, r"is damaged \(.*\): delete it and download it again")


def test_a_zip_with_a_password(tmp_path, out):
    path = make_zip(tmp_path / "a", {"secret": b"x"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    assert_refused(path, out, "its member 'secret' needs a password. Nothing was")


def test_a_missing_archive(tmp_path, out):
    assert_refused(tmp_path / "gone.zip", out, r"gone.zip cannot be unpacked: No such file")


def test_python_too_old_for_tar(tmp_path, out, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    assert_refused(make_tgz(tmp_path / "a"), out, r"too old to unpack tar archives safely: install the newest patch")
    assert unpack(make_zip(tmp_path / "b"), out, max_bytes=10_000) == out


# What happens meanwhile


def test_a_full_disk(tmp_path, out, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives._Writer, "file", full)
    assert_refused(make_zip(tmp_path / "a"), out, "No space left on device; make room, or let TL_HOME")


def test_ctrl_c_leaves_nothing(tmp_path, out, monkeypatch):
    write = archives._Writer.file

    def interrupted(self, name, source):
        write(self, name, source)
        raise KeyboardInterrupt

    monkeypatch.setattr(archives._Writer, "file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(make_zip(tmp_path / "a"), out, max_bytes=10_000)
    assert list(out.parent.iterdir()) == []


def test_a_process_killed_between_note_and_folder(tmp_path, out, monkeypatch):
    """The note may be there without the folder, never the folder without the note."""
    seen = []

    def rename(self, target):
        seen.append(json.loads((out.parent / "folder.unpacked.json").read_text()))
        raise KeyboardInterrupt

    archive = make_zip(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, out, max_bytes=10_000)
    assert seen == [{"archive_bytes": archive.stat().st_size, "files": 3, "bytes": 3003}]
    assert unpack(archive, out, max_bytes=10_000) == out


def test_half_unpacked_folders_of_killed_processes_go_after_a_day(tmp_path, out):
    half = out.parent / ".folder.0123.part"
    (half / "top").mkdir(parents=True)
    unpack(make_zip(tmp_path / "a"), out, max_bytes=10_000)
    assert half.is_dir()
    os.utime(half, (time.time() - 2 * files.STALE,) * 2)
    unpack(make_zip(tmp_path / "b"), out.parent / "other", max_bytes=10_000)
    assert half.is_dir()
    out.rename(tmp_path / "away")
    unpack(make_zip(tmp_path / "c"), out, max_bytes=10_000)
    assert not half.exists()


def test_gzip_of_something_else(tmp_path, out):
    (tmp_path / "a").write_bytes(gzip.compress(b"no tar" * 1000))
    assert_refused(tmp_path / "a", out, "is damaged")
