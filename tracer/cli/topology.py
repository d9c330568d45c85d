# SPDX-License-Identifier: Apache-2.0
"""`tracer topology`: what this node is made of."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.file_or_stdout import file_or_stdout, shown_name
from tracer.cli.json_output import print_answer
from tracer.cli.saying import say
from tracer.errors import UsageError


def topology(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, its `topology` as in a run's session.json.")
    ] = False,
    nfd: Annotated[
        Path | None,
        typer.Option(
            "--nfd",
            metavar="FILE",
            help="Write what this node has as local features of Node Feature Discovery; - for standard output.",
        ),
    ] = None,
) -> None:
    """Show what this node is made of: packages, caches, NUMA nodes and cores, and what bears on their measurement.

    Each line lies within the one above it to the left. An LLC is a last-level
    cache: containers on the same one are neighbours. What is not shown, the
    node does not tell. --nfd tries for a moment which events count, which
    takes root's rights.
    """
    if nfd is not None:
        if as_json:
            raise UsageError("--nfd and --json: choose one of them")
        _write_features(nfd)
        return

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


def _write_features(path: Path) -> None:
    from tracer.pipeline.node import read_node_topology
    from tracer.preflight.node_features import feature_file, node_features, try_events
    from tracer.store.files import replacing

    node = read_node_topology()
    events = try_events()
    features = node_features(node, has_cgroup2=node.cgroup is not None, events=events)
    text = feature_file(features, events.unknown)
    with file_or_stdout(path, option="--nfd", suffix="", is_text=True) as file, replacing(file) as stream:
        stream.write(text.encode())
    for why in events.unknown:
        say(why)
    say(f"{sum(value is not None for value in features.values())} features in {shown_name(path)}")
