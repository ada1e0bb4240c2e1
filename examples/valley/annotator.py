"""Simulate the annotator of docs/tutorials/clicks-to-map.md and areas-report.md.

    python examples/valley/annotator.py draw valley
    python examples/valley/annotator.py click valley valley/labels/clicks.gpkg
    python examples/valley/annotator.py answer valley valley/next.gpkg valley/labels/clicks.gpkg
    python examples/valley/annotator.py picture valley
    python examples/valley/annotator.py label valley sample.gpkg
    python examples/valley/annotator.py truth valley sample.gpkg

They draw images, click, answer suggestions, draw pictures, label a sample, and tell the true areas.
On your own images you do the clicks and labels yourself, in QGIS.
"""

import sys
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import rasterio
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio.transform import from_origin, rowcol, xy

from pointcover.datasets.synthetic.landscape import draw_orthophoto

HERE = Path(__file__).parent
CRS = "EPSG:2180"
SIZE_PX = 512
GSD_M = 0.25
NAMES = ("north", "east", "south", "west", "hill", "lake")
CARD = yaml.safe_load((HERE / "valley.yaml").read_text(encoding="utf-8"))
CLASSES = tuple(entry["name"] for entry in CARD["classes"])
COLOURS = tuple(entry["colour"] for entry in CARD["classes"])
CLICKS = 8
"""Clicks on each class of an image: two minutes an image, at three seconds a click."""


def draw(folder: Path) -> None:
    """Draw the images of a synthetic valley, and their dense masks."""
    for number, name in enumerate(NAMES):
        image, mask = draw_orthophoto(SIZE_PX, np.random.default_rng([2026, number]))
        place = from_origin(500_000 + number * SIZE_PX * GSD_M, 600_000, GSD_M, GSD_M)
        for kind, values in (("images", image), ("ground", mask[np.newaxis])):
            path = folder / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=SIZE_PX,
                width=SIZE_PX,
                count=len(values),
                dtype="uint8",
                crs=CRS,
                transform=place,
            ) as file:
                file.write(values)


def look(folder: Path, name: str, rows: np.ndarray, cols: np.ndarray) -> list[str]:
    """Return the classes at rows and columns of an image."""
    ground = read(folder / "ground" / f"{name}.tif")[0]
    return [CLASSES[value] for value in ground[rows, cols]]


def click(folder: Path, out: Path) -> None:
    """Click on a few places of each class in each image."""
    tables = []
    for number, name in enumerate(NAMES):
        generator = np.random.default_rng([7, number])
        ground = read(folder / "ground" / f"{name}.tif")[0]
        seen = [np.argwhere(ground == value) for value in np.unique(ground)]
        rows, cols = np.concatenate([generator.choice(part, CLICKS) for part in seen]).T
        with rasterio.open(folder / "images" / f"{name}.tif") as file:
            places = geopandas.points_from_xy(*xy(file.transform, rows, cols), crs=CRS)
        names = {"class": look(folder, name, rows, cols), "orthophoto": name}
        tables.append(geopandas.GeoDataFrame(names, geometry=places))
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_file(out, layer="clicks", driver="GPKG")


def answer(folder: Path, asked: Path, clicks: Path) -> None:
    """Fill in the class of each suggested click, and add the layer to the clicks."""
    table = geopandas.read_file(asked, layer="suggestions")
    for name, part in table.groupby("image"):
        table.loc[part.index, "class"] = look(folder, name, *pixels_of(folder, name, part))
    table.to_file(clicks, layer="answers", driver="GPKG")


def pixels_of(folder: Path, name: str, points: geopandas.GeoDataFrame) -> np.ndarray:
    """Return rows and columns of points in an image: (2, points)."""
    with rasterio.open(folder / "images" / f"{name}.tif") as file:
        return np.array(rowcol(file.transform, points.geometry.x, points.geometry.y), int)


def label(folder: Path, sample: Path) -> None:
    """Fill in the class of each point of a sample, looking at the ground and not at the map."""
    table = geopandas.read_file(sample, layer="sample")
    for name, part in table.groupby("map"):
        image = name.removesuffix("_classes")
        table.loc[part.index, "class"] = look(folder, image, *pixels_of(folder, image, part))
    table.to_file(sample, layer="sample", driver="GPKG")


