"""The README's picture of the page: `.venv/bin/python tests/page_picture.py LEFT RIGHT OTHER`, after `make demo`.

It asks about a photo put together from LEFT and RIGHT, and about OTHER, and writes `results/page.png`.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from test_page import CHROMIUM, FLAGS, expect, give, served

from camid_utils import calibration, demo, experiments, identify


def main(left: str, right: str, other: str) -> None:
    splice = io.BytesIO()
    Image.fromarray(calibration.spliced(identify.read(left), identify.read(right))).save(splice, "PNG")
    with served(demo.server(experiments.resolve("data/page"))) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 980, "height": 800})
        page.goto(address)
        expect(page.locator("#status")).to_have_text("Ready.")
        give(page, ("two photos in one.png", splice.getvalue()), Path(other))
        shot = io.BytesIO(page.screenshot(full_page=True))
        Image.open(shot).quantize(256).save(experiments.resolve("results/page.png"), optimize=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
