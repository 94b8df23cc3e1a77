"""A server on this machine that answers by a script: it truncates, stalls, lies and recovers."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CUT = 40_000
"""Bytes after which a transfer breaks."""


class Server(ThreadingHTTPServer):
    """Answers each request by the next item of `script` (the last one over and over); keeps what was asked."""

    daemon_threads = True

    def __init__(self, *script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked = list(script), []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/archive.zip"

    def handle_error(self, *_):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        script = self.server.script
        act = script.pop(0) if len(script) > 1 else script[0]
        self.server.asked.append(self.headers.get("Range"))
        act(self)

    def log_message(self, *_):
        """Quiet."""

    def ranged(self, content, *, upto=None, honour=True, length=True):
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and honour else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:upto])
        self.wfile.flush()


Act = Callable[[Handler], None]


def sends(content: bytes, **how) -> Act:
    """All of `content`, or of it what `Handler.ranged` is told."""
    return lambda handler: handler.ranged(content, **how)


def stalls(content: bytes) -> Act:
    """The beginning of `content`, and then nothing for longer than the tests wait."""

    def act(handler):
        handler.ranged(content, upto=CUT)
        time.sleep(0.6)

    return act


def fails(status: int) -> Act:
    return lambda handler: handler.send_error(status)
