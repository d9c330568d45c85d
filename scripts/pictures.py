# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of README.md into docs/ anew: scripts/pictures.py [DEMO]

    page-counters.png  the top of the page of a simulated node whose processor counts, with a known truth
    page-demo.png      that of `tracer demo` on this node, which takes root
    waits-demo.png     `tracer plot --kind waits` of the same recording

The page is drawn by headless Chromium (Debian's package `chromium`). What the demo's pictures show is this node's, at
that time, with or without a PMU: a node that does little else shows most. DEMO is what `tracer demo --output` left
that is to be shown; root is not needed then.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tracer.demo.scene import SERVICE

DOCS = Path(__file__).parents[1] / "docs"
TRACER = (sys.executable, "-m", "tracer.cli.main")
SIMULATION = ("--scenario", "cache-thrash", "--seed", "3", "--duration", "60s", "--ticks", "--containers", "6")
# Enough for the finding and the first picture, at the width of a README.
WIDTH, HEIGHT = 1100, 840
COLOURS = 64


def tracer(*arguments: str | Path) -> None:
    """Runs a command of the tracer; its mistakes are this script's."""
    subprocess.run([*TRACER, *arguments], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80"})


def photograph(page: Path, picture: Path) -> None:
    """The top of a page as a browser shows it."""
    subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}",
            f"--window-size={WIDTH},{HEIGHT}",
            "--virtual-time-budget=5000",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
    )
    shrink(picture)


def shrink(picture: Path) -> None:
    """With as many colours as there are to be seen, which takes a fraction of the bytes."""
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> None:
    """All pictures; says what is missing before anything is drawn."""
    if shutil.which("chromium") is None:
        sys.exit("the pages are drawn by Chromium: apt install chromium")
    recorded = [Path(argument).absolute() for argument in sys.argv[1:2]]
    if not recorded and os.geteuid() != 0:
        sys.exit("`tracer demo` traces this node: be root (sudo)")
    with tempfile.TemporaryDirectory(prefix="tracer-pictures-") as directory:
        scratch = Path(directory)
        tracer("simulate", scratch / "counters", *SIMULATION)
        demo = recorded[0] if recorded else scratch / "demo"
        if not recorded:
            tracer("demo", "--output", demo)
        for name, recording in (("counters", scratch / "counters"), ("demo", demo)):
            page = scratch / f"{name}.html"
            tracer("report", "--html", page, recording)
            photograph(page, DOCS / f"page-{name}.png")
        waits = DOCS / "waits-demo.png"
        tracer("plot", "--kind", "waits", "--container", SERVICE, "--output", waits, demo)
        shrink(waits)
    for picture in (*sorted(DOCS.glob("*-demo.png")), DOCS / "page-counters.png"):
        print(f"{picture.relative_to(DOCS.parent)}: {picture.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
