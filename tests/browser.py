# SPDX-License-Identifier: Apache-2.0
"""A page in Debian's Chromium, without a window."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

_PATIENCE_SECONDS = 30
_HEIGHT = 900


class Browser:
    """One page at a time; its console and its network traffic are kept."""

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        # Root, as in CI, has no sandbox; only pages made by the tests are opened.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))

    def quit(self) -> None:
        self._driver.quit()

    def resize(self, width: int) -> None:
        """As wide as that, as a phone is if it is narrow."""
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=_HEIGHT, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the reader's system says."""
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, page: Path) -> None:
        """Opens the file and waits until its pictures are drawn."""
        self._driver.get_log("performance")
        self._driver.get(page.as_uri())
        self.wait_until(lambda: self.run("return document.querySelectorAll('#pictures canvas').length > 2"))
        self.settle()

    def settle(self) -> None:
        """Waits until what was asked for is on the screen."""
        self._driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def wait_until(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self._driver, _PATIENCE_SECONDS, 0.05).until(lambda _driver: condition())

    def run(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is to be read there, on one line."""
        return " ".join(self.find(selector).text.split())

    def press(self, *keys: str) -> None:
        """On whatever has the focus."""
        ActionChains(self._driver).send_keys(*keys).perform()
        self.settle()

    def hover(self, selector: str, share: float) -> None:
        """Puts the pointer in the middle of an element's height, at this share of its width."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        offset = round((share - 0.5) * element.size["width"])
        ActionChains(self._driver).move_to_element_with_offset(element, offset, 0).perform()
        self.settle()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Across an element, from one share of its width to another."""
        self.hover(selector, start)
        width = self.find(selector).size["width"]
        ActionChains(self._driver).click_and_hold().move_by_offset(round((end - start) * width), 0).release().perform()
        self.settle()

    def complaints(self) -> list[str]:
        """What was written to the console since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was asked of any network or file since `open`."""
        messages = (json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def save_screenshot(self, path: Path) -> None:
        """The whole page."""
        width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _command(self, name: str, **parameters: Any) -> Any:
        return self._driver.execute_cdp_cmd(name, parameters)
