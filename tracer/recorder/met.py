# SPDX-License-Identifier: Apache-2.0
"""That a rule was met: by whom, how much it was, and when."""

import msgspec

from tracer.naming import Who


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """By one streak of windows or seconds; of several containers at the same time, the one that it holds most for."""

    rule: str
    who: Who
    """Of a rule on the node, `node_name` alone."""
    name: str
    """Of whom it is for people, as in `shop/api-7f/app`; the node's name for a rule on the node."""
    value: str
    """How much it was over the whole streak, as in `37%`."""
    start_ns: int
    """Of the streak, in ns since the epoch."""
    end_ns: int
    others: int = 0
    """How many more met the same rule at the same time."""
