# SPDX-License-Identifier: Apache-2.0
"""The guests that tests ask for with the marker `guest`, started ahead, two at a time.

Most of a guest's time one of its two CPUs waits for the other.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from guests import Guests, Outcome, outcome

GUESTS_AT_ONCE = 2


class Ended(NamedTuple):
    """A guest that came to its end: its command's exit code, what it printed, and where its results are."""

    exit_code: int
    said: str
    results: Path

    @property
    def tests(self) -> Outcome:
        """What pytest counted in it."""
        return outcome(self.results)


@pytest.fixture(scope="session")
def guests_ahead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ended]]]:
    """By test, its guest. Whatever ends the session ends the guests."""
    guests = Guests()

    def run(arguments: tuple[str, ...], results: Path) -> Ended:
        ended = guests.run("--results", results, *arguments)
        return Ended(ended.returncode, ended.stdout, results)

    asked = {item.nodeid: item.get_closest_marker("guest") for item in request.session.items}
    with ThreadPoolExecutor(GUESTS_AT_ONCE) as pool:
        yield {
            test: pool.submit(run, marker.args, tmp_path_factory.mktemp("guest"))
            for test, marker in asked.items()
            if marker is not None
        }
        pool.shutdown(wait=False, cancel_futures=True)
        guests.end()


@pytest.fixture
def guest(request: pytest.FixtureRequest, guests_ahead: dict[str, Future[Ended]]) -> Ended:
    """The guest of this test, at its end."""
    ended = guests_ahead[request.node.nodeid].result()
    # Shown if the test fails.
    print(ended.said)
    return ended
