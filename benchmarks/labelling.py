"""Latency of the page for labelling, and the score that a simulated annotator reaches with it.

    PYTHONPATH=src python benchmarks/labelling.py latency [--points 500] [--clicks 500]
    PYTHONPATH=src python benchmarks/labelling.py annotate IMAGES MASKS CARD [--clicks 200]
    PYTHONPATH=src python benchmarks/labelling.py pipeline IMAGES MASKS CARD [--clicks 200]

`latency` draws an image of 1024² px, gives it points, and clicks: each click goes to the server by
HTTP, as from the page. It prints the median and the 95th percentile from a click to its
confirmation, and to the picture of the first map that knows it, which is fetched as the page does.
The processor time is printed, too, since other programs may run.

`annotate` clicks on all images of a folder but the last third, which are for testing: on each class
first, then where the page suggests, or at random. The answer comes from the mask. At some numbers
of clicks the test images are mapped by the server and compared with their masks. CARD is a YAML
file with the classes; --out FILE writes the scores as JSON.

`pipeline` fits what the pipeline does by default (the recipe `fast`) on as many clicks at uniform
places of the same images, and scores it on the same test images.
"""
# ruff: noqa: T201

import argparse
import http.client
import json
import os
import resource
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
import torch
import uvicorn

from pointcover.config.params import load_params
from pointcover.datasets.card import DatasetCard
from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.labelling.access import Access
from pointcover.labelling.project import Project
from pointcover.labelling.routes import make_app
from pointcover.labelling.serve import listen
from pointcover.labelling.session import Session
from pointcover.labelling.settings import ClassSettings
from pointcover.labelling.view import ViewMap
from pointcover.labels import IGNORE_INDEX, ids_from_colours, ids_from_values
from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import GeoTiffProfile, RasterReader, Window, write_geotiff
from pointcover.training.classifiers.features import make_features
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.classifiers.labelled_pixels import LabelledWindow, collect
from pointcover.training.classifiers.sample_weights import weight_classes
from pointcover.training.losses.make import balanced_weights
from pointcover.yaml_files import read_yaml

SIZE_PX = 1024
NAMES = ("field", "building", "forest", "water", "road")
COLOURS = ("#A4C639", "#D7301F", "#1B5E20", "#1E88E5", "#616161")
FIRST = 3
"""Clicks on each class before the page suggests."""
CHECKS = (15, 25, 40, 60, 90, 130, 200, 300, 500)
"""Clicks after which the test images are mapped."""
SECONDS_A_CLICK = 3.0
"""That a person takes."""


