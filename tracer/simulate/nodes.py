# SPDX-License-Identifier: Apache-2.0
"""What a simulated node is to those who write down what happens on it, whatever makes it happen."""

from collections.abc import Iterator
from typing import Protocol

from tracer.simulate.node import Block
from tracer.simulate.random_times import Ints
from tracer.simulate.scenario import Scenario
from tracer.simulate.shape import NodeShape


class Lives(Protocol):
    """`lives` [C, 2]: the tick in which each container comes, and the one after its last."""

    @property
    def lives(self) -> Ints: ...


class Node(Protocol):
    """Containers on CPUs, for `ticks` ticks from 0 on."""

    @property
    def scenario(self) -> Scenario: ...
    @property
    def shape(self) -> NodeShape: ...
    @property
    def ticks(self) -> int: ...
    @property
    def demand(self) -> Lives: ...

    def blocks(self) -> Iterator[Block]:
        """The run, from its first tick to its last; once."""
        ...
