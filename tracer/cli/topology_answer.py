# SPDX-License-Identifier: Apache-2.0
"""What `tracer topology --json` prints."""

from typing import Literal

import msgspec

from tracer.pipeline.node import NodeTopology


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The system, as uname(2) tells it."""

    node_name: str
    kernel_release: str
    kernel_version: str
    machine: str


class NodeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints; `topology` is as in a run's session.json."""

    command: Literal["topology"] = "topology"
    version: int = 1
    host: Host
    topology: NodeTopology
