"""A proxy in front of an S3 server that spoils a share of the answers, drawn request by request."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STORM = {"503": 0.30, "reset": 0.05, "500": 0.02, "hang": 0.01, "truncate": 0.05, "flip": 0.02}
"""Share of the answers that are spoiled, by kind."""

_CODES = {"503": "SlowDown", "500": "InternalError", "403": "SignatureDoesNotMatch"}

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class S3Proxy(ThreadingHTTPServer):
    """Forwards to `upstream`; `shares` says how often it does worse."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self.spoil({}, seed=0)

    def spoil(self, shares: Mapping[str, float], *, seed: int) -> None:
        """From now on; the counts begin at zero."""
        self._shares, self._rng = dict(shares), random.Random(seed)
        self._last: float = float("inf")
        self.num_requests = 0
        self.spoiled: Counter[str] = Counter()

    def relent_after(self, num_requests: int) -> None:
        """Spoil nothing after so many requests."""
        self._last = num_requests

    def draw(self) -> tuple[str, float]:
        """What happens to the next request ("" nothing), and where in its answer, in [0, 1)."""
        with self._lock:
            self.num_requests += 1
            if self.num_requests > self._last:
                return "", 0.0
            kinds = [*self._shares, ""]
            weights = [*self._shares.values(), 1 - sum(self._shares.values())]
            return self._rng.choices(kinds, weights)[0], self._rng.random()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: S3Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind, where = self.server.draw()
        if kind in _CODES:
            self._note(kind)
            # Real servers repeat the request's key and signature in some refusals.
            said = self.headers.get("Authorization", "")
            body = f"<Error><Code>{_CODES[kind]}</Code><Message>{said}</Message></Error>"
            self._answer(int(kind), {}, body.encode())
        elif kind == "reset":
            self._note(kind)
            # With no time to linger, closing sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif kind == "hang":
            self._note(kind)
            self.server.stopping.wait(60)
            self.close_connection = True
        else:
            self._forward(sent, kind, where)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _forward(self, sent: bytes, kind: str, where: float) -> None:
        upstream = http.client.HTTPConnection(str(self.server.upstream.hostname), self.server.upstream.port)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, sent, dict(self.headers))
            response = upstream.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
            body = response.read()
        size = int(response.headers.get("Content-Length", len(body)))
        cut: int | None = None
        if kind == "truncate" and body and response.status < 300:
            self._note(kind)
            cut = int(where * len(body))
        if kind == "flip" and _has_digest(headers) and response.status < 300:
            self._note(kind)
            bit = int(where * 8 * len(body))
            body = bytearray(body)
            body[bit // 8] ^= 1 << bit % 8
        self._answer(response.status, headers, bytes(body), size=size, cut=cut)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        size: int | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def _note(self, kind: str) -> None:
        with self.server._lock:
            self.server.spoiled[kind] += 1

    def log_message(self, format: str, *args: object) -> None:
        pass


def _has_digest(headers: Mapping[str, str]) -> bool:
    """Whether a flipped bit can be noticed: by the store's checksum of a whole object, or by those of the
    pages of a Parquet file, which cover all but its footer."""
    lower = {name.lower(): value for name, value in headers.items()}
    extent = re.fullmatch(r"bytes \d+-(\d+)/(\d+)", lower.get("content-range", ""))
    return "x-amz-checksum-crc32" in lower or (extent is not None and int(extent[1]) + 1 < int(extent[2]))


@contextlib.contextmanager
def s3_proxy(upstream: str) -> Iterator[S3Proxy]:
    """A proxy that spoils nothing yet."""
    proxy = S3Proxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()
