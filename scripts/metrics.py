# SPDX-License-Identifier: Apache-2.0
"""Writes the series of `--metrics` into docs/metrics.md, from their definitions. What is said around them stays."""

from collections.abc import Iterable
from pathlib import Path

from tracer.live.metrics.series import CONTAINER, NODE_AND_OWN, PAIRS, Family

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEADER = "| series | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
SECTIONS = {"Of containers": CONTAINER, "Of pairs": (PAIRS,), "Of the node and the tracer": NODE_AND_OWN}


def with_series(page: str) -> str:
    """`page` with the series below each heading of SECTIONS as they are defined."""
    for heading, families in SECTIONS.items():
        before, found, after = page.partition(f"\n### {heading}\n")
        if not found:
            raise ValueError(f"no heading {heading!r}")
        text, found, rest = after.partition(HEADER)
        if not found:
            raise ValueError(f"no table under {heading!r}")
        while rest.startswith("|"):
            _row, _, rest = rest.partition("\n")
        page = f"{before}\n### {heading}\n{text}{HEADER}{rows(families)}{rest}"
    return page


def rows(families: Iterable[Family]) -> str:
    """A row for each."""
    return "".join(
        f"| `{family.series_name}` | {family.type} | {family.unit} | {labels(family)} | {family.meaning} |\n"
        for family in families
    )


def labels(family: Family) -> str:
    """Their names; of one that has fixed values also these."""
    names = [f"`{name}`" for name in family.labels]
    if family.of_label:
        names[-1] += f" ({', '.join(value for value, _source in family.of_label)})"
    return ", ".join(names)


if __name__ == "__main__":
    PAGE.write_text(with_series(PAGE.read_text()))
