# SPDX-License-Identifier: Apache-2.0
"""What the documents say of tables and options is what the program has."""

import runpy
from pathlib import Path

from tracer.cli.run import run
from tracer.simulate import SCENARIOS
from tracer.simulate.physical.scenarios import PHYSICAL_SCENARIOS
from tracer.store.schemas import TABLES

ROOT = Path(__file__).parents[2]
with_tables = runpy.run_path(str(ROOT / "scripts" / "tables.py"))["with_tables"]


def test_schemas_are_those_of_the_types() -> None:
    schemas = runpy.run_path(str(ROOT / "scripts" / "schemas.py"))
    written = {file.stem: file.read_text() for file in (ROOT / "docs" / "schemas").iterdir()}
    assert written == {command: schemas["schema"](command) for command in schemas["ANSWERS"]}, "run: make tables"


def test_tables_md_has_every_column_with_its_type_and_meaning() -> None:
    page = (ROOT / "docs" / "tables.md").read_text()
    assert with_tables(page) == page, "run: make tables"
    assert all(f"## `{name}`" in page for name in TABLES)


def test_only_the_columns_are_written_anew() -> None:
    header = "| column | type | meaning |\n|---|---|---|\n"
    page = f"# Tables\n\nText.\n\n## `ticks`\n\nMore text.\n\n{header}| gone | x | y |\n\n| other |\n|---|\n\n## End\n"
    written = with_tables(page)
    assert written.startswith(
        f"# Tables\n\nText.\n\n## `ticks`\n\nMore text.\n\n{header}| … | | the identity columns above |\n"
    )
    assert "| gone |" not in written
    assert "| `llc_misses` | int64 or null | last-level cache misses; null if not counted |\n" in written
    assert "null if not counted |\n| `context_switches` | int64 | " in written
    assert "\n\n| other |\n|---|\n\n## End\n" in written
    assert f"\n## `health`\n\n{header}| `node_name` | string | " in written
    assert with_tables(written) == written


def test_simulation_md_has_every_scenario() -> None:
    page = (ROOT / "docs" / "simulation.md").read_text()
    for name, scenario in SCENARIOS.items():
        assert f"| `{name}` | {scenario.summary.replace('cache-thrash', '`cache-thrash`')} |\n" in page
    for name, physical in PHYSICAL_SCENARIOS.items():
        assert f"| `{name}` | {physical.summary} |\n" in page


def test_readme_has_every_option_of_run() -> None:
    readme = (ROOT / "README.md").read_text()
    options = [name for name in run.__annotations__ if name not in ("context", "return")]
    assert len(options) > 10
    for name in options:
        assert f"--{name.replace('_', '-')}" in readme
