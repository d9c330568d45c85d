# SPDX-License-Identifier: Apache-2.0
"""Writes docs/schemas/: for each command a JSON Schema (2020-12) of what its `--json` prints, from its types."""

import json
from pathlib import Path
from typing import Any

import msgspec

from tracer.cli.answers import ANSWERS

DIRECTORY = Path(__file__).parents[1] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(command: str) -> str:
    """The schema of a command's answer, as the text of its file."""
    answers, definitions = msgspec.json.schema_components(ANSWERS[command], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        definition["description"] = " ".join(definition["description"].split())
        # What has a value when nobody gives one is printed nevertheless.
        definition["required"] = list(definition["properties"])
        for name, of_property in definition["properties"].items():
            default = of_property.pop("default", None)
            if name == "version" and default is not None:
                of_property["const"] = default
    of_any: dict[str, Any] = {"anyOf": list(answers)} if len(answers) > 1 else dict(answers[0])
    title = f"tracer {command} --json"
    return json.dumps({"$schema": DIALECT, "title": title, **of_any, "$defs": definitions}, indent=2) + "\n"


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for command in ANSWERS:
        (DIRECTORY / f"{command}.json").write_text(schema(command))
