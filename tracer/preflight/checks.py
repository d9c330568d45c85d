# SPDX-License-Identifier: Apache-2.0
"""What a check is, what it finds, and what all of them mean together."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from tracer.errors import TracerError

# failed: the run cannot work. warning: it works, but something is missing or worse. info: only good to know.
# skipped: not looked at, since it needs what failed or was not asked for.
Status = Literal["ok", "info", "warning", "failed", "skipped"]
Verdict = Literal["ready", "ready-with-limits", "cannot-run"]

_LONGEST_LINE = 400


class Finding(NamedTuple):
    """What an examination found, in one line, and in another what to do about it where it is not well."""

    status: Status
    found: str
    remedy: str | None = None


class Check(msgspec.Struct, frozen=True):
    """One check that was made. `id` is stable; `required`: the run cannot work if it fails."""

    id: str
    status: Status
    required: bool
    found: str
    remedy: str | None

    @property
    def message(self) -> str:
        """Both lines in one, as the error message of a run."""
        return f"{self.found}; {self.remedy}" if self.remedy else self.found


def failure(error: TracerError | OSError, what: str, remedy: str, status: Status = "failed") -> Finding:
    """The finding for an error at `what`. A message `what; what to do` knows better than `remedy` what to do."""
    if isinstance(error, OSError):
        return Finding(status, f"{error.filename or what}: {error.strerror or error}", remedy)
    found, _, own_remedy = str(error).partition("; ")
    return Finding(status, found, own_remedy or remedy)


def verdict(checks: Iterable[Check]) -> Verdict:
    """One failed check is enough not to run; what is only skipped or good to know changes nothing."""
    statuses = {check.status for check in checks}
    if "failed" in statuses:
        return "cannot-run"
    return "ready-with-limits" if "warning" in statuses else "ready"


def one_line(text: str) -> str:
    """`text` on one line of bounded length, harmless on a terminal: it may quote paths, files or a compiler."""
    harmless = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text.strip()
    )
    return harmless if len(harmless) <= _LONGEST_LINE else f"{harmless[: _LONGEST_LINE - 3]}..."
