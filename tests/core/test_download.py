"""Downloads: checked, whole or not there, never in `quick`; and files that a crash cannot tear."""

import contextlib
import errno
import hashlib
import http.server
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tlhelpers import device as profile
from tlhelpers import files
from tlhelpers.data import download
from tlhelpers.data.download import cache_folder, fetch, megabytes
from tlhelpers.errors import DownloadError
from tlhelpers.files import atomic_write, digest_of, sha256_of

BODY = bytes(range(256)) * 4000  # 1 MB
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        getattr(self, "send_" + self.path.strip("/").partition(".")[0])()

    def _start(self, length=None, status=200, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_good(self):
        self._start(len(BODY))
        self.wfile.write(BODY)

    def send_unannounced(self):  # HTTP/1.0 without a length: the end of the connection is the end of the file
        self._start()
        self.wfile.write(BODY)

    def send_chunked(self):
        self.protocol_version = "HTTP/1.1"
        self._start(Transfer_Encoding="chunked", Connection="close")
        for start in range(0, len(BODY), 100_000):
            piece = BODY[start : start + 100_000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if self.path.endswith("whole"):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def send_truncated(self):
        self._start(len(BODY))
        self.wfile.write(BODY[: len(BODY) // 2])

    def send_reset(self):
        self._start(len(BODY))
        self.wfile.write(BODY[:300_000])
        self.wfile.flush()
        time.sleep(0.1)
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        )
        self.connection.close()

    def send_wrong(self):
        self._start(len(BODY))
        self.wfile.write(BODY[:-1] + b"x")

    def send_endless(self):  # as far as the test's patience goes; a client that never stops must not fill the disk
        self._start()
        with contextlib.suppress(OSError):
            for _ in range(50):
                self.wfile.write(BODY)

    def send_huge(self):
        self._start(10**12)

    def send_silent(self):
        self._start(len(BODY))
        self.wfile.write(BODY[:10])
        self.wfile.flush()
        self.server.release.wait(10)

    def send_mute(self):
        self.server.release.wait(10)

    def send_trickle(self):
        self._start(len(BODY))
        with contextlib.suppress(OSError):
            for byte in BODY:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.release.wait(0.02):
                    return

    def send_moved(self):
        self._start(0, 302, Location="/good")

    def send_loop(self):
        self._start(0, 302, Location="/loop")

    def send_elsewhere(self):
        self._start(0, 302, Location="http://example.org/good")

    def send_local_file(self):
        self._start(0, 302, Location="file:///etc/passwd")

    def send_missing(self):
        self.send_error(404)

    def send_overloaded(self):
        self.send_error(503)

    def send_nothing(self):
        self._start(status=204)

    def send_gibberish(self):
        self.wfile.write(b"not http at all\r\n\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture
def full(monkeypatch):
    """The full profile, without probing the machine."""
    import torch

    monkeypatch.setattr(profile, "_current", profile.Profile("full", torch.device("cpu"), "fp32", {}))


@pytest.fixture
def quick(monkeypatch):
    import torch

    monkeypatch.setattr(profile, "_current", profile.Profile("quick", torch.device("cpu"), "fp32", {}))


@pytest.fixture
def server(full, monkeypatch):
    monkeypatch.setattr(download, "_LOCAL_HTTP", True)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.requests, server.release = [], threading.Event()
    server.handle_error = lambda *args: None  # clients that hang up are what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, name, folder, **options):
    return fetch(f"{server.url}/{name}", folder=folder, **({"sha256": SHA} | options))


def assert_refused(server, name, folder, match, **options):
    with pytest.raises(DownloadError, match=match):
        get(server, name, folder, **options)
    assert not folder.exists() or list(folder.iterdir()) == []


# What works


@pytest.mark.parametrize("name", ["good", "unannounced", "chunked.whole", "moved"])
def test_a_file_arrives_whole(server, tmp_path, name):
    path = get(server, name, tmp_path / "new" / "folder", filename="data.bin")
    assert path == tmp_path / "new" / "folder" / "data.bin"
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_the_name_comes_from_the_address(server, tmp_path):
    assert get(server, "good.a%20b.zip?download=1", tmp_path).name == "good.a b.zip"


def test_md5_alone_and_both_sums(server, tmp_path):
    assert get(server, "good", tmp_path / "a", sha256=None, md5=MD5.upper()).read_bytes() == BODY
    assert get(server, "good", tmp_path / "b", md5=MD5).read_bytes() == BODY
    assert_refused(server, "good", tmp_path / "c", "md5 is", md5="0" * 32)


def test_a_file_that_is_there_is_checked_and_not_fetched_again(server, tmp_path):
    path = get(server, "good", tmp_path)
    written = path.stat().st_mtime_ns
    assert get(server, "good", tmp_path) == path
    assert server.requests == ["/good"]
    assert path.stat().st_mtime_ns == written


def test_a_damaged_file_is_named_and_replaced(server, tmp_path, capsys):
    path = get(server, "good", tmp_path)
    path.write_bytes(BODY[:-1])
    assert get(server, "good", tmp_path).read_bytes() == BODY
    said = capsys.readouterr().out
    assert str(path) in said
    assert "is damaged" in said
    assert SHA in said
    assert len(server.requests) == 2


def test_a_damaged_file_stays_until_a_good_one_is_there(server, tmp_path):
    path = tmp_path / "wrong"
    path.write_bytes(b"old")
    with pytest.raises(DownloadError, match="sha256 is"):
        get(server, "wrong", tmp_path)
    assert path.read_bytes() == b"old"


# The quick profile


def test_quick_never_asks_the_network(server, quick, tmp_path):
    expected = (
        r"^good must be downloaded \(47 MB\); the quick profile never touches the network: "
        r'call tl.use_profile\("full"\) or set TL_PROFILE=full$'
    )
    assert_refused(server, "good", tmp_path / "folder", expected, size_hint=47_286_322)
    assert_refused(server, "good", tmp_path / "folder", "good must be downloaded; the quick profile")
    assert server.requests == []
    assert not (tmp_path / "folder").exists()


def test_quick_takes_a_sound_file_that_is_there_and_refuses_a_damaged_one(server, quick, tmp_path):
    path = tmp_path / "good"
    path.write_bytes(BODY)
    assert get(server, "good", tmp_path) == path
    path.write_bytes(b"x")
    with pytest.raises(DownloadError, match=r"good is damaged .* downloaded anew; the quick profile"):
        get(server, "good", tmp_path)
    assert path.read_bytes() == b"x"
    assert server.requests == []


# What servers and networks do


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("truncated", r"the connection ended after 0.5 MB of 1.0 MB. Nothing was kept; try again"),
        ("chunked.half", r"the connection broke \(IncompleteRead\) after 1.0 MB"),
        ("reset", r"the connection (broke \(ConnectionResetError\)|ended) after 0.\d MB of 1.0 MB"),
        ("wrong", rf"1.0 MB arrived, but the sha256 is [0-9a-f]{{64}}, expected {SHA}"),
        ("missing", "the server says 404 Not Found; the address may have moved"),
        ("overloaded", "the server says 503 Service Unavailable; try again later"),
        ("nothing", "the server says 204 No Content and sends no file"),
        ("loop", "the server says 302 .*infinite loop"),
        ("elsewhere", "refusing to fetch 'http://example.org/good': only https"),
        ("local_file", "the server says 302 .*not allowed|only https"),
        ("gibberish", r"'127.0.0.1' could not be reached \(not http"),
    ],
)
def test_failures_are_sentences_and_leave_nothing(server, tmp_path, name, match):
    assert_refused(server, name, tmp_path, match)


def test_too_much_is_stopped(server, tmp_path):
    assert_refused(server, "endless", tmp_path, "sends more than 3.0 MB; stopped", size_hint=1_500_000)
    announced = "announces 1,000,000 MB where about 1.0 MB were expected; refused"
    assert_refused(server, "huge", tmp_path, announced, size_hint=10**6)
    assert_refused(server, "huge", tmp_path, "announces 1,000,000 MB; refused")
    assert get(server, "good", tmp_path, size_hint=len(BODY) // 2).exists()  # twice the hint is allowed


def test_silence_is_not_waited_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.2)
    assert_refused(server, "silent", tmp_path, r"no byte arrived for 0.2 s after 0.0 MB of 1.0 MB")
    assert_refused(server, "mute", tmp_path, "'127.0.0.1' did not answer within 0.2 s")


def test_a_trickle_is_not_waited_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_WINDOW", 0.3)
    assert_refused(server, "trickle", tmp_path, "fewer than 1000 bytes a second arrived")


def test_a_server_that_is_not_there(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match=r"'127.0.0.1' could not be reached .*connected to a network\?"):
            fetch(url, sha256=SHA, folder=tmp_path)


def test_a_name_that_cannot_be_resolved(full, tmp_path, monkeypatch):
    def nowhere(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError, match=r"the name 'a.invalid' could not be resolved; .* network\?"):
        fetch("https://a.invalid/x", sha256=SHA, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_cannot_be_trusted(server, tmp_path):
    """A plain server answers a TLS greeting with something that is not TLS."""
    with pytest.raises(DownloadError, match=r"no trusted connection to '127.0.0.1' .*clock and certificates"):
        fetch(server.url.replace("http:", "https:") + "/good", sha256=SHA, folder=tmp_path)


# What the caller does


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://example.org/x",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "https:///x",
        "example.org/x",
        "",
        "https://[::1/x",
    ],
)
def test_only_https(full, tmp_path, url):
    with pytest.raises(DownloadError, match=r"only https addresses are fetched|is not an address"):
        fetch(url, sha256=SHA, folder=tmp_path)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.example.org/x", "http://localhost@example.org/x", "http://example.org/127.0.0.1"]
)
def test_the_switch_for_tests_opens_local_addresses_only(full, tmp_path, monkeypatch, url):
    monkeypatch.setattr(download, "_LOCAL_HTTP", True)
    with pytest.raises(DownloadError, match="only https addresses are fetched"):
        fetch(url, sha256=SHA, folder=tmp_path)