def truth(folder: Path, sample: Path) -> None:
    """Print the true area of each class, and draw the points of a sample on two of the maps."""
    grounds = [read(folder / "ground" / f"{name}.tif")[0] for name in NAMES]
    pixels = np.bincount(np.concatenate([ground.ravel() for ground in grounds]))
    for name, count in zip(CLASSES, pixels, strict=False):
        sys.stdout.write(f"{name} {count * GSD_M**2 / 10_000:.2f} ha\n")
    table = geopandas.read_file(sample, layer="sample")
    figure = Figure(figsize=(9, 4.9), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), NAMES[:2], strict=True):
        image = read(folder / "images" / f"{name}.tif").transpose(1, 2, 0)
        show(axes, image, name)
        part = table[table["map"] == f"{name}_classes"]
        rows, cols = pixels_of(folder, name, part)
        axes.scatter(cols, rows, c="#ffe600", s=22, edgecolors="black", linewidths=0.6)
    save(figure, folder / "5_sample.jpg")


def read(path: Path) -> np.ndarray:
    """Read a raster: (bands, H, W)."""
    with rasterio.open(path) as file:
        return file.read()


def picture(folder: Path) -> None:
    """Draw the figures of the tutorial into FOLDER; maps are in its `first` and `second`."""
    images = {name: read(folder / "images" / f"{name}.tif").transpose(1, 2, 0) for name in NAMES}
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, NAMES, strict=True):
        show(axes, images[name], name)
    save(figure, folder / "1_images.jpg")

    clicks = geopandas.read_file(folder / "labels" / "clicks.gpkg", layer="clicks")
    asked = geopandas.read_file(folder / "next.gpkg", layer="suggestions")
    for number, table, column in ((2, clicks, "orthophoto"), (4, asked, "image")):
        figure = Figure(figsize=(9, 4.9), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), NAMES[:2], strict=True):
            show(axes, images[name], name)
            part = table[table[column] == name]
            rows, cols = pixels_of(folder, name, part)
            ids = [CLASSES.index(value or "background") for value in part["class"]]
            fill = [COLOURS[value] for value in ids] if number == 2 else "#ffe600"
            axes.scatter(cols, rows, c=fill, s=26, edgecolors="white", linewidths=0.8)
        if number == 2:
            legend(figure)
        save(figure, folder / ("2_clicks.jpg" if number == 2 else "4_next.jpg"))

    shown = ("west", "hill")
    figure = Figure(figsize=(12, 6.9), layout="constrained")
    for row, name in zip(figure.subplots(2, 4), shown, strict=True):
        ground = read(folder / "ground" / f"{name}.tif")[0]
        show(row[0], images[name], f"{name}: image")
        for axes, when in zip(row[1:3], ("first", "second"), strict=True):
            found = read(folder / when / f"{name}_classes.tif")[0]
            right = 100 * (found == ground).mean()
            show(axes, found, f"{when} map, {right:.0f} % of the ground right")
        show(row[3], ground, "what is on the ground")
    legend(figure)
    save(figure, folder / "3_maps.jpg")


def show(axes: Axes, values: np.ndarray, title: str) -> None:
    """Show an image, or class ids in their colours."""
    colours = ListedColormap(COLOURS)
    axes.imshow(values, cmap=colours, vmin=-0.5, vmax=len(CLASSES) - 0.5, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def legend(figure: Figure) -> None:
    """Add a legend of the classes below a figure."""
    named = [Patch(color=c, label=name) for name, c in zip(CLASSES, COLOURS, strict=True)]
    figure.legend(handles=named, loc="outside lower center", ncols=len(CLASSES), frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Save a figure."""
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 80, "optimize": True})


ACTIONS = {
    "draw": (draw, 1),
    "click": (click, 2),
    "answer": (answer, 3),
    "picture": (picture, 1),
    "label": (label, 2),
    "truth": (truth, 2),
}
"""The commands, with the number of their paths."""

if __name__ == "__main__":
    name, *paths = sys.argv[1:] or [""]
    action, count = ACTIONS.get(name, (None, 0))
    if action is None or len(paths) != count:
        sys.exit(f"got {sys.argv[1:]}, wanted what the tutorials say")
    action(*map(Path, paths))
