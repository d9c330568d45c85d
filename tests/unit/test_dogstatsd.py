# SPDX-License-Identifier: Apache-2.0
"""What a datagram of DogStatsD says, in all versions of the protocol that are read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.ingest.dogstatsd import KINDS, is_ignored, messages_of, parse_message
from tracer.ingest.messages import LONGEST_NAME, LONGEST_TAGS, MalformedError, Message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"page.views:1|c", Message("page.views", "counter", (1.0,))),
        (b"fuel.level:0.5|g", Message("fuel.level", "gauge", (0.5,))),
        (b"temperature:-5e1|g", Message("temperature", "gauge", (-50.0,))),
        (b"song.length:240|h|@0.5", Message("song.length", "histogram", (240.0,), weight=2.0)),
        (b"http.request:12.5|ms|#path:/a,GET", Message("http.request", "timer", (12.5,), tags="path:/a,GET")),
        (b"users.uniques:x 12|s", Message("users.uniques", "set", (), ("x 12",))),
        (b"latency:1:2:3|d|@0.1", Message("latency", "distribution", (1.0, 2.0, 3.0), weight=10.0)),
        (b"a:1|c|#x:y|c:in-42|T1656581400", Message("a", "counter", (1.0,), (), 1.0, "x:y", 1656581400.0, "in-42")),
        # What has no meaning there is passed over, and so are fields of later versions.
        (b"a:1|ms|T1656581400", Message("a", "timer", (1.0,))),
        (b"a:1|g|@0.5", Message("a", "gauge", (1.0,))),
        (b"a:1|c|e:it-false,pu-x|card:low|?\r", Message("a", "counter", (1.0,))),
    ],
)
def test_a_message_is_what_the_protocol_says(line: bytes, message: Message) -> None:
    assert parse_message(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"", b"a", b"a|c", b"a:1", b":1|c", b"a:|c", b"a:1|", b"a:1|x", b"a:x|c", b"a:1:|h", b"a:nan|g", b"a:inf|g",
        b"a:1e999|g", b"a:1_0|g", b"a:0x1|g", b"a:1|c|@0", b"a:1|c|@1.5", b"a:1|c|@-1", b"a:1|c|@1e-300", b"a:1|c|@x",
        b"a:1|c|Tx", b"a:1|c|T-5", b"a:1|c|T1_0", b"\xff:1|c", b"a\x1b[0m:1|c", b"a:1|c|#\x07", b"a:|s",
        b"a" * (LONGEST_NAME + 1) + b":1|c", b"a:1|c|#" + b"t" * (LONGEST_TAGS + 1), "a:٣|g".encode(),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_message(line)


def test_a_datagram_has_several_and_others_beside_them() -> None:
    lines = list(messages_of(b"a:1|c\n\n_e{1,1}:a|b\n_sc|db|0\nb:2|c\n"))
    assert [is_ignored(line) for line in lines] == [False, True, True, False]


@given(
    name=st.from_regex(r"[a-z][a-z0-9_.]{0,40}", fullmatch=True),
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    kind=st.sampled_from(sorted(set(KINDS) - {"s"})),
    rate=st.floats(0.001, 1),
)
def test_what_was_packed_comes_out(name: str, values: list[float], kind: str, rate: float) -> None:
    line = f"{name}:{':'.join(map(repr, values))}|{kind}|@{rate!r}".encode()
    message = parse_message(line)
    assert (message.name, message.values, message.kind) == (name, tuple(values), KINDS[kind])
    assert math.isclose(message.weight, 1.0 if kind == "g" else 1 / rate)


@given(st.binary(max_size=300))
def test_anything_is_read_or_refused(datagram: bytes) -> None:
    for line in messages_of(datagram):
        try:
            message = parse_message(line)
        except MalformedError:
            continue
        assert message.name.isprintable()
        assert all(map(math.isfinite, message.values))
        assert message.values or message.members