class Client:
    """Talks to the server as the page does."""

    def __init__(self, session: Session, access: Access) -> None:
        """Take what the page has."""
        self._port, self._session = access.port, session.id
        self._headers = {
            "X-Pointcover": "1",
            "X-Pointcover-Session": session.id,
            "Cookie": f"{access.cookie}={access.token}",
            "Content-Type": "application/json",
        }

    def add(self, values: dict[str, Any]) -> Any:
        """Add a point, and return the answer."""
        return self.post("add", values | {"id": uuid.uuid4().hex})

    def post(self, path: str, values: dict[str, Any]) -> Any:
        """Send a request, and return its answer."""
        return json.loads(self._request("POST", f"/api/{path}", json.dumps(values)))

    def fetch_map(self, changes: int) -> None:
        """Wait for the first map that knows so many changes, and fetch its picture."""
        seen = ""
        while True:
            status = json.loads(self._request("GET", f"/api/status?seen={seen}"))
            shown, seen = status["map"], status["number"]
            if shown is not None and shown["changes"] >= changes:
                self._request("GET", f"/api/{self._session}/map/{shown['number']}/classes.png")
                return

    def _request(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request(method, path, body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise ValueError(content.decode())
        return content


@contextmanager
def serve(images: Sequence[Path], classes: Sequence[ClassSettings], folder: Path) -> Iterator[Any]:
    """Serve a new project; yield its session and a client."""
    project = Project(folder, images, "benchmark")
    project.set_classes(classes, {})
    session = Session(project)
    opened, access = listen(Access())
    config = uvicorn.Config(make_app(session, access), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [opened]})
    session.start()
    thread.start()
    try:
        yield session, Client(session, access)
    finally:
        server.should_exit = True
        thread.join()
        session.close()


def wait_for_map(session: Session, changes: int, image: int) -> ViewMap:
    """Return the first map of an image that knows so many changes."""
    while True:
        shown = session.live.view_map
        if shown is not None and shown.changes >= changes and shown.image == image:
            return shown
        time.sleep(0.002)


def finish(session: Session, changes: int, image: int) -> ViewMap:
    """Return the map of an image when all its pixels are mapped."""
    while True:
        shown = wait_for_map(session, changes, image)
        if not session.live.is_busy and session.live.view_map is shown:
            return shown
        time.sleep(0.01)


def latency(points: int, clicks: int) -> None:
    """Measure the time from clicks to their confirmation, and to the next map."""
    generator = np.random.default_rng(1)
    image, mask = draw_orthophoto(SIZE_PX, generator)
    places = generator.integers(0, SIZE_PX, (points + clicks, 2)).tolist()
    classes = [ClassSettings(name=n, colour=c) for n, c in zip(NAMES, COLOURS, strict=True)]
    with TemporaryDirectory() as name:
        path = write_image(Path(name) / "images" / "a.tif", image)
        with serve([path], classes, Path(name) / "project") as (session, client):
            for row, col in places[:points]:
                label = NAMES[int(mask[row, col]) % len(NAMES)]
                session.project.history.add("a.tif", col + 0.5, row + 0.5, label)
            client.post("view", whole(0, SIZE_PX))
            changes = session.live.points_changed()
            start = time.perf_counter()
            finish(session, changes, 0)
            print(f"first map of a view of {SIZE_PX}² px: {time.perf_counter() - start:.1f} s")
            stored, mapped, used = [], [], []
            for row, col in places[points:]:
                label = NAMES[int(mask[row, col]) % len(NAMES)]
                start, begun = time.perf_counter(), processor_s()
                answer = client.add({"image": 0, "x": col + 0.5, "y": row + 0.5, "class": label})
                stored.append(time.perf_counter() - start)
                client.fetch_map(answer["changes"])
                mapped.append(time.perf_counter() - start)
                used.append(processor_s() - begun)
    print(
        f"{clicks} clicks, {points} points before, {len(os.sched_getaffinity(0))} cores, ", end=""
    )
    print(f"load of the machine {os.getloadavg()[0]:.1f}")
    for what, values in (
        ("click to stored", stored),
        ("click to new map", mapped),
        ("processor time of a new map", used),
    ):
        middle, high = np.percentile(values, (50, 95))
        print(f"{what}: p50 {middle:.3f} s, p95 {high:.3f} s")


def annotate(options: argparse.Namespace) -> None:
    """Click on a folder of images, and print the score at some numbers of clicks."""
    card, images, masks = read_all(options)
    classes = [ClassSettings(name=one.name, colour=one.colour.upper()) for one in card.classes]
    cut = len(images) - max(1, len(images) // 3)
    found = {}
    for strategy in ("suggested", "random"):
        with (
            TemporaryDirectory() as name,
            serve(images, classes, Path(name) / "project") as (session, client),
        ):
            found[strategy] = list(
                click_all(session, client, masks, cut, (strategy, options.clicks))
            )
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def pipeline(options: argparse.Namespace) -> None:
    """Fit the pipeline's classifier on uniform clicks, and print its score on the test images."""
    card, images, masks = read_all(options)
    names = [one.name for one in card.classes]
    cut = len(images) - max(1, len(images) // 3)
    pictures = [read_image(path) for path in images]
    settings = load_params(Path(__file__).parents[1] / "params.yaml").train
    fit = ClassifierFit(settings.model, settings.classifier, len(names), 1)
    features = make_features(settings, fit, 3).eval()
    values = np.concatenate([picture.reshape(3, -1) for picture in pictures[:cut]], axis=1)
    band_stds = values.std(axis=1).tolist()
    generator = np.random.default_rng(2)
    chosen = [np.full_like(mask, IGNORE_INDEX) for mask in masks[:cut]]
    done, found = 0, []
    for check in [count for count in CHECKS if count <= options.clicks]:
        while done < check:
            image = done % cut
            row, col = (int(generator.integers(side)) for side in masks[image].shape)
            if masks[image][row, col] != IGNORE_INDEX:
                chosen[image][row, col] = masks[image][row, col]
                done += 1
        windows = [
            LabelledWindow(picture, mask, str(number))
            for number, (picture, mask) in enumerate(zip(pictures, chosen, strict=False))
        ]
        pixels = collect(features, windows)
        balanced = balanced_weights(np.bincount(pixels.classes, minlength=len(names)).tolist())
        weights = weight_classes(pixels.classes, pixels.weights, balanced)
        classifier = fit.fit(features, replace(pixels, weights=weights), band_stds).eval()
        confusion = torch.zeros((len(names), len(names)), dtype=torch.int64)
        for picture, mask in zip(pictures[cut:], masks[cut:], strict=True):
            with torch.inference_mode():
                predicted = classifier(torch.from_numpy(picture)[None]).argmax(dim=1)
            confusion += confusion_matrix(predicted, torch.from_numpy(mask)[None], len(names))
        miou = float(scores(confusion.numpy(), names)["miou"])
        print(f"pipeline   {done:4} clicks: mIoU {miou:.3f}", flush=True)
        found.append({"clicks": done, "miou": miou, "person_s": done * SECONDS_A_CLICK})
    if options.out:
        options.out.write_text(json.dumps({"pipeline": found}, indent=2) + "\n", encoding="utf-8")


def read_all(options: argparse.Namespace) -> tuple[DatasetCard, list[Path], list[np.ndarray]]:
    """Return the card, the images, and their masks."""
    card = DatasetCard.model_validate(read_yaml(options.card) | {"images": "*.tif", "masks": None})
    endings = {".tif", ".png", ".jpg"}
    images = sorted(p for p in options.images.iterdir() if p.suffix.lower() in endings)
    return card, images, [read_mask(path, options.masks, card) for path in images]


def read_image(path: Path) -> np.ndarray:
    """Read the first three bands of an image."""
    reader = RasterReader(path)
    info = reader.info()
    return reader.read(Window(0, 0, info.width, info.height), (1, 2, 3))


def click_all(
    session: Session,
    client: Client,
    masks: Sequence[np.ndarray],
    cut: int,
    task: tuple[str, int],
) -> Iterator[dict[str, Any]]:
    """Click, and yield the scores on the test images."""
    strategy, most = task
    generator = np.random.default_rng(2)
    names = session.project.class_names
    start = time.perf_counter()
    done = changes = 0
    checks = [count for count in CHECKS if count <= most]
    queue = first_clicks(masks[:cut], len(names), generator)
    while checks:
        image = done % cut
        if queue:
            image, row, col = queue.pop(0)
        elif strategy == "suggested":
            row, col = next_click(session, client, image, changes)
        else:
            row, col = (int(generator.integers(side)) for side in masks[image].shape)
        class_id = int(masks[image][row, col])
        if class_id == IGNORE_INDEX:
            continue
        values = {"image": image, "x": col + 0.5, "y": row + 0.5, "class": names[class_id]}
        changes = client.add(values)["changes"]
        done += 1
        if done == checks[0]:
            checks.pop(0)
            machine_s = time.perf_counter() - start
            miou = test(session, client, masks, cut, changes)
            person_s = done * SECONDS_A_CLICK
            print(f"{strategy:10} {done:4} clicks, {person_s:.0f} s of a person: mIoU {miou:.3f}")
            yield {"clicks": done, "miou": miou, "person_s": person_s, "machine_s": machine_s}


def first_clicks(
    masks: Sequence[np.ndarray], classes: int, generator: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Return some clicks on each class, in images that have it."""
    clicks = []
    for number in range(FIRST):
        for class_id in range(classes):
            having = [n for n, mask in enumerate(masks) if (mask == class_id).any()]
            if having:
                image = having[number % len(having)]
                rows, cols = np.nonzero(masks[image] == class_id)
                chosen = generator.integers(len(rows))
                clicks.append((image, int(rows[chosen]), int(cols[chosen])))
    return clicks


def next_click(session: Session, client: Client, image: int, changes: int) -> tuple[int, int]:
    """Return the row and column that the page suggests first."""
    info = session.readers[image].info
    client.post("view", whole(image, max(info.height, info.width)))
    finish(session, changes, image)
    first = client.post("suggest", {"image": image})[0]
    return int(first["y"]), int(first["x"])


def test(
    session: Session, client: Client, masks: Sequence[np.ndarray], cut: int, changes: int
) -> float:
    """Return the mIoU of the maps of the test images."""
    count = len(session.project.class_names)
    confusion = torch.zeros((count, count), dtype=torch.int64)
    for image in range(cut, len(masks)):
        mask = masks[image]
        client.post("view", whole(image, max(mask.shape)))
        shown = finish(session, changes, image)
        ids = np.where(shown.class_ids == IGNORE_INDEX, 0, shown.class_ids)
        predicted = torch.from_numpy(ids[: mask.shape[0], : mask.shape[1]])
        confusion += confusion_matrix(predicted[None], torch.from_numpy(mask)[None], count)
    return float(scores(confusion.numpy(), session.project.class_names)["miou"])


def whole(image: int, side: int) -> dict[str, int]:
    """Return the view of a whole image at full resolution."""
    return {"image": image, "level": 0, "top": 0, "left": 0, "bottom": side, "right": side}


def read_mask(image: Path, folder: Path, card: DatasetCard) -> np.ndarray:
    """Read the mask of an image, by the stem of its name."""
    path = next(p for p in sorted(folder.iterdir()) if p.stem in (image.stem, f"{image.stem}_m"))
    reader = RasterReader(path)
    info = reader.info()
    window = Window(0, 0, info.width, info.height)
    if card.mask_values == "colours":
        return ids_from_colours(reader.read_rgb(window), card.colour_ids())
    return ids_from_values(reader.read(window)[0], card.value_ids())


def write_image(path: Path, image: np.ndarray) -> Path:
    """Write (bands, H, W) as a GeoTIFF."""
    profile = GeoTiffProfile(
        height=image.shape[1],
        width=image.shape[2],
        bands=len(image),
        block_px=256,
        crs="EPSG:2180",
        transform=north_up(500_000, 600_000, 0.25),
    )
    with write_geotiff(path, profile) as writer:
        writer.write(image, Window(0, 0, image.shape[2], image.shape[1]))
    return path


def processor_s() -> float:
    """Return the processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("latency")
    one.add_argument("--points", type=int, default=500)
    one.add_argument("--clicks", type=int, default=500)
    for command in ("annotate", "pipeline"):
        two = commands.add_parser(command)
        for name in ("images", "masks", "card"):
            two.add_argument(name, type=Path)
        two.add_argument("--clicks", type=int, default=200)
        two.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.command == "latency":
        latency(options.points, options.clicks)
    elif options.command == "annotate":
        annotate(options)
    else:
        pipeline(options)


if __name__ == "__main__":
    main()
