# SPDX-License-Identifier: Apache-2.0
"""Durations and sizes as people write them on a command line or in a TOML file, and read them."""

import re
from decimal import Decimal

from tracer.errors import UsageError

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_BYTES = {
    "": 1,
    "b": 1,
    "k": 2**10, "kib": 2**10, "kb": 10**3,
    "m": 2**20, "mib": 2**20, "mb": 10**6,
    "g": 2**30, "gib": 2**30, "gb": 10**9,
    "t": 2**40, "tib": 2**40, "tb": 10**12,
}  # fmt: skip
# What fits the kernel's and the libraries' 64 bits of nanoseconds, with room to add one to another.
_LONGEST_NS = 100 * 365 * 86400 * 10**9
_LARGEST_BYTES = 2**60
_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-zµ]*)\s*")


def parse_duration_ns(text: str) -> int:
    """`90s`, `1ms`, `0.5 ms`, `1h` as nanoseconds; a bare number counts seconds. Raises UsageError."""
    match = _QUANTITY.fullmatch(text)
    factor = _NANOSECONDS.get((match[2] or "s") if match else "")
    if match is None or factor is None:
        raise UsageError(f"not a duration: {text!r} (examples: 10s, 1ms, 1.5h)")
    duration_ns = int(Decimal(match[1]) * factor)
    if duration_ns > _LONGEST_NS:
        raise UsageError(f"too long: {text!r} (at most 36500d)")
    return duration_ns


def parse_bytes(text: str) -> int:
    """`1GiB`, `500MB`, `4096` as bytes; K, M, G, T alone are binary. Raises UsageError."""
    match = _QUANTITY.fullmatch(text)
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"not a size: {text!r} (examples: 1GiB, 500MB, 4096)")
    size = int(Decimal(match[1]) * factor)
    if size > _LARGEST_BYTES:
        raise UsageError(f"too large: {text!r} (at most {_LARGEST_BYTES >> 40:,}TiB)")
    return size


def format_bytes(size: int) -> str:
    """`32 MiB`, `7.8 GiB`: the largest binary unit of which there is one, with a decimal where it is not whole."""
    for unit, unit_bytes in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= unit_bytes:
            return f"{size / unit_bytes:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"
