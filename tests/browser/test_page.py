# SPDX-License-Identifier: Apache-2.0
"""The page in a browser: what a reader sees, points at and types."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from browser import Browser
from planted_findings import Loss, report_of
from planted_recording import IDLE, START_NS, container, frame, windows_of, write_recording
from planted_waits import MS, SELF, Load, tables_of
from selenium.webdriver.common.keys import Keys

from tracer.analysis.findings import Caveat
from tracer.analysis.pictures.page import write_page
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.cli.main import main
from tracer.simulate import simulate
from tracer.store.schemas import TABLES

WINDOWS = 10_000
PEAK_AT = 7_000
# 5 million misses in 60 ms.
PEAK = "4.97 GiB/s"

STACK = "#stack .chart"
# In windows.
TEN_HOURS = 600_000


def write_report(
    output: Path, tables: dict[str, Sequence[pl.DataFrame]], losses: Sequence[Loss] = (), **given: Any
) -> Path:
    recording = open_recording([write_recording(output / "recording", **tables)])
    page = output / "report.html"
    write_page(recording, report_of(recording, losses, **given), page)
    return page


def planted(windows: range, peak_at: int, names: Sequence[str] = ("app", "etl", "db")) -> list[pl.DataFrame]:
    """Containers that do the same in each of `windows`, but one in which the second one misses very much."""
    random = np.random.default_rng(1)
    frames = [windows_of(IDLE, windows)]
    for number, name in enumerate(names):
        misses = random.integers(90_000, 110_000, len(windows)) * (number + 1)
        cycles = random.integers(10**7, 2 * 10**7, len(windows))
        if number == 1:
            misses[windows.index(peak_at)] = 5 * 10**6
        if number == 0:
            cycles[windows.index(peak_at)] = 73 * 10**6
        frames.append(
            windows_of(
                container(number + 1, name),
                windows,
                llc_misses=misses,
                cycles=cycles,
                instructions=10**7,
                neighbour_llc_misses=misses[::-1].copy(),
            )
        )
    return frames


def resources(seconds: int) -> pl.DataFrame:
    return frame(
        TABLES["resources"],
        seconds,
        {
            "node_name": "node-1",
            **container(1, "app"),
            "time": START_NS + np.arange(seconds) * 10**9,
            "memory_current_bytes": np.linspace(1e8, 2e8, seconds).astype(np.uint64),
            "cpu_pressure_some_total_usec": np.arange(seconds, dtype=np.uint64) * 250_000,
        },
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes, in which one container hurts another."""
    return write_report(
        tmp_path_factory.mktemp("page"),
        {"windows": planted(range(WINDOWS), PEAK_AT), "resources": [resources(600)]},
        [("shop/pod-1/app", "shop/pod-2/etl", 0.18)],
    )


def tip(browser: Browser, selector: str = STACK) -> str:
    return browser.text(f"{selector} .tip")


def colour_at(browser: Browser, selector: str, across: float, up: float) -> list[int]:
    """Red, green, blue and opacity of a picture, at these shares of its plot from the left and from below."""
    return browser.run(
        """const [selector, across, up] = arguments;
           const canvas = document.querySelector(`${selector} canvas`);
           const over = document.querySelector(`${selector} .u-over`);
           const scale = canvas.width / canvas.clientWidth;
           const x = (over.offsetLeft + across * over.clientWidth) * scale;
           const y = (over.offsetTop + (1 - up) * over.clientHeight) * scale;
           const pixel = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
           pixel.drawImage(canvas, Math.round(x), Math.round(y), 1, 1, 0, 0, 1, 1);
           return [...pixel.getImageData(0, 0, 1, 1).data];""",
        selector,
        across,
        up,
    )


def focus_by_keyboard(browser: Browser, selector: str) -> None:
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(100):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement === document.querySelector(arguments[0])", selector):
            return
    pytest.fail(f"Tab does not lead to {selector}")


