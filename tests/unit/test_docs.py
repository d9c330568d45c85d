# SPDX-License-Identifier: Apache-2.0
"""What the documents say of tables and options is what the program has."""

import re
import runpy
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from tracer.cli.main import app
from tracer.preflight.rights import RIGHTS
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


def test_metrics_md_has_every_series() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert runpy.run_path(str(ROOT / "scripts" / "metrics.py"))["with_series"](page) == page, "run: make tables"


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


def test_running_md_has_every_option_of_run_in_the_groups_of_its_help() -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    parameters = [parameter for parameter in command("run").params if parameter.name != "help"]
    assert len(parameters) > 10
    for parameter in parameters:
        _before, _heading, group = page.partition(f"\n### {parameter.rich_help_panel}\n")
        assert f"| `{parameter.opts[0]}" in group.partition("\n#")[0], parameter.opts


def test_privileges_md_has_every_right_and_no_other() -> None:
    page = (ROOT / "docs" / "privileges.md").read_text()
    rows = [row for row in page.splitlines() if row.startswith("|")][2:]
    assert rows == [
        f"| {right.when} | {right.capability.names[0]} | {'start' if right.needed is None else 'end'} | {right.why} |"
        for right in RIGHTS
    ]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_what_a_page_leads_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"\btracer ([a-z]+)", "\n".join(re.findall(r"```.*?```|`[^`]+`", readme, re.DOTALL)))
    commands = set(get_command(app).commands)
    assert set(named) <= commands
    # Each is in the table of commands too.
    assert set(re.findall(r"^\| `tracer ([a-z]+)", readme, re.MULTILINE)) == commands - {"completion"}
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", " ".join(re.findall(r"`[^`]+`", readme)))) <= targets
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme):
        assert option == "--help" or any(
            option in parameter.opts for name in commands for parameter in command(name).params
        ), option


def command(name: str) -> typer.core.TyperCommand:
    """A command as its help has it."""
    return get_command(app).commands[name]
