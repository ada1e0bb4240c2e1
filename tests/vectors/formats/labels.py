"""Files of labels as the tools write them, on two images of 40 × 50 px."""

import base64
import json

import cv2
import numpy as np
from rasterio.transform import Affine

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterInfo, Window
from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.vectors.rasterize import PlacementReport, place_annotations
from pointcover.vectors.read_labels import read_labels
from pointcover.vectors.settings import VectorSettings

CLASSES = ClassTable(("land", "water", "road"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
HEIGHT, WIDTH = 40, 50


def images_of(*names, downsample=1, is_placed=False):
    """Return images of the names, such as `photos/a.png`, whose orthophotos are a, b, …"""
    return SourceImages(
        SourceImage(
            name.rpartition("/")[2].partition(".")[0], name, HEIGHT, WIDTH, downsample, is_placed
        )
        for name in names or ("photos/a.png", "photos/b.png")
    )


def read(*paths, images=None, **settings):
    return read_labels(list(paths), CLASSES, VectorSettings(**settings), images or images_of())


def burn(annotations, orthophoto="a", downsample=1):
    """Return the labels of an image as a mask, on the pixels of its tiles."""
    grid = RasterInfo(
        path=orthophoto,
        height=HEIGHT // downsample,
        width=WIDTH // downsample,
        bands=3,
        dtype="uint8",
        crs=None,
        transform=Affine.identity(),
        has_palette=False,
    )
    report = PlacementReport(annotations)
    placement = place_annotations(
        annotations, grid, report, orthophoto=orthophoto, all_touched=False
    )
    return placement.burn(Window(0, 0, grid.width, grid.height))


def mask_of(**parts):
    """Return a mask with classes in some windows: land=(rows, columns)."""
    mask = np.full((HEIGHT, WIDTH), IGNORE_INDEX, np.uint8)
    for name, (rows, columns) in parts.items():
        mask[rows, columns] = CLASSES.names.index(name)
    return mask


def write_json(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def coco(annotations, images=None, **others):
    return {
        "images": images
        or [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 8, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 3, "name": "Land"}, {"id": 5, "name": "water"}],
        "annotations": [
            {"id": 100 + number, "image_id": 7, "category_id": 5} | each
            for number, each in enumerate(annotations)
        ],
    } | others


def result(kind, value, number=0, **others):
    """Return a result of Label Studio; its value lacks the label where the kind has none."""
    labels = {kind: ["water"]} if kind.endswith("labels") else {}
    return {
        "id": f"r{number}",
        "type": kind,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": labels | value,
    } | others


def label_studio(*results, image="/data/upload/1/0a1b2c3d-a.png", **annotation):
    return [
        {"id": 9, "data": {"image": image}, "annotations": [{"result": list(results)} | annotation]}
    ]


def cvat(*shapes, name="photos/a.png", head=""):
    lines = "\n".join(shapes)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{head}<annotations><version>1.1</version>'
        f"<meta><task><labels/></task></meta>\n"
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">\n{lines}\n</image>'
        f"</annotations>\n"
    )


def labelme(*shapes, image="..\\photos\\a.png"):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {"label": "water", "group_id": None, "flags": {}, "mask": None} | shape
            for shape in shapes
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def png(mask):
    """Return a mask as LabelMe writes it."""
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1]).decode()
