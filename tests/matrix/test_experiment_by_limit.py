# SPDX-License-Identifier: Apache-2.0
"""`tracer verify` where the cpu controller is in version 2: a suspect is throttled there, and not frozen."""

from typing import TYPE_CHECKING

import pytest
from guests import PYTEST, Outcome

if TYPE_CHECKING:
    from conftest import Ended

pytestmark = pytest.mark.root


@pytest.mark.guest("--timeout", "2000", "--", *PYTEST, "tests/guest/test_throttled_suspect.py")
def test_a_suspect_is_throttled(guest: "Ended") -> None:
    assert guest.tests == Outcome(3, 0, 0)
