# SPDX-License-Identifier: Apache-2.0
"""What a cgroup is called, for people: one rule for all commands. `docs/names.md` tells it to them.

It needs nothing but the identity columns, and no library of tables, so that a live tracer can use it too.
"""

from tracer.naming.cutting import MARK, cut, shown, shown_names
from tracer.naming.selecting import Selector, names_of
from tracer.naming.who import Named, Who, name_of, workload_of

__all__ = ["MARK", "Named", "Selector", "Who", "cut", "name_of", "names_of", "shown", "shown_names", "workload_of"]
