"""Downloads: checked by hash, whole or not there, never in the quick profile."""

import errno
import hashlib
import http.server
import shutil
import socket
import threading
from pathlib import Path
from unittest import mock

import pytest
from toy import cases, refused

import tlhelpers as tl
from tlcourse.download import cache_folder, fetch

BODY = bytes(range(256)) * 4000  # 1 MB
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = "md5:" + hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /good, /half, /wrong, or with the status that the address names."""

    log_message = mock.Mock()

    def do_GET(self):
        self.server.requests.append(self.path)
        name = self.path.strip("/").partition("?")[0]
        if name.isdigit():
            return self.send_error(int(name))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write({"good": BODY, "half": BODY[: len(BODY) // 2], "wrong": BODY[:-1] + b"x"}[name])


@pytest.fixture
def server(monkeypatch):
    """A server on this machine, and the full profile."""
    tl.use_profile("full", device="cpu", precision="fp32")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.url = [], f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_is_fetched_once(server, tmp_path):
    for known_hash in (SHA, MD5):
        path = fetch(server.url + "good?download=1", known_hash, folder=tmp_path / "new")
        assert path.read_bytes() == BODY
        assert list((tmp_path / "new").iterdir()) == [path]
    assert server.requests == ["/good?download=1"]


def test_a_damaged_file_is_named_and_replaced_by_a_good_one_only(server, tmp_path, capfd):
    for name in ("good", "wrong"):
        (tmp_path / name).write_bytes(BODY[:-1])
    assert fetch(server.url + "good", SHA, folder=tmp_path).read_bytes() == BODY
    assert f"{tmp_path / 'good'} is damaged (its hash" in capfd.readouterr().out
    refused(tl.DownloadError, "does not match the known hash", fetch, server.url + "wrong", SHA, folder=tmp_path)
    assert (tmp_path / "wrong").read_bytes() == BODY[:-1]


def test_quick_never_asks_the_network(server, tmp_path, monkeypatch):
    tl.use_profile("quick", device="cpu", precision="fp32")
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    expected = r"^good must be downloaded \(47.3 MB\); the quick profile never touches the network: call tl.use_profile"
    with pytest.raises(tl.DownloadError, match=expected):
        fetch(server.url + "good", SHA, folder=tmp_path / "new", size_hint=47_286_322)
    assert not (tmp_path / "new").exists()
    (tmp_path / "good").write_bytes(BODY)
    assert fetch(server.url + "good", SHA, folder=tmp_path) == tmp_path / "good"
    (tmp_path / "good").write_bytes(b"x")
    with pytest.raises(tl.DownloadError, match=r"good is damaged .* downloaded again; the quick profile"):
        fetch(server.url + "good", SHA, folder=tmp_path)
    assert (tmp_path / "good").read_bytes() == b"x"


@cases(
    "name, known_hash, match",
    ("half", SHA, "check the network connection"),
    ("wrong", MD5, "MD5 hash .* does not match the known hash"),
    ("good", "0" * 64, "does not match the known hash"),
    ("404", SHA, "404 Client Error: Not Found .* try again later"),
    ("503", SHA, "503 Server Error: Service Unavailable .* try again later"),
    ("closed", SHA, "check the network connection, or try again later"),
)
def test_what_goes_wrong_is_said_and_leaves_nothing(server, tmp_path, name, known_hash, match):
    url = "http://127.0.0.1:1/closed" if name == "closed" else server.url + name
    refused(tl.DownloadError, f"^{url} could not be downloaded.*{match}", fetch, url, known_hash, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt("ctrl-c")])
def test_a_full_disk_is_named_and_leaves_nothing_nor_does_ctrl_c(server, tmp_path, monkeypatch, error):
    monkeypatch.setattr(shutil, "move", mock.Mock(side_effect=error))
    with pytest.raises((tl.DownloadError, KeyboardInterrupt), match=r"make room on the disk, or let TL_HOME|ctrl-c"):
        fetch(server.url + "good", SHA, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_is_the_readers_choice(monkeypatch):
    monkeypatch.setenv("TL_HOME", "~/there")
    assert cache_folder() == Path.home() / "there"
    monkeypatch.setenv("TL_HOME", "")
    assert "tlhelpers" in cache_folder().parts
