# SPDX-License-Identifier: Apache-2.0
"""A Prometheus of a test's own, that scrapes one tracer each second and is asked by its HTTP API."""

import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
_LISTENS = re.compile(r'msg="Listening on" address=(\S+)')
_WAIT_SECONDS = 60


def prometheus_tools() -> Path:
    """Where Debian's `prometheus` and `promtool` are; they are fetched once."""
    finished = subprocess.run([ROOT / "scripts" / "prometheus-tree"], check=True, capture_output=True, text=True)
    return Path(finished.stdout.strip())


class Prometheus:
    """Started with these alerting rules, for the time of a `with`; all of it is below `directory`."""

    def __init__(self, directory: Path, target: str, rules: Path) -> None:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": "tracer", "honor_labels": True, "static_configs": [{"targets": [target]}]},
            ],
        }
        directory.mkdir()
        # JSON is YAML.
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self._process = subprocess.Popen(
            [
                prometheus_tools() / "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--log.level=info",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self.address = self._await_address()
        # Read on, so that it never waits for us.
        self._reader = threading.Thread(target=self._read_on, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(_WAIT_SECONDS)
        self._reader.join(_WAIT_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; a query that it cannot evaluate raises HTTPError."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=_WAIT_SECONDS) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that it is now: `metric` has their labels, `value` time and value."""
        return list(self.ask("query", query=expression)["result"])

    def await_data(self, expression: str) -> list[dict[str, Any]]:
        """The same, once there are any."""
        end = time.monotonic() + _WAIT_SECONDS
        while not (found := self._try(expression)):
            assert time.monotonic() < end, f"no data of {expression}\n{self.said}"
            time.sleep(0.2)
        return found

    def _try(self, expression: str) -> list[dict[str, Any]]:
        try:
            return self.query(expression)
        except OSError:
            # It answers 503 until it has read its data.
            return []

    def _await_address(self) -> str:
        assert self._process.stderr is not None
        while line := self._process.stderr.readline():
            self.said += line
            if match := _LISTENS.search(line):
                return match[1]
        raise AssertionError(f"Prometheus ended: {self.said}")

    def _read_on(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said += line
