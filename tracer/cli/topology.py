# SPDX-License-Identifier: Apache-2.0
"""`tracer topology`: what this node is made of."""

import os
from typing import Annotated

import typer

from tracer.cli.json_output import print_answer


def topology(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, its `topology` as in a run's session.json.")
    ] = False,
) -> None:
    """Show what this node is made of: packages, caches, NUMA nodes and cores, and what bears on their measurement.

    Each line lies within the one above it to the left. An LLC is a last-level
    cache: containers on the same one are neighbours. What is not shown, the
    node does not tell.
    """
    from tracer.pipeline.node import read_node_topology

    system = os.uname()
    node = read_node_topology()
    if as_json:
        from tracer.cli.topology_answer import Host, NodeDescription

        host = Host(
            node_name=system.nodename,
            kernel_release=system.release,
            kernel_version=system.version,
            machine=system.machine,
        )
        print_answer(NodeDescription(host=host, topology=node))
    else:
        from tracer.cli.printing import TextOutput
        from tracer.cli.topology_tree import print_tree

        print_tree(node, f"{system.nodename}: Linux {system.release}, {system.machine}", TextOutput())
