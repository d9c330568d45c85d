# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium for the tests of the page."""

from collections.abc import Iterator

import pytest
from browser import Browser


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.quit()


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """Chromium with a screen of 1280 by 900 in light colours. What a page complained of fails the test."""
    _chromium.resize(1280)
    _chromium.prefer("light")
    _chromium.complaints()
    yield _chromium
    assert _chromium.complaints() == []