def test_no_checksum_no_download(server, tmp_path):
    assert_refused(server, "good", tmp_path, "without a checksum: give sha256=", sha256=None)
    assert_refused(server, "good", tmp_path, "sha256 must be 64 hexadecimal digits", sha256="abc")
    assert_refused(server, "good", tmp_path, "sha256 must be 64 hexadecimal digits", sha256="x" * 64)
    assert server.requests == []


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "C:x", "..", "/x", "\\x"])
def test_the_name_must_be_plain(server, tmp_path, name):
    assert_refused(server, "good", tmp_path, "is not a plain file name", filename=name)
    assert server.requests == []


def test_an_address_without_a_name_needs_one(server, tmp_path):
    with pytest.raises(DownloadError, match=r"'' is not a plain file name .* give filename="):
        fetch(server.url + "/", sha256=SHA, folder=tmp_path)


# The disk


def test_a_full_disk_is_noticed_beforehand(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    assert_refused(server, "good", tmp_path, r"good needs 1.0 MB, but .* has 0.0 MB left: make room, or let TL_HOME")


def test_a_disk_that_fills_up_meanwhile(server, tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert_refused(server, "good", tmp_path, "could not be written or read: the disk is full: make room")


def test_the_folder_is_a_file(server, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DownloadError, match="could not be written or read"):
        get(server, "good", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_target_is_a_folder(server, tmp_path):
    (tmp_path / "good" / "mine").mkdir(parents=True)
    with pytest.raises(DownloadError, match="good could not be written or read"):
        get(server, "good", tmp_path)
    assert (tmp_path / "good" / "mine").is_dir()


def test_ctrl_c_leaves_nothing(server, tmp_path, monkeypatch):
    chunks = download._chunks

    def interrupted(*args):
        yield next(chunks(*args))
        assert [p.suffix for p in tmp_path.iterdir()] == [".part"]  # half-way
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(server, "good", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_of_one_file_at_a_time(server, tmp_path):
    problems = []

    def work():
        try:
            assert get(server, "good", tmp_path).read_bytes() == BODY
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [p.name for p in tmp_path.iterdir()] == ["good"]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TL_HOME", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("TL_HOME", "~/there")
    assert cache_folder() == Path.home() / "there"
    for unset in (lambda: monkeypatch.setenv("TL_HOME", ""), lambda: monkeypatch.delenv("TL_HOME")):
        unset()
        assert "tlhelpers" in cache_folder().parts
        assert cache_folder().is_absolute()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 MB"), (400_000, "0.4 MB"), (47_286_322, "47 MB"), (1.2e9, "1,200 MB")]
)
def test_megabytes(size, text):
    assert megabytes(size) == text


# files.py


def test_checksums_are_those_of_hashlib(tmp_path):
    path = tmp_path / "f"
    data = b"x" * (files.CHUNK + 1)
    path.write_bytes(data)
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()
    assert digest_of(str(path), "md5") == hashlib.md5(data, usedforsecurity=False).hexdigest()
    path.write_bytes(b"")
    assert sha256_of(path) == hashlib.sha256().hexdigest()


def test_atomic_write_replaces_at_the_end_only(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_write_undoes_itself(tmp_path, error):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def write():
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_atomic_write_needs_a_folder_and_no_folder_in_its_place(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"cannot write f: the folder .*gone does not exist"),
        atomic_write(tmp_path / "gone" / "f"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="a folder has that name"), atomic_write(tmp_path):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor links for everyone")
def test_atomic_write_keeps_links_and_the_usual_mode(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link, plain = tmp_path / "disk" / "real", tmp_path / "link", tmp_path / "plain"
    link.symlink_to(target)
    plain.write_bytes(b"")
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == plain.stat().st_mode


def test_old_leftovers_go_and_young_ones_stay(tmp_path):
    old, young, other = (tmp_path / name for name in (".f.01.part", ".f.02.part", ".g.01.part"))
    for part in (old, young, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (time.time() - 2 * files.STALE,) * 2)
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
    assert not old.exists()
    assert young.exists()
    assert other.exists()


WRITER = """
import sys, time
from tlhelpers.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half of the new")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def killed_writer(path, stop):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"writing"
        assert len(list(path.parent.glob(".f.*.part"))) == 1
        stop(process)


def test_killing_a_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    killed_writer(path, subprocess.Popen.kill)
    assert path.read_bytes() == b"old"


def test_killing_the_first_writer_leaves_no_file(tmp_path):
    killed_writer(tmp_path / "f", subprocess.Popen.kill)
    assert not (tmp_path / "f").exists()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to one process on Windows")
def test_interrupting_a_writer_cleans_up(tmp_path, capfd):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    killed_writer(path, lambda process: process.send_signal(signal.SIGINT))
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"old"
    assert "KeyboardInterrupt" in capfd.readouterr().err


FETCHER = """
import sys, types
# Of the profile only the name counts here, and the real module imports torch, which takes seconds.
sys.modules["tlhelpers.device"] = types.SimpleNamespace(current=lambda: types.SimpleNamespace(name="full"))
from tlhelpers.data import download
download._LOCAL_HTTP = True
download.fetch(sys.argv[1], sha256="0" * 64, folder=sys.argv[2], filename="f")
"""


def test_killing_a_download_leaves_no_file(server, tmp_path):
    command = [sys.executable, "-c", FETCHER, f"{server.url}/trickle", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
