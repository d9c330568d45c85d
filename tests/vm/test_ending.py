# SPDX-License-Identifier: Apache-2.0
"""A guest ends with whoever asked for it: no emulator is left, and no file."""

import signal
import sys

import pytest
from guest_processes import Guests, started, wait_until
from guests import VM

pytestmark = pytest.mark.root

FOREVER = [str(VM), "run", "--", "sleep", "1000"]
# More than run at once, so that one more waits for its turn.
SUITE = [
    sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/matrix", "-k", "version_1 or locked or one_cpu",
]  # fmt: skip


def has_begun(guests: Guests) -> bool:
    """Not only a trial of the machine's acceleration."""
    return all((path / "console").exists() for path in guests.directories)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guest_ends_with_its_command(number: signal.Signals) -> None:
    with started(FOREVER) as (process, guests):
        process.send_signal(number)
        wait_until(lambda: guests.are_gone_with_their_files)
        assert process.wait() == (130 if number == signal.SIGINT else 125)


def test_what_a_killed_command_leaves_goes_with_the_next() -> None:
    with started(FOREVER, meanwhile=has_begun) as (process, guests):
        process.kill()
        wait_until(lambda: guests.are_gone)
    assert all(path.exists() for path in guests.directories)
    with started(FOREVER) as (process, _guests):
        assert not any(path.exists() for path in guests.directories)
        process.terminate()
        process.wait()


def test_a_guest_ends_with_who_asked_for_it() -> None:
    with started(["sh", "-c", f"{' '.join(FOREVER)}; true"]) as (process, guests):
        process.kill()
        wait_until(lambda: guests.are_gone_with_their_files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_all_guests_end_with_their_tests(number: signal.Signals) -> None:
    """Only the tests hear of it, as where a service stops them; of Ctrl-C at a terminal the guests hear as well."""
    with started(SUITE, emulators=2) as (process, guests):
        process.send_signal(number)
        wait_until(lambda: guests.are_gone_with_their_files)
        assert process.wait() == (2 if number == signal.SIGINT else -number)
        assert process.stdout is not None
        assert "passed" not in process.stdout.read()
