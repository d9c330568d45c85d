# SPDX-License-Identifier: Apache-2.0
"""Nodes that the machine at hand is not: other processors, and a systemd node with all that runs containers."""

from typing import TYPE_CHECKING

import pytest
from guests import PYTEST, Outcome

if TYPE_CHECKING:
    from conftest import Ended

pytestmark = pytest.mark.root

TOPOLOGIES = [*PYTEST, "tests/guest/test_topologies.py"]


@pytest.mark.guest(
    "--topology", "2:2:1:2", "--numa", "2", "--timeout", "1500", "--", "env", "TOPOLOGY=2:2:1:2:2", *TOPOLOGIES
)  # fmt: skip
def test_two_sockets_of_two_dies_of_two_threads(guest: "Ended") -> None:
    assert guest.tests == Outcome(3, 0, 0)


@pytest.mark.guest("--topology", "1:1:1:1", "--numa", "1", "--", "env", "TOPOLOGY=1:1:1:1:1", *TOPOLOGIES,
                   "-k", "not offline")  # fmt: skip
def test_one_cpu(guest: "Ended") -> None:
    assert guest.tests == Outcome(2, 0, 0)


@pytest.mark.guest("--system", "systemd", "--", *PYTEST, "tests/guest/test_node_as_it_is.py")
def test_a_node_as_it_is(guest: "Ended") -> None:
    assert guest.tests == Outcome(2, 0, 0)


@pytest.mark.guest("--system", "systemd", "--", "sh", "-ec", "scripts/setup guest; make run")
def test_a_new_user_of_such_a_node(guest: "Ended") -> None:
    assert guest.exit_code == 0
    # The set-up was run when the guest's disk was made: it has nothing left to do, and needs no network.
    assert "installing" not in guest.said
    assert "none lost" in guest.said
    assert "/system.slice" in guest.said


@pytest.mark.guest("--arch", "arm64", "--count-instructions", "--timeout", "1500", "--", *PYTEST,
                   "tests/kernel/test_accounting.py")  # fmt: skip
def test_cpu_time_where_time_is_made_of_instructions(guest: "Ended") -> None:
    """What an emulator's own waits do to a guest's clock is not in the way of agreement with cpu.stat."""
    assert guest.tests == Outcome(3, 0, 0)


@pytest.mark.guest("--", *PYTEST, "tests/guest/test_clock_set.py", "tests/guest/test_sample_rate.py")
def test_a_clock_that_is_set_and_ticks_that_are_held_up(guest: "Ended") -> None:
    assert guest.tests == Outcome(3, 0, 0)


@pytest.mark.guest("--arch", "arm64", "--count-instructions", "--timeout", "1800", "--", *PYTEST,
                   "tests/guest/test_counters.py")  # fmt: skip
def test_counters_that_are_shared_and_taken_away(guest: "Ended") -> None:
    assert guest.tests == Outcome(3, 0, 0)


@pytest.mark.guest("--", *PYTEST, "tests/guest/test_suspend.py")
def test_a_node_that_is_suspended(guest: "Ended") -> None:
    assert guest.tests == Outcome(1, 0, 0)


@pytest.mark.guest("--system", "systemd", "--timeout", "1500", "--", *PYTEST, "tests/guest/test_service.py")
def test_a_service_of_systemd(guest: "Ended") -> None:
    assert guest.tests == Outcome(1, 0, 0)


@pytest.mark.guest("--system", "systemd", "--container-image", "--timeout", "2400", "--", *PYTEST,
                   "tests/guest/test_image.py")  # fmt: skip
def test_a_container_of_the_image(guest: "Ended") -> None:
    assert guest.tests == Outcome(2, 0, 0)