def test_it_needs_no_network_and_no_other_file(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.requests() == [page.as_uri()]


def test_nothing_could_be_fetched_even_if_a_script_tried(browser: Browser, page: Path) -> None:
    browser.open(page)
    answer = browser.run(
        "return fetch(location.href).then(() => 'fetched', (error) => error.name);",
    )
    assert answer == "TypeError"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_the_answer_is_text_that_needs_no_script(page: Path) -> None:
    # Figures keep their units at the end of a line.
    text = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    body = text[text.index("<body>") : text.index('<div id="pictures"')]
    assert "shop/pod-1/app lost 18% to shop/pod-2/etl" in body
    assert "18 %<small>16 % to 22 %</small>" in body
    assert "lost 18 % of its cycles (CI 16–22 %)" in body
    assert "1,412 bursts, most of 5 to" in body
    assert "it was not throttled" in body
    assert "the counters ran for 98 % of the time" in body
    assert "<noscript>" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_follows_the_colours_of_the_system(
    browser: Browser, page: Path, scheme: str, width: int
) -> None:
    browser.resize(width)
    browser.prefer(scheme)
    browser.open(page)
    assert browser.run("return document.documentElement.scrollWidth") == width
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    # The first container lies at the bottom of the stack.
    assert (
        colour_at(browser, STACK, 0.5, 0.01)
        == {"light": [0x00, 0x72, 0xB2, 255], "dark": [0x39, 0x87, 0xCF, 255]}[scheme]
    )
    for picture in browser.find_all("#pictures .chart canvas"):
        assert picture.size["width"] <= width


def test_pictures_change_their_colours_with_the_system(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = colour_at(browser, STACK, 0.5, 0.01)
    browser.prefer("dark")
    browser.wait_until(lambda: colour_at(browser, STACK, 0.5, 0.01) != before)
    assert colour_at(browser, STACK, 0.5, 0.01) == [0x39, 0x87, 0xCF, 255]


def test_pointing_at_a_picture_gives_the_figures(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.hover(f"{STACK} .u-over", (PEAK_AT + 0.5) / WINDOWS)
    assert tip(browser).startswith("14:06:59.520 UTC, 960 ms")
    assert f"highest {PEAK}" in tip(browser)
    assert "shop/pod-1/app" in tip(browser)
    browser.hover("#cpi .u-over", (PEAK_AT + 0.5) / WINDOWS)
    assert "highest window 7.30" in tip(browser, "#cpi .chart")
    browser.hover("#heat .u-over", (PEAK_AT + 0.5) / WINDOWS)
    assert f"memory traffic {PEAK}" in tip(browser, "#heat .chart")
    browser.hover("#density .u-over", 0.5)
    assert "noisiest 5 %" in tip(browser, "#density .chart")
    browser.hover("#memory .u-over", 0.999)
    assert "shop/pod-1/app 191 MiB" in tip(browser, "#memory .chart")
    browser.hover("#waiting .u-over", 0.5)
    assert "for a CPU 25 %" in tip(browser, "#waiting .chart")


def test_dragging_zooms_all_pictures_and_the_table(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.text("#shown-range").startswith("14:00:00.000 to 14:10:00")
    assert PEAK in browser.text("#containers")
    browser.drag(f"{STACK} .u-over", 0.12, 0.3)
    assert browser.text("#shown-range").startswith("14:01:1")
    assert PEAK not in browser.text("#containers")
    browser.hover("#memory .u-over", 0.5)
    assert tip(browser, "#memory .chart").startswith("14:02:0")
    browser.find("#all").click()
    browser.settle()
    assert browser.text("#shown-range").startswith("14:00:00.000 to 14:10:00")


def test_zoomed_in_far_enough_each_window_is_shown(browser: Browser, page: Path) -> None:
    browser.open(page)
    for _ in range(20):
        if browser.find("#in").is_enabled():
            browser.find("#in").click()
    browser.settle()
    assert "each value 120 ms" in browser.text("#shown-range")


def test_a_time_range_of_the_answer_leads_to_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.find("button.range").click()
    browser.settle()
    # A quarter to three quarters of ten minutes, and a tenth more on each side.
    assert browser.text("#shown-range").startswith("14:01:59.9")
    assert browser.run("return document.activeElement.closest('section').id") == "stack"


def test_the_keyboard_alone_is_enough(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    focus_by_keyboard(browser, STACK)
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"

    browser.press(Keys.ARROW_RIGHT)
    first = tip(browser)
    assert "shop/pod-2/etl" in first
    assert browser.run("return document.getElementById('announcer').textContent").startswith("14:05:0")
    browser.press(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert tip(browser) != first

    browser.press("+")
    zoomed = browser.text("#shown-range")
    assert not zoomed.startswith("14:00:00")
    browser.press("-")
    browser.press("+", "+", "0")
    assert browser.text("#shown-range").startswith("14:00:00.000 to 14:10:00")

    focus_by_keyboard(browser, "#heat .chart")
    browser.press(Keys.ARROW_RIGHT)
    assert "shop/pod-1/app" in tip(browser, "#heat .chart")
    browser.press(Keys.ARROW_DOWN)
    assert "shop/pod-2/etl" in tip(browser, "#heat .chart")

    focus_by_keyboard(browser, "#density .chart")
    browser.press(Keys.ARROW_LEFT)
    assert "noisiest" in tip(browser, "#density .chart")


def test_what_has_the_focus_is_named_for_who_cannot_see_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    nameless = browser.run(
        """return [...document.querySelectorAll('button, select, input, [tabindex="0"]')]
             .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length))
             .map((element) => element.outerHTML)"""
    )
    assert nameless == []
    assert len(browser.find_all(".chart[role=group][aria-label]")) == len(browser.find_all(".chart canvas"))
    assert browser.run("return document.documentElement.lang") == "en"


def test_a_container_can_be_hidden_and_the_rest_fills_the_picture(browser: Browser, page: Path) -> None:
    browser.open(page)
    toggle = "#containers tbody tr:first-child button"
    before = colour_at(browser, STACK, 0.5, 0.01)
    browser.run("arguments[0].focus()", browser.find(toggle))
    browser.press(Keys.SPACE)
    assert browser.find(toggle).get_attribute("aria-pressed") == "false"
    assert colour_at(browser, STACK, 0.5, 0.01) != before
    browser.press(Keys.SPACE)
    assert browser.find(toggle).get_attribute("aria-pressed") == "true"
    assert colour_at(browser, STACK, 0.5, 0.01) == before


def test_the_pictures_about_one_container_can_be_about_another(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.find_all("#containers input[type=radio]")[2].click()
    browser.settle()
    assert browser.text("#cpi h2") == "Cycles per instruction of shop/pod-3/db"
    assert "shop/pod-3/db" in browser.text("#density h2")


def test_a_closer_look_has_each_window_around_the_aggressors_highest(browser: Browser, page: Path) -> None:
    browser.open(page)
    options = browser.find_all("#view option")
    assert [option.text for option in options] == [
        "the whole recording",
        "shop/pod-2/etl at its highest, shop/pod-1/app hurt",
    ]
    options[1].click()
    browser.settle()
    start, end = (browser.text("#shown-range")[at : at + 8] for at in (0, 16))
    assert start < "14:07:00" < end
    assert PEAK in browser.text("#containers")


@pytest.fixture(scope="module")
def ten_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Containers that run in every fourth window leave rows enough.
    frames = planted(range(0, TEN_HOURS, 4), 400_000, ("app", "etl"))
    return write_report(tmp_path_factory.mktemp("long"), {"windows": frames})


def test_of_ten_hours_one_window_is_still_seen(browser: Browser, ten_hours: Path) -> None:
    assert ten_hours.stat().st_size < 2e6
    browser.open(ten_hours)
    assert PEAK in browser.text("#containers")
    # On the screen, a column is 54 s, which are 900 windows.
    browser.hover(f"{STACK} .u-over", (400_000 + 0.5) / TEN_HOURS)
    assert " 54 s highest window of all 5." in tip(browser)
    assert f"highest {PEAK}" in tip(browser)
    ground = colour_at(browser, STACK, 0.3, 0.8)
    assert any(colour_at(browser, STACK, at, 0.8) != ground for at in np.arange(0.66, 0.675, 0.0005))
    browser.drag(f"{STACK} .u-over", 0.66, 0.67)
    assert PEAK in browser.text("#containers")


def test_names_are_only_text_whatever_they_say(browser: Browser, tmp_path: Path) -> None:
    hostile = [
        "</script><script>window.harmed = 1</script>",
        '<img src=x onerror="window.harmed = 1">',
        "'\"><svg onload=window.harmed=1>",
        "\u202egnp.exe\u2066\x00\x1b[2J\n]]>{{ 7 * 7 }}${1}<!--",
    ]
    page = write_report(
        tmp_path,
        {
            "windows": [
                windows_of(
                    container(number + 1, name, pod=name, namespace=None),
                    range(1000),
                    llc_misses=1000 * (5 - number),
                    cycles=10**7,
                    instructions=10**7,
                    neighbour_llc_misses=np.arange(1000),
                )
                for number, name in enumerate(hostile)
            ]
        },
        [(f"{name}/{name}", f"{hostile[0]}/{hostile[0]}", 0.2) for name in hostile[1:]],
        headline=hostile,
        caveats=[Caveat(id=name, text=name) for name in hostile],
    )
    browser.open(page)
    browser.hover(f"{STACK} .u-over", 0.5)
    shown = tip(browser)
    browser.hover("#heat .u-over", 0.5)
    assert browser.run("return window.harmed") is None
    assert browser.run("return document.querySelectorAll('script').length") == 3
    assert browser.run("return document.querySelectorAll('main svg, main img').length") == 0
    text = browser.run("return document.body.innerText")
    assert not set("\u202e\u2066\x00\x1b") & set(text)
    assert "</script><script>window.harmed" in text
    assert "\\u202egnp.exe\\u2066\\x00\\x1b[2J" in text
    assert "{{ 7 * 7 }}" in text
    assert "onload=window.harmed" in shown


def test_without_counters_it_shows_cpu_time_and_says_why(browser: Browser, tmp_path: Path) -> None:
    frames = [windows_of(container(1), range(1000)), windows_of(container(2), range(500), cpu_time_ns=6 * 10**7)]
    page = write_report(tmp_path, {"windows": frames})
    browser.open(page)
    assert browser.text("#stack h2") == "CPU time by container"
    assert "LLC misses were not counted" in browser.text("#stack .about")
    assert browser.text("#cpi") == "Cycles per instruction Not pictured: cycles or instructions were not counted."
    assert "Not pictured: waits were not recorded" in browser.text("#spent")
    assert "Not pictured: no rows of `resources`" in browser.text("#memory")
    assert "could not be told, as waits were not recorded" in browser.text("#answer ~ p.about")
    assert "CPI" not in browser.text("#containers thead")
    browser.hover(f"{STACK} .u-over", 0.25)
    assert "shop/pod-2/app 1 core" in tip(browser)


def test_of_several_nodes_one_is_shown_at_a_time(browser: Browser, tmp_path: Path) -> None:
    for node in ("node-1", "node-2", "node-3"):
        rows = windows_of(container(1, f"on-{node}"), range(1000), node=node, llc_misses=1000)
        write_recording(tmp_path / "recording", node=node, windows=[rows])
    recording = open_recording([tmp_path / "recording"])
    page = tmp_path / "report.html"
    write_page(recording, report_of(recording), page)
    browser.open(page)
    nodes = browser.find_all("#node option")
    assert [option.text for option in nodes] == ["node-1", "node-2", "node-3"]
    nodes[2].click()
    browser.settle()
    assert "shop/pod-1/on-node-3" in browser.text("#containers")
    assert "on-node-1" not in browser.text("#containers")


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_a_recording_of_almost_nothing_is_drawn_too(browser: Browser, tmp_path: Path, windows: int) -> None:
    page = write_report(tmp_path, {"windows": [windows_of(container(1), range(windows), llc_misses=1000)]})
    browser.open(page)
    browser.hover(f"{STACK} .u-over", 0.5)
    assert "1.02 MiB/s" in tip(browser)


def test_the_report_of_a_simulated_node_from_the_command_to_the_ticks_of_its_worst_moment(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate("cache-thrash", seed=1, duration_ns=30 * 10**9, output=tmp_path / "recording", ticks=True)
    page = tmp_path / "report.html"
    monkeypatch.setattr(sys, "argv", ["tracer", "report", str(tmp_path / "recording"), "--html", str(page)])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    said = capsys.readouterr()
    assert said.err == f"tracer: the page is {page}\n"
    browser.open(page)
    assert browser.text(".headline").startswith("shop/web-1/app lost")
    assert "to jobs/batch-7/etl" in browser.text(".headline")
    assert browser.text(".headline") in " ".join(said.out.split())
    browser.find_all("#view option")[1].click()
    browser.settle()
    while browser.find("#in").is_enabled():
        browser.find("#in").click()
        browser.settle()
    assert browser.text("#shown-range").endswith("each value 1 ms")


def test_it_is_told_what_is_drawn(tmp_path: Path) -> None:
    recording = open_recording([write_recording(tmp_path / "recording", windows=planted(range(1000), 500))])
    said: list[tuple[str, int, int]] = []
    write_page(recording, report_of(recording), tmp_path / "report.html", progress=lambda *step: said.append(step))
    assert said == [("drawing", 0, 1)]


def test_long_names_lose_their_middle_and_no_sentence_or_command_does(tmp_path: Path) -> None:
    pods = [f"{'p' * 200}-{number}" for number in (1, 2)]
    web, etl = (container(number, "c" * 60, pods[number - 1], "n" * 60) for number in (1, 2))
    loads = [
        Load(web, range(500), 15 * MS, {2: 15 * MS}),
        Load(etl, range(500), 45 * MS, {1: 5 * MS}),
    ]
    recording = open_recording([write_recording(tmp_path / "recording", **tables_of(loads))])
    page = tmp_path / "report.html"
    write_page(recording, report(recording), page)
    text = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    whole = [f"{'n' * 60}/{pod}/{'c' * 60}" for pod in pods]
    assert f"<code>tracer verify {whole[0]} {whole[1]}</code>" in text
    (headline,) = re.findall('<p class="headline">(.*)</p>', text)
    said = re.fullmatch(r"(\S+) lost 7.50 s \(25 % of its time\) to (\S+): waited in the run queue 25 % .*", headline)
    assert said is not None
    for name in said.groups():
        assert name.startswith("nnn")
        assert name.endswith("ccc")
        assert text.count(f"<bdi>{name}</bdi>") > 1
    assert said[1] != said[2]


def test_where_the_time_went_is_drawn_for_the_victim(browser: Browser, tmp_path: Path) -> None:
    web, etl = container(1, "app", "web-1"), container(2, "etl", "batch-7")
    loads = [
        Load(web, range(1000), 15 * MS, {2: 15 * MS, SELF: 3 * MS}),
        Load(etl, range(1000), 45 * MS, {1: 15 * MS}),
    ]
    recording = open_recording([write_recording(tmp_path / "recording", **tables_of(loads))])
    page = tmp_path / "report.html"
    write_page(recording, report(recording), page)
    browser.open(page)
    assert browser.text(".headline").startswith(
        "shop/web-1/app lost 15.0 s (25 % of its time) to shop/batch-7/etl: waited in the run queue 30 % of the time"
    )
    assert browser.text(".matrix").count("held back") == 1
    assert (
        browser.text("[aria-label='What cost the most time'] tbody")
        == "shop/web-1/app 15.0 s 25 % shop/batch-7/etl run queue"
    )
    assert browser.text("#spent h2") == "Where the time of shop/web-1/app went"
    assert browser.text("#spent .key") == "waited behind shop/batch-7/etl waited behind its own threads ran"
    # From below: ran 0.25, behind its own threads 0.05, behind the other 0.25.
    heights = (0.1, 0.4, 0.5, 0.6, 0.9)
    ran, still_ran, own, behind, still_behind = (colour_at(browser, "#spent .chart", 0.5, height) for height in heights)
    assert ran == still_ran
    assert behind == still_behind
    assert len({tuple(one) for one in (ran, own, behind)}) == 3
    browser.hover("#spent .chart", 0.5)
    assert "waited behind shop/batch-7/etl 0.25 tasks" in tip(browser, "#spent .chart")
    browser.find_all("#containers input")[1].click()
    browser.settle()
    assert browser.text("#spent h2") == "Where the time of shop/batch-7/etl went"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_was_not_recorded_is_hatched_and_said(browser: Browser, tmp_path: Path, scheme: str) -> None:
    windows = [*range(300), *range(700, 1000)]
    tables = tables_of([Load(container(1, "app", "web-1"), windows, 15 * MS, {SELF: 3 * MS})])
    page = write_report(tmp_path, tables)
    browser.prefer(scheme)
    browser.open(page)
    ground = {"light": [255, 255, 255, 255], "dark": [20, 23, 28, 255]}[scheme]
    for picture in ("#stack .chart", "#spent .chart", "#heat .chart"):
        missing = [colour_at(browser, picture, 0.52 + step / 1000, 0.6) for step in range(20)]
        assert len({tuple(one) for one in missing}) >= 2
        assert [0, 0, 0, 0] not in missing
        assert ground not in missing
        assert browser.text(picture).endswith("not recorded")
    # Above what is there, nothing is hatched.
    assert colour_at(browser, "#stack .chart", 0.1, 0.97)[3] == 0


def test_without_counters_closer_looks_are_at_who_waits_most(browser: Browser, tmp_path: Path) -> None:
    web, etl, root = container(1, "app", "web-1"), container(2, "etl", "batch-7"), {"cgroup_id": 9, "cgroup_path": "/"}
    waited = np.full(20_000, 5)
    waited[15_000] = 50
    loads = [
        Load(web, range(20_000), 15 * MS, {2: 5 * MS}),
        Load(etl, range(20_000), 30 * MS, {1: 2 * MS}),
        Load(root | {"cgroup_kind": "other"}, range(20_000), 10 * MS, {2: 40 * MS}),
    ]
    tables = tables_of(loads)
    tables["windows"][0] = tables["windows"][0].with_columns(
        pl.Series("wait_time_ns", waited * MS), pl.Series("wait_behind_others_ns", waited * MS)
    )
    tables["waits"][0] = tables["waits"][0].with_columns(pl.Series("wait_time_ns", waited * MS))
    recording = open_recording([write_recording(tmp_path / "recording", **tables)])
    page = tmp_path / "report.html"
    write_page(recording, report(recording), page)
    browser.open(page)
    options = browser.find_all("#view option")
    assert options[1].text == "shop/web-1/app waiting most, behind shop/batch-7/etl"
    assert not any(option.text.startswith("/") for option in options)
    options[1].click()
    browser.settle()
    start, end = (browser.text("#shown-range")[at : at + 8] for at in (0, 16))
    assert start < "14:15:00" < end
    options[2].click()
    browser.settle()
    assert browser.text("#spent h2") == "Where the time of shop/batch-7/etl went"
    options[1].click()
    browser.settle()
    assert browser.text("#spent h2") == "Where the time of shop/web-1/app went"
    for chart in ("#stack", "#spent"):
        browser.hover(f"{chart} .u-over", 0.5)
    assert "60 ms" in tip(browser, "#spent .chart")
    assert browser.run("return document.querySelector('#heat-measure input:checked').value") == "waiting"
    assert "0.833" in browser.text("#containers")
    # Who took something is pictured, but nothing is about the kernel's own threads.
    assert browser.text(".matrix thead") == "held the CPU shop/web-1/app shop/batch-7/etl"
    assert browser.text("[aria-label='What cost the most time'] tbody tr:last-child").startswith("/ ")
