# SPDX-License-Identifier: Apache-2.0
"""Names of containers that stand in the paths of their cgroups, as whoever made them has called them."""

import re

from tracer.containers.forms import Tells
from tracer.printable import printable

_LONGEST_NAME = 512
_ALLOCATION_AND_DOT = len("4744f0ea-7616-ab3a-a420-8e25056e3861.")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_DOMAIN_NUMBER = re.compile(rb"\A[0-9]{1,10}-(?=.)", re.DOTALL)


def name_in(found: str, tells: Tells) -> str | None:
    """The name in what a form has at its placeholder, printable and at most 512 characters long; None for an id."""
    name = found.encode("utf-8", "surrogatepass")
    match tells:
        case "id":
            return None
        case "allocation":
            name = name[_ALLOCATION_AND_DOT:]
        case "unit":
            name = _unescape(name)
        case "domain":
            name = _DOMAIN_NUMBER.sub(b"", _unescape(name), count=1)
    return printable(name)[:_LONGEST_NAME]


def _unescape(unit: bytes) -> bytes:
    """What systemd has escaped (systemd.unit(5)), but for `-`, which stands for a slash: no machine's name has one."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), unit)
