# SPDX-License-Identifier: Apache-2.0
"""What `--json` prints, held to the types that docs/schemas/ is made of."""

import json
from typing import Any

import msgspec

from tracer.cli.answers import ANSWERS


def answer_of(command: str, text: str) -> dict[str, Any]:
    """What a command said, which has all that its type has, nothing else, and nothing of another type."""
    assert text.isascii()
    told: dict[str, Any] = json.loads(text, parse_constant=_refuse)
    assert list(told)[:2] == ["command", "version"]
    assert told["command"] == command
    first, *others = ANSWERS[command]
    found = msgspec.convert(told, others[0] if told.get("dry_run") else first)
    assert msgspec.to_builtins(found, builtin_types=()) == told
    return told


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
