# SPDX-License-Identifier: Apache-2.0
"""The server of the metrics: where it listens, what it answers, and what strangers can make of it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest
from live_snapshots import OPENMETRICS, Served, container, snapshot

from tracer.errors import UsageError
from tracer.live import server as serving
from tracer.live.metrics import answering
from tracer.live.metrics.address import Address, listen, parse_address, url_of
from tracer.live.metrics.answering import Answers
from tracer.live.server import LARGEST_REQUEST_BYTES, MOST_CONNECTIONS, Answer, Server

HERE = Address("127.0.0.1", 0)
LARGE = b"x" * (12 << 20)
_WAIT_SECONDS = 30


class Running:
    """A server in this process."""

    def __init__(self, answer: Callable[[str, str, str], Answer]) -> None:
        self.failures: list[Exception] = []
        listening = listen(HERE)
        self.url = url_of(listening)
        self.port = listening.getsockname()[1]
        self.thread = Server(listening, answer, self.failures.append)
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=_WAIT_SECONDS)

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of what is answered until the connection ends."""
        with self.connect() as client:
            client.sendall(request)
            head, _, body = read_all(client).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body

    def get(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())


def read_all(client: socket.socket) -> bytes:
    came = b""
    while part := client.recv(1 << 20):
        came += part
    return came


@pytest.fixture
def missing() -> list[str]:
    return []


@pytest.fixture
def running(missing: list[str]) -> Iterator[Running]:
    exposition = Served(snapshot([container(1)])).exposition
    one = Running(Answers(exposition, lambda: missing[0] if missing else None))
    yield one
    one.thread.finish()
    one.thread.join(_WAIT_SECONDS)
    assert not one.thread.is_alive()


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("9464", ("127.0.0.1", 9464), "127.0.0.1:9464"),
        (":9464", ("127.0.0.1", 9464), "127.0.0.1:9464"),
        ("0.0.0.0:1", ("0.0.0.0", 1), "0.0.0.0:1"),
        ("[::1]:9464", ("::1", 9464), "[::1]:9464"),
        ("[fe80::1%lo]:9464", ("fe80::1%lo", 9464), "[fe80::1%lo]:9464"),
        ("node-1.example:80", ("node-1.example", 80), "node-1.example:80"),
    ],
)
def test_addresses(text: str, address: tuple[str, int], shown: str) -> None:
    assert parse_address(text) == address
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", "70000", "-1", "::1", "::1:9464", "[]:1", "[::1]", "a b:1", "http://x:1", "１２",
             "1.5", "x/y:1", "1\n", "*:1/metrics"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text)


