# SPDX-License-Identifier: Apache-2.0
"""An S3 server of a test's own on the loopback (rclone's, which checks signatures), behind a proxy that errs."""

import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote

BUCKET = "results"
_KEY, _SECRET = "tracer-test-key", "tracer-test-secret"
_WAIT_SECONDS = 60
_CACHE_TIME, _LONGER_SECONDS = "100ms", 0.15

# What the proxy does to a request, beside passing it on.
Fault = Literal["503", "403", "reset", "truncate", "slow"]


class Request(NamedTuple):
    """`path` is the object's, below the bucket."""

    method: str
    path: str

    @property
    def is_put(self) -> bool:
        """Whether it sends an object or a part of one."""
        return self.method == "PUT"


class S3:
    """`objects` is where they lie as files. `fault` is asked of each request what goes wrong with it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.objects = directory / BUCKET
        self.requests: list[Request] = []
        self.fault: Callable[[Request], Fault | None] = lambda _request: None
        self._upstream = port
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                proxy._pass_on(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *_arguments: object) -> None:
                pass

        self.proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.proxy.daemon_threads = True

    @property
    def environment(self) -> dict[str, str]:
        """For whoever is to use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.server_address[1]}",
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
        }

    def puts(self) -> list[str]:
        """What was sent, in order."""
        return [request.path for request in self.requests if request.is_put]

    def _pass_on(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        request = Request(handler.command, unquote(handler.path.partition("?")[0].removeprefix(f"/{BUCKET}/")))
        self.requests.append(request)
        fault = self.fault(request)
        if fault == "reset":
            # Not a regular end (SO_LINGER of 0).
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            handler.connection.close()
            handler.close_connection = True
            return
        if fault in ("503", "403"):
            code = {"503": b"SlowDown", "403": b"AccessDenied"}[fault]
            _send(handler, int(fault), {}, b"<Error><Code>" + code + b"</Code></Error>")
            return
        if fault == "slow":
            time.sleep(0.2)
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=_WAIT_SECONDS)
        headers = dict(handler.headers.items())
        if fault == "truncate":
            # As by a cache that answers before it has written: what arrived is less than what was signed.
            (self.objects / request.path).parent.mkdir(parents=True, exist_ok=True)
            (self.objects / request.path).write_bytes(body[: len(body) // 2])
            # The server looks only after that whether somebody else has put something there.
            time.sleep(_LONGER_SECONDS)
            _send(handler, 200, {"ETag": '"0"'}, b"")
            return
        with contextlib.closing(connection):
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        passed = {name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"}
        # rclone answers a request for a range with it, but says 200, which readers refuse; S3 says 206.
        is_range = answer.status == 200 and any(name.lower() == "content-range" for name in passed)
        _send(handler, 206 if is_range else answer.status, passed, content)


def _send(handler: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() != "content-length" or handler.command == "HEAD":
            handler.send_header(name, value)
    if handler.command != "HEAD":
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(b"" if handler.command == "HEAD" else body)


@contextmanager
def s3_server(directory: Path) -> Iterator[S3]:
    """One with an empty bucket, for the time of a `with`; all of it is below `directory`."""
    (directory / BUCKET).mkdir(parents=True)
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert rclone is not None, "no rclone: scripts/setup dev brings it"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_SECRET}"]
    command += ["--vfs-cache-mode", "off", "--dir-cache-time", _CACHE_TIME, "--config", "", directory]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    s3 = S3(directory, port)
    thread = threading.Thread(target=s3.proxy.serve_forever, daemon=True)
    thread.start()
    try:
        _await_port(port, server)
        yield s3
    finally:
        s3.proxy.shutdown()
        s3.proxy.server_close()
        thread.join(_WAIT_SECONDS)
        server.terminate()
        server.wait(_WAIT_SECONDS)


def _await_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None, "rclone ended"
            assert time.monotonic() < end
            time.sleep(0.05)
