"""Label the synthetic valley in a browser, and take the pictures of docs/tutorials/label-images.md.

    python examples/valley/annotator.py draw FOLDER
    python tools/label_screenshots.py FOLDER [PICTURES]

The script does what the tutorial says, by mouse and keyboard, and prints how long it took. It needs
Chromium, on PATH or at the path in the variable CHROMIUM, and playwright.
"""
# ruff: noqa: T201

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from chromium import QUIET, find_browser
from PIL import Image
from playwright.sync_api import TimeoutError as WaitedTooLong
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
CARD = yaml.safe_load((ROOT / "examples/valley/valley.yaml").read_text(encoding="utf-8"))
SIZE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 780}
FRAME_PX = 720
FRAME_MS = 900
FIRST = 3
"""Clicks on each class of the first image."""
SUGGESTED = 6
"""Suggestions that are answered in each image."""
LONGEST_S = 600
ANSWERS = 12
"""Points of a sample that are answered."""
NEXT_MS = 1500
"""Time in which the page goes on to the next suggestion by itself."""
POLYGON = ((6, 6), (56, 10), (54, 56), (10, 52))
STROKE = ((462, 14), (480, 30), (496, 48))


def main() -> None:
    """Label, and take the pictures."""
    folder = Path(sys.argv[1])
    pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    images = sorted((folder / "images").glob("*.tif"))
    project = folder / "valley-labels"
    shutil.rmtree(project, ignore_errors=True)
    truths = [truth_of(image) for image in images]
    start = time.monotonic()
    with serve(images, project, []) as address, open_browser() as browser:
        record(browser, address, truths, pictures, start)
    sample = folder / "sample.gpkg"
    maps = sorted((project / "export" / "maps").glob("*_classes.tif"))
    command = [sys.executable, "-m", "pointcover", "sample", *map(str, maps), "--force"]
    subprocess.run([*command, "--points", "200", "--out", str(sample)], check=True)
    with serve(images, project, ["--sample", str(sample)]) as address, open_browser() as browser:
        show_blind(browser, address, truths, pictures)


@contextmanager
def serve(images: list[Path], project: Path, options: list[str]) -> Iterator[str]:
    """Start `pointcover label`; yield the address that it prints."""
    command = [sys.executable, "-m", "pointcover", "label", *map(str, images), "--no-browser"]
    command += ["--project", str(project), "--author", "anna", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        while "http" not in line:
            if not line:
                sys.exit("pointcover label ended")
            line = process.stderr.readline()
        yield re.findall(r"http\S+", line)[0]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open a browser with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(QUIET))
        yield browser
        browser.close()


def show_blind(browser: Any, address: str, truths: list[np.ndarray], pictures: Path) -> None:
    """Answer some points of a sample, and take a picture."""
    page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    points = page.evaluate("() => fetch('api/state').then((one) => one.json())")["points"]
    for count, one in enumerate(points[:ANSWERS], 1):
        page.keyboard.press(str(truths[one["image"]][int(one["y"]), int(one["x"])] + 1))
        wait_for(page, lambda n=count: page.inner_text("#saved").startswith(f"{n} of"), "an answer")
    page.keyboard.press("ArrowLeft")
    time.sleep(2)
    save(page, pictures / "label_blind.jpg")


def draw_areas(page: Any, pictures: Path, count: int) -> None:
    """Draw a polygon and a brush stroke, take a picture, and undo them."""
    x, y, size = corner_and_scale(page)
    page.keyboard.press("1")
    page.keyboard.press("p")
    for col, row in POLYGON:
        page.mouse.click(x + col * size, y + row * size)
        time.sleep(0.3)
    page.keyboard.press("f")
    wait_for(page, lambda: "1 polygon saved" in page.inner_text("#saved"), "the polygon")
    page.keyboard.press("3")
    page.keyboard.press("b")
    page.mouse.move(x + STROKE[0][0] * size, y + STROKE[0][1] * size)
    page.mouse.down()
    for col, row in STROKE[1:]:
        page.mouse.move(x + col * size, y + row * size, steps=5)
    page.mouse.up()
    wait_for(page, lambda: "2 polygons saved" in page.inner_text("#saved"), "the stroke")
    state = f"map of {count} points, 2 polygons"
    wait_for(page, lambda: page.inner_text("#map-state").startswith(state), state)
    time.sleep(1)
    save(page, pictures / "label_polygon.jpg")
    page.keyboard.press("Escape")
    for left in ("1 polygon", f"{count} points saved"):
        page.keyboard.press("Control+z")
        wait_for(page, lambda text=left: text in page.inner_text("#saved"), "the undo")
    state = f"map of {count} points"
    wait_for(page, lambda: page.inner_text("#map-state") == state, state)


def truth_of(image: Path) -> np.ndarray:
    """Return the class ids of an image, which stand for what a person sees."""
    with rasterio.open(image.parents[1] / "ground" / image.name) as file:
        return file.read(1)


