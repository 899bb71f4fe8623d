"""Serve the book that `make book` made to this computer's browsers: its page without Python needs a server.

`python tools/serve_book.py [FOLDER]` serves build/book, or another folder, until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Handler(SimpleHTTPRequestHandler):
    """Sends files as what they are, whatever Windows' registry says of them; tells nothing of each request."""

    def guess_type(self, path: Any) -> str:
        """The type that a browser needs for scripts and programs."""
        types = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
        return types.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, *_: Any) -> None:
        """Be silent."""


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a folder at a free port, for this computer alone."""
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "book"
    with server(chosen) as running, contextlib.suppress(KeyboardInterrupt):
        print(f"The book is at http://127.0.0.1:{running.server_port}/ until Ctrl-C.", flush=True)
        running.serve_forever()
