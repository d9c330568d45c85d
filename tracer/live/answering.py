# SPDX-License-Identifier: Apache-2.0
"""What a run answers on its own socket: `GET /snapshot`, and `POST /mark?note=…`."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import msgspec

from tracer.errors import UsageError
from tracer.live.server import Answer
from tracer.live.snapshot import Snapshot

LONGEST_NOTE: Final = 500
_JSON: Final = "application/json"


class LiveAnswers:
    """For the server; one thread calls it."""

    def __init__(self, snapshot: Callable[[], Snapshot], mark: Callable[[str | None], str]) -> None:
        """`mark`: has the last minutes written, and says what is done; raises UsageError where it cannot be."""
        self._snapshot = snapshot
        self._mark = mark

    def __call__(self, method: str, target: str, _accept: str) -> Answer:
        """Of GET, HEAD and POST."""
        path, _, query = target.partition("?")
        if path == "/snapshot" and method != "POST":
            return Answer(HTTPStatus.OK, msgspec.json.encode(self._snapshot()), _JSON)
        if path == "/mark" and method == "POST":
            return self._answer_mark(query)
        return Answer(HTTPStatus.NOT_FOUND, b"tracer: GET /snapshot, POST /mark\n")

    def _answer_mark(self, query: str) -> Answer:
        try:
            (note,) = (
                parse_qs(query, strict_parsing=True, errors="strict", max_num_fields=1)["note"] if query else [None]
            )
        except (ValueError, KeyError):
            return Answer(HTTPStatus.BAD_REQUEST, b"only a note can be given\n")
        if note is not None and (len(note) > LONGEST_NOTE or not note.isprintable()):
            return Answer(HTTPStatus.BAD_REQUEST, b"a note is one line of at most 500 characters\n")
        try:
            return Answer(HTTPStatus.OK, f"{self._mark(note)}\n".encode())
        except UsageError as error:
            return Answer(HTTPStatus.CONFLICT, f"{error}\n".encode())