def record(
    browser: Any, address: str, truths: list[np.ndarray], pictures: Path, start: float
) -> None:
    """Do what the tutorial says; `start` is when the command was typed."""
    context = browser.new_context(viewport=SIZE, color_scheme="light")
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    frames: list[bytes] = []
    for entry in CARD["classes"]:
        page.fill("#new-colour", entry["colour"].lower())
        page.fill("#new-name", entry["name"])
        page.click("#new-class button")
        page.wait_for_selector(f"#classes label:text-is('{entry['name']}')")
    frames.append(page.screenshot())
    count = 0
    generator = np.random.default_rng(3)
    for _ in range(FIRST):
        for class_id in np.unique(truths[0]).tolist():
            row, col = inner_pixel(truths[0] == class_id, generator)
            count += 1
            click(page, (row, col), class_id, count)
        wait_for_map(page, count)
        frames.append(page.screenshot())
    for image, truth in enumerate(truths):
        if image:
            page.keyboard.press("]")
        wait_for_map(page, count)
        for _ in range(SUGGESTED):
            try:
                page.wait_for_selector(".suggestion", timeout=NEXT_MS)
            except WaitedTooLong:
                page.keyboard.press("n")
            page.wait_for_selector(".suggestion")
            row, col = suggested(page)
            count += 1
            if image == 1 and count == FIRST * 5 + SUGGESTED + 3:
                save(page, pictures / "label_next.jpg")
            click(page, (row, col), int(truth[row, col]), count)
            if image == 0:
                wait_for_map(page, count)
                frames.append(page.screenshot())
        if image == len(truths) - 1:
            labelled_s = time.monotonic() - start
            draw_areas(page, pictures, count)
            start += time.monotonic() - start - labelled_s  # is no part of the tutorial's time
        print(f"image {image + 1}: {count} points, {(time.monotonic() - start) / 60:.1f} min")
    wait_for(page, lambda: "mean IoU" in page.inner_text("#quality"), "the scores")
    save(page, pictures / "label_page.jpg")
    page.keyboard.press("m")
    page.emulate_media(color_scheme="dark")
    page.evaluate("() => document.querySelector('#quality').scrollIntoView()")
    time.sleep(1)
    save(page, pictures / "label_dark.jpg")
    page.emulate_media(color_scheme="light")
    page.keyboard.press("m")
    page.keyboard.press("m")
    page.click("#export")
    wait_for(page, lambda: "Points are exported" in page.inner_text("#job"), "the export")
    page.click("#map-images")
    wait_for(page, lambda: " mapped. " in page.inner_text("#job"), "the maps")
    print(f"maps after {(time.monotonic() - start) / 60:.1f} min")
    page.evaluate("() => document.querySelector('#job').scrollIntoView()")
    save(page, pictures / "label_export.jpg")
    page.set_viewport_size(NARROW)
    page.evaluate("() => document.querySelector('#classes').scrollIntoView()")
    wait_for_map(page, count)
    save(page, pictures / "label_narrow.jpg")
    animate(frames, pictures / "label.gif")


def inner_pixel(is_class: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
    """Return a pixel of a class that is not beside another class, if there is one."""
    inner = is_class.copy()
    for axis in (0, 1):
        for step in (-3, 3):
            inner &= np.roll(is_class, step, axis)
    rows, cols = np.nonzero(inner if inner.any() else is_class)
    chosen = generator.integers(len(rows))
    return int(rows[chosen]), int(cols[chosen])


def corner_and_scale(page: Any) -> tuple[float, float, float]:
    """Return where the image begins in the window, and how large its pixels are."""
    x, y, size = page.evaluate(
        "() => [...document.querySelectorAll('.leaflet-tile')]"
        ".map((one) => one.getBoundingClientRect())"
        ".reduce((a, b) => [Math.min(a[0], b.left), Math.min(a[1], b.top), b.width / 256],"
        " [1e9, 1e9, 1])"
    )
    return x, y, size


def click(page: Any, place: tuple[int, int], class_id: int, count: int) -> None:
    """Choose a class by its key, click on a pixel, and wait until the point is saved."""
    page.keyboard.press(str(class_id + 1))
    x, y, size = corner_and_scale(page)
    page.mouse.click(x + (place[1] + 0.5) * size, y + (place[0] + 0.5) * size)
    wait_for(page, lambda: page.inner_text("#saved").startswith(f"{count} "), f"point {count}")


def suggested(page: Any) -> tuple[int, int]:
    """Return the row and column of the yellow point."""
    x, y, size = corner_and_scale(page)
    box = None
    while box is None:  # the page may be about to replace it
        box = page.locator(".suggestion").bounding_box()
    col = (box["x"] + box["width"] / 2 - x) / size
    row = (box["y"] + box["height"] / 2 - y) / size
    return int(row), int(col)


def wait_for_map(page: Any, count: int) -> None:
    """Wait until the map of so many points is drawn."""
    start = f"map of {count} points"
    wait_for(page, lambda: page.inner_text("#map-state").startswith(start), start)
    time.sleep(0.3)


def wait_for(page: Any, check: Any, what: str) -> None:
    """Wait until a check is true."""
    end = time.monotonic() + LONGEST_S
    while not check():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}: {page.inner_text('body')}")
        time.sleep(0.05)


def save(page: Any, path: Path) -> None:
    """Save a screenshot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.mouse.move(5, 300)
    page.screenshot(path=str(path), type="jpeg", quality=82)


def animate(frames: list[bytes], path: Path) -> None:
    """Write screenshots as a GIF."""
    from io import BytesIO

    shown = []
    for frame in frames:
        image = Image.open(BytesIO(frame)).convert("RGB")
        size = (FRAME_PX, round(image.height * FRAME_PX / image.width))
        shown.append(image.resize(size, Image.Resampling.LANCZOS).quantize(96))
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=FRAME_MS, loop=0)


if __name__ == "__main__":
    main()
