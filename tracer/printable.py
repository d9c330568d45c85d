# SPDX-License-Identifier: Apache-2.0
"""Names that anybody may choose, made harmless."""


def printable(name: bytes) -> str:
    """`name` as valid UTF-8 that does no harm on a terminal.

    Invalid bytes and characters that do not print become `\\x..` or `\\u....`. A backslash stays one, so two different
    hostile names may come out alike.
    """
    text = name.decode("utf-8", errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
