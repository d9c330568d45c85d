# SPDX-License-Identifier: Apache-2.0
"""A datagram of DogStatsD, versions 1.0 to 1.3 of the protocol; fields of later versions are passed over.

    <name>:<value>[:<value>…]|<type>[|@<sample rate>][|#<tag>,<tag>…][|c:<container>][|T<seconds since the epoch>]

One a line. Source: https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/
"""

import math
import re
from collections.abc import Iterator
from typing import Final

from tracer.ingest.messages import Kind, MalformedError, Message, checked_name, checked_tags

KINDS: Final[dict[str, Kind]] = {
    "c": "counter",
    "g": "gauge",
    "ms": "timer",
    "h": "histogram",
    "d": "distribution",
    "s": "set",
}
_SAMPLED: Final = ("counter", "timer", "histogram", "distribution")
_TIMED: Final = ("counter", "gauge")
# Not all that Python's float() takes.
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_LEAST_RATE: Final = 1e-6
_LONGEST_CLAIM: Final = 128
_LONGEST_MEMBER: Final = 200
# Events and service checks, which say nothing that can be counted.
_OTHERS: Final = (b"_e{", b"_sc|")


def messages_of(datagram: bytes) -> Iterator[bytes]:
    """Its lines, without empty ones."""
    return (line for line in datagram.split(b"\n") if line.strip())


def is_ignored(line: bytes) -> bool:
    """Whether it is an event or a service check."""
    return line.startswith(_OTHERS)


def parse_message(line: bytes) -> Message:
    """Raises MalformedError."""
    try:
        text = line.rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise MalformedError("no UTF-8") from error
    first, *fields = text.split("|")
    name, colon, packed = first.partition(":")
    if not colon or not fields or (kind := KINDS.get(fields[0])) is None:
        raise MalformedError("no metric")
    rate, tags, claim, time_s = 1.0, "", None, None
    for field in fields[1:]:
        match field[:1], field[1:]:
            case "@", value if kind in _SAMPLED:
                rate = _number(value)
            case "#", value:
                tags = value
            case "T", value if kind in _TIMED:
                time_s = _seconds(value)
            case "c", value if value.startswith(":"):
                claim = value[1 : 1 + _LONGEST_CLAIM]
    if not _LEAST_RATE <= rate <= 1:
        raise MalformedError("sample rate")
    name, known_tags = checked_name(name), checked_tags(tags)
    if kind == "set":
        return Message(name, kind, (), (_member(packed),), 1.0, known_tags, claim=claim)
    values = tuple(map(_number, packed.split(":")))
    return Message(name, kind, values, (), 1 / rate, known_tags, time_s, claim)


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None or not math.isfinite(value := float(text)):
        raise MalformedError("number")
    return value


def _seconds(text: str) -> float:
    if _SECONDS.fullmatch(text) is None:
        raise MalformedError("time")
    return float(text)


def _member(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_MEMBER:
        raise MalformedError("member")
    return text
