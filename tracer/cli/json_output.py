# SPDX-License-Identifier: Apache-2.0
"""What `--json` prints: one mould for all commands, described in `docs/json.md`."""

import json
import math
from typing import Any

import msgspec


def print_answer(answer: msgspec.Struct) -> None:
    """One JSON object, with what cannot be told as null, in ASCII so that it can be printed under any locale.

    `answer` has the fields `command` and `version`, and is one of `tracer.cli.answers.ANSWERS`.
    """
    print(json.dumps(_plain(msgspec.to_builtins(answer, builtin_types=())), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """Without what JSON does not have: numbers that are none, and text that is no Unicode."""
    match value:
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case str() if not value.isascii():
            # Names of files may be any bytes, and Python has surrogates for those.
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
