# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nri_fake_runtime import frame, ttrpc

from tracer.containers.nri.framing import (
    MAX_DATA_BYTES,
    MAX_SENT_PAYLOAD_BYTES,
    Message,
    MessageReader,
    NriError,
    PreparedResponse,
    encode,
)

REPOSITORY = Path(__file__).parents[2]
GENERATED = ("messages_pb2.py", "messages_pb2.pyi")

numbers = st.integers(0, 2**32 - 1)
known_messages = st.builds(Message, st.sampled_from([1, 2]), numbers, st.integers(0, 255), st.binary(max_size=300))


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at these places, wherever they are."""
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


def read(data: Sequence[bytes]) -> list[Message]:
    reader = MessageReader((1, 2))
    return [message for piece in data for message in reader.feed(piece)]


@given(st.lists(known_messages, max_size=5), st.lists(st.integers(0), max_size=6), st.lists(st.integers(0), max_size=6))
def test_messages_come_out_whole_however_they_were_cut(
    sent: list[Message], frame_cuts: list[int], socket_cuts: list[int]
) -> None:
    data = b""
    for message in sent:
        payload = ttrpc(message.stream, message.type, message.data)
        data += b"".join(frame(message.connection, piece) for piece in pieces(payload, frame_cuts))
    assert read(pieces(data, socket_cuts)) == sent


def test_connections_are_streams_of_their_own() -> None:
    first, second = ttrpc(1, 1, b"first"), ttrpc(3, 2, b"second")
    data = frame(1, first[:7]) + frame(2, second[:12]) + frame(9, b"stranger") + frame(1, first[7:] + first[:10])
    data += frame(2, second[12:]) + frame(1, first[10:])
    expected = [Message(1, 1, 1, b"first"), Message(2, 3, 2, b"second"), Message(1, 1, 1, b"first")]
    assert read([data]) == expected
    assert read([data[place : place + 1] for place in range(len(data))]) == expected


def test_the_largest_message_is_read_and_a_larger_one_ends_the_connection() -> None:
    largest = b"x" * MAX_DATA_BYTES
    assert read([frame(1, ttrpc(1, 1, largest))]) == [Message(1, 1, 1, largest)]
    split = ttrpc(1, 1, largest)
    assert read([frame(1, split[:5]) + frame(1, split[5:])]) == [Message(1, 1, 1, largest)]

    with pytest.raises(NriError, match="a frame of 4194315 bytes, more than NRI allows"):
        read([(1).to_bytes(4, "big") + (MAX_DATA_BYTES + 11).to_bytes(4, "big")])
    with pytest.raises(NriError, match="a message of 4194305 bytes, more than ttrpc allows"):
        read([frame(1, (MAX_DATA_BYTES + 1).to_bytes(4, "big") + bytes(6))])


def test_unknown_connections_take_no_memory() -> None:
    reader = MessageReader((1, 2))
    piece = b"x" * (1 << 16)
    tracemalloc.start()
    try:
        for _ in range(8):
            assert list(reader.feed((7).to_bytes(4, "big") + MAX_DATA_BYTES.to_bytes(4, "big"))) == []
            for _ in range(MAX_DATA_BYTES // len(piece)):
                assert list(reader.feed(piece)) == []
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert list(reader.feed(frame(2, ttrpc(1, 2, b"")))) == [Message(2, 1, 2, b"")]


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_are_messages_or_the_end(data: list[bytes]) -> None:
    reason = ""
    try:
        read(data)
    except NriError as error:
        reason = str(error)
    assert reason.isprintable()


@given(st.lists(st.integers(0, 5), max_size=60))
def test_small_lengths_of_nothing_are_no_endless_loop(lengths: list[int]) -> None:
    data = b"".join(frame(1, bytes(length)) for length in lengths)
    total = sum(lengths)
    assert read([data]) == [Message(1, 0, 0, b"")] * (total // 10)


@given(known_messages)
def test_what_is_encoded_is_one_frame(message: Message) -> None:
    assert encode(message) == frame(message.connection, ttrpc(message.stream, message.type, message.data))


def test_no_frame_is_sent_that_the_runtime_could_not_read() -> None:
    longest = b"x" * (MAX_SENT_PAYLOAD_BYTES - 10)
    assert len(encode(Message(1, 1, 2, longest))) == 8 + MAX_SENT_PAYLOAD_BYTES
    with pytest.raises(ValueError, match="4097 bytes"):
        encode(Message(1, 1, 2, longest + b"x"))


@given(numbers, st.binary(max_size=100))
def test_a_prepared_response_differs_in_its_stream_only(stream: int, data: bytes) -> None:
    assert PreparedResponse(data).on(stream) == frame(1, ttrpc(stream, 2, data))


def test_the_generated_modules_are_those_of_the_messages(tmp_path: Path) -> None:
    arguments = ["-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "tracer/containers/nri/messages.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=REPOSITORY, check=True)
    for name in GENERATED:
        made = tmp_path / "tracer" / "containers" / "nri" / name
        committed = REPOSITORY / "tracer" / "containers" / "nri" / name
        assert committed.read_text() == made.read_text(), "run `make messages`"