def test_a_port_that_is_taken_or_no_address_of_ours_is_one_line() -> None:
    with listen(HERE) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(UsageError, match=r"--metrics: cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            listen(address)
    for host in ("192.0.2.1", "no-such-host.invalid", "a" * 70, "\udcff"):
        with pytest.raises(UsageError, match=r"--metrics: cannot listen on .*: .+"):
            listen(Address(host, 0))


def test_no_process_that_is_started_later_has_the_socket() -> None:
    with listen(HERE) as listening:
        assert not listening.get_inheritable()


def test_ipv6_is_served_where_it_is() -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        with pytest.raises(UsageError):
            listen(Address("::1", 0))
        return
    with listen(Address("::1", 0)) as listening:
        assert url_of(listening).startswith("http://[::1]:")


def test_paths_and_methods(running: Running, missing: list[str]) -> None:
    assert running.get("/live")[::2] == (200, b"live\n")
    assert running.get("/ready")[::2] == (200, b"ready\n")
    missing.append("no tick was seen for 3.0 s")
    assert running.get("/ready")[::2] == (503, b"not ready: no tick was seen for 3.0 s\n")
    assert running.get("/live")[0] == 200
    for path in ("/mark", "/metrics/", "/metrics/../x", "//metrics", "/%6detrics", "http://x/metrics"):
        assert running.get(path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get"):
        status, headers, _body = running.get("/metrics", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD"), method
    assert not running.failures


def test_formats_by_what_is_asked_for(running: Running) -> None:
    status, headers, body = running.get("/metrics?x=1")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert int(headers["Content-Length"]) == len(body)
    assert b"tracer_container_cpu_seconds_total" in body
    asked = f"{OPENMETRICS},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    _status, headers, body = running.get("/metrics", accept=asked)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_who_asks_again_at_once_has_the_same_answer(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SHORTEST_INTERVAL_SECONDS", 1e9)
    assert running.get("/metrics")[2] == running.get("/metrics")[2]
    assert running.get("/metrics", accept=OPENMETRICS)[2].endswith(b"# EOF\n")
    monkeypatch.setattr(answering, "SHORTEST_INTERVAL_SECONDS", 0.0)
    assert b"tracer_scrapes_total 3.0\n" in running.get("/metrics")[2]


def test_a_head_is_no_scrape(running: Running) -> None:
    assert running.get("/metrics", "HEAD")[::2] == (200, b"")
    assert b"tracer_scrapes_total 1.0\n" in running.get("/metrics")[2]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
        (b"GET /live HTTP/1.1\r\nAccept: \xff\xfe\r\nno colon\r\n\r\n", 200),
        (b"GET /live HTTP/1.0\n\n", 200),
        (b"GET /" + b"a" * 2 * LARGEST_REQUEST_BYTES + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 3 * LARGEST_REQUEST_BYTES, 431),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + b"a" * 500_000, 405),
    ],
)
def test_hostile_requests_are_answered(
    running: Running, monkeypatch: pytest.MonkeyPatch, request_: bytes, status: int
) -> None:
    # However late this one is with the rest of what it sends.
    monkeypatch.setattr(serving, "_END_SECONDS", 30)
    assert running.ask(request_)[0] == status
    assert not running.failures


def test_those_who_do_nothing_keep_nobody_out(running: Running) -> None:
    with contextlib.ExitStack() as idle:
        clients = [idle.enter_context(running.connect()) for _ in range(3 * MOST_CONNECTIONS)]
        for client in clients[::2]:
            with contextlib.suppress(OSError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nA")
        assert running.get("/live")[0] == 200
        # The oldest were told to go.
        assert clients[0].recv(1) == b""
        assert len(running.thread._connections) <= MOST_CONNECTIONS


def test_who_is_slow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(serving, "ANSWER_SECONDS", 0.2)
    one = Running(lambda _method, _path, _accept: Answer(HTTPStatus.OK, LARGE))
    try:
        with one.connect() as asks, one.connect() as takes:
            asks.sendall(b"GET / HT")
            takes.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert asks.recv(1) == b""
            end = time.monotonic() + _WAIT_SECONDS
            while one.thread._connections and time.monotonic() < end:
                time.sleep(0.05)
            assert not one.thread._connections
            with contextlib.suppress(ConnectionResetError):
                assert len(read_all(takes)) < len(LARGE)
    finally:
        one.thread.finish()
        one.thread.join(_WAIT_SECONDS)


def test_one_that_takes_a_large_answer_gets_all_of_it() -> None:
    one = Running(lambda _method, _path, _accept: Answer(HTTPStatus.OK, LARGE))
    try:
        assert one.get("/")[2] == LARGE
    finally:
        one.thread.finish()
        one.thread.join(_WAIT_SECONDS)


def test_a_defect_is_told_and_ends_nothing() -> None:
    def fail(_method: str, path: str, _accept: str) -> Answer:
        if path == "/defect":
            raise ValueError("no")
        return Answer(HTTPStatus.OK, b"ok\n")

    one = Running(fail)
    try:
        assert one.get("/defect")[::2] == (500, b"Internal Server Error\n")
        assert one.get("/")[0] == 200
        assert [str(failure) for failure in one.failures] == ["no"]
    finally:
        one.thread.finish()
        one.thread.join(_WAIT_SECONDS)
    with pytest.raises(ConnectionRefusedError):
        one.connect()


def test_many_at_once_all_have_an_answer(running: Running) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(running.get("/metrics")[0])) for _ in range(MOST_CONNECTIONS - 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_WAIT_SECONDS)
    assert found == [200] * len(threads)
