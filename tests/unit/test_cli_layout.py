# SPDX-License-Identifier: Apache-2.0
"""Sentences and tables in any width: nothing is wider, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tracer.cli.layout import Column, cells, table, wrapped

# Of one cell, of two, and of none beside the one before.
TEXTS = st.text(st.sampled_from("ab/ %9-é表\u0301"), max_size=60)
COLUMNS = (
    Column("CONTAINER OR UNIT", "name", "CONTAINER"),
    Column("KIND", "word"),
    Column("OF ITS TIME", short="SHARE"),
    Column("CAUSE", "text"),
)


@given(TEXTS)
def test_cells_are_counted_as_the_terminal_does(text: str) -> None:
    assert cells(text) == cell_len(text)


@given(TEXTS, st.integers(12, 90))
def test_a_sentence_is_in_lines_that_fit_and_has_all_its_words(text: str, width: int) -> None:
    lines = wrapped(text, width, first="- ", further="  ")
    assert all(cells(line) <= width and line == line.rstrip() for line in lines)
    assert "".join(line[2:] for line in lines).replace(" ", "") == text.replace(" ", "")


def test_a_line_never_ends_between_a_figure_and_its_unit() -> None:
    assert wrapped("waited 12 % of the time, 3 ms at once", 10) == ["waited", "12 % of", "the time,", "3 ms at", "once"]
    assert wrapped("waited 12 % of the time", None) == ["waited 12 % of the time"]


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["container", "pod"]), st.just("12.5 %"), TEXTS), max_size=6),
    st.integers(20, 90),
)
def test_a_table_fits_and_has_every_title_and_figure(rows: list[tuple[str, str, str, str]], width: int) -> None:
    titles, *found = table(COLUMNS, rows, width)
    assert len(found) == len(rows)
    for lines in (titles, *found):
        assert all(cells(line) <= width and line == line.rstrip() for line in lines)
    assert any(" ".join(titles).count(title) for title in ("OF ITS TIME", "SHARE"))
    assert all(any(title in line for line in titles) for title in ("CONTAINER", "KIND", "CAUSE"))
    for lines, row in zip(found, rows, strict=True):
        assert any("12.5 %" in line for line in lines)
        assert any(row[1] in line for line in lines)


@given(st.lists(st.tuples(TEXTS, st.just("pod"), st.just("1 %"), TEXTS), max_size=6), st.integers(20, 90))
def test_an_unbroken_table_has_a_line_a_row_with_nothing_cut(rows: list[tuple[str, str, str, str]], width: int) -> None:
    for wide in (None, width):
        _titles, *found = table(COLUMNS, rows, wide, unbroken=True)
        assert [len(lines) for lines in found] == [1] * len(rows)
        assert all(
            row[0].rstrip() in line and row[3].rstrip() in line for (line,), row in zip(found, rows, strict=True)
        )


def test_what_there_is_room_for_is_not_shortened() -> None:
    row = ("checkout-service-7d9f8c6b5d-x2x7q/app", "container", "12.5 %", "its fair share")
    assert table(COLUMNS, [row], None) == [
        ["CONTAINER OR UNIT                      KIND       OF ITS TIME  CAUSE"],
        ["checkout-service-7d9f8c6b5d-x2x7q/app  container       12.5 %  its fair share"],
    ]
    assert table(COLUMNS, [row], 60) == [
        ["CONTAINER OR UNIT     KIND       OF ITS TIME  CAUSE"],
        ["checkout-s…x2x7q/app  container       12.5 %  its fair share"],
    ]
    assert table(COLUMNS, [row], 36) == [
        ["CONTAINER          KIND        SHARE", "   CAUSE"],
        ["checkout…2x7q/app  container  12.5 %", "   its fair share"],
    ]
