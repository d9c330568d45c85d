# SPDX-License-Identifier: Apache-2.0
"""What the documents say of tables and options is what the program has."""

from pathlib import Path

import pytest

from tracer.cli.run import run
from tracer.store.schemas import DESCRIPTION, TABLES, Table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_md_has_every_column_with_its_type_and_meaning(table: Table) -> None:
    lines = (ROOT / "docs" / "tables.md").read_text().splitlines()
    for field in table.schema:
        type_ = "string" if str(field.type).startswith("dictionary") else str(field.type)
        null = " or null" if field.nullable else ""
        assert f"| `{field.name}` | {type_}{null} | {field.metadata[DESCRIPTION].decode()} |" in lines


def test_readme_has_every_option_of_run() -> None:
    readme = (ROOT / "README.md").read_text()
    options = [name for name in run.__annotations__ if name not in ("context", "return")]
    assert len(options) > 10
    for name in options:
        assert f"--{name.replace('_', '-')}" in readme
