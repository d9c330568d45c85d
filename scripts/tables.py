# SPDX-License-Identifier: Apache-2.0
"""Writes the columns of every table into docs/tables.md, from the schemas. What is said around them stays as it is."""

import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tracer.store.schemas import DESCRIPTION, IDENTITY, TABLES

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
HEADER = "| column | type | meaning |\n|---|---|---|\n"
IDENTITY_ROW = "| … | | the identity columns above |\n"


def with_tables(page: str) -> str:
    """`page` with the columns below the heading of each table as they are in the schemas.

    A table that has no heading yet gets one at the end.
    """
    columns = {"Identity": rows(IDENTITY)} | {f"`{table.name}`": rows(table.schema) for table in TABLES.values()}
    sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    headings = [section.partition("\n")[0].removeprefix("## ") for section in sections]
    for heading in columns:
        if heading not in headings:
            headings.append(heading)
            sections.append(f"\n## {heading}\n\n")
    return "".join(
        fill(section, columns[heading]) if heading in columns else section
        for heading, section in zip(headings, sections, strict=True)
    )


def fill(section: str, columns: str) -> str:
    """`section` with these rows in place of those of its first table of columns."""
    before, _, after = section.partition(HEADER)
    return before + HEADER + columns + re.sub(r"\A(\|.*\n)*", "", after)


def rows(fields: Iterable[pa.Field]) -> str:
    """A row for each field; the identity columns, which have a section of their own, are one."""
    fields = list(fields)
    own = fields
    if [field.name for field in fields[: len(IDENTITY)]] == [field.name for field in IDENTITY] and len(fields) > len(
        IDENTITY
    ):
        own = [field for field in fields if field not in IDENTITY]
    text = "".join(
        f"| `{field.name}` | {type_name(field)} | {field.metadata[DESCRIPTION].decode()} |\n" for field in own
    )
    return text if own is fields else IDENTITY_ROW + text


def type_name(field: pa.Field) -> str:
    return f"{field.type} or null" if field.nullable else str(field.type)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
