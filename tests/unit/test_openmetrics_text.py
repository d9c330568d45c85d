# SPDX-License-Identifier: Apache-2.0
"""Expositions that applications push: what becomes of each sample, and how they come by a stream."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.ingest import text_connections
from tracer.ingest.messages import MalformedError, Message
from tracer.ingest.openmetrics import parse_exposition
from tracer.ingest.text_connections import LONGEST_TEXT, MOST_CONNECTIONS, TextConnections
from tracer.socket_files import SocketFile

OPEN = b"""# TYPE requests counter
requests_total{path="/a"} 5
# TYPE latency histogram
latency_bucket{le="0.1"} 3
latency_bucket{le="+Inf"} 4
latency_count 4
latency_sum 1.5
# TYPE memory gauge
memory 12.5 1656581400.25
# EOF
"""
OLDER = b"""# TYPE rpc_seconds summary
rpc_seconds{quantile="0.5"} NaN
rpc_seconds{quantile="0.9"} 0.25
rpc_seconds_count 7
up 1
"""


def test_totals_and_gauges_are_told_apart() -> None:
    assert list(parse_exposition(OPEN)) == [
        Message("requests_total", "cumulative", (5.0,), tags="path:/a"),
        Message("latency_bucket", "cumulative", (3.0,), tags="le:0.1"),
        Message("latency_bucket", "cumulative", (4.0,), tags="le:+Inf"),
        Message("latency_count", "cumulative", (4.0,)),
        Message("latency_sum", "cumulative", (1.5,)),
        Message("memory", "gauge", (12.5,), time_s=1656581400.25),
    ]
    assert list(parse_exposition(OLDER)) == [
        None,
        Message("rpc_seconds", "gauge", (0.25,), tags="quantile:0.9"),
        Message("rpc_seconds_count", "cumulative", (7.0,)),
        Message("up", "gauge", (1.0,)),
    ]


@pytest.mark.parametrize(
    "text", [b"\xff", b"a{ 1\n", b"a 1\n# EOF\nb 2\n# EOF\n", b"a x\n", b'a{b="\x07"} 1\n', b"a" * 300 + b" 1\n"]
)
def test_what_is_no_exposition_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError):
        list(parse_exposition(text))


@given(st.one_of(st.binary(max_size=400), st.text(alphabet='ab_{}="# \n1.e+-EOFTYPE,\\', max_size=200).map(str.encode)))
def test_anything_is_read_or_refused(text: bytes) -> None:
    try:
        for message in parse_exposition(text):
            assert message is None or message.name.isprintable()
    except MalformedError:
        pass


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SocketFile]:
    file = SocketFile(tmp_path / "text.sock", socket.SOCK_STREAM, None)
    yield file
    file.remove()


def connect(file: SocketFile) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(file.path))
    return client


def received(connections: TextConnections, number: int = 1) -> list[bytes]:
    texts: list[bytes] = []
    while len(texts) < number:
        texts += [text for _client, text in connections.receive(1)]
    return texts


def test_one_connection_can_bring_several_texts(file: SocketFile) -> None:
    with TextConnections(file.socket) as connections, connect(file) as client:
        client.sendall(OPEN[:20])
        assert not list(connections.receive(1))
        client.sendall(OPEN[20:] + OPEN)
        assert received(connections, 2) == [OPEN, OPEN]
        client.sendall(OLDER)
        client.close()
        assert received(connections) == [OLDER]
        assert connections.broken == 0


def test_what_is_too_long_or_too_slow_is_ended_and_counted(file: SocketFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with TextConnections(file.socket) as connections, connect(file) as long, connect(file) as slow:
        long.setblocking(False)
        sent = 0
        while not connections.broken:
            if sent <= LONGEST_TEXT:
                sent += long.send(b"a" * 65_536)
            list(connections.receive(1))
        assert sent <= LONGEST_TEXT + 2 * 65_536
        monkeypatch.setattr(text_connections, "TEXT_SECONDS", 0.0)
        slow.sendall(b"a")
        while connections.broken < 2:
            list(connections.receive(0.1))
        assert slow.recv(1) == b""


def test_those_who_do_nothing_keep_nobody_out(file: SocketFile) -> None:
    with TextConnections(file.socket) as connections:
        idle = [connect(file) for _number in range(MOST_CONNECTIONS + 3)]
        with connect(file) as client:
            client.sendall(OPEN)
            assert received(connections) == [OPEN]
        assert len(connections) <= MOST_CONNECTIONS
        for one in idle:
            one.close()
