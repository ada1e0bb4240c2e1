"""Point labels that are written in any format are read back as the same masks."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyogrio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, write_mask
from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.vectors.point_labels import PointLabels
from pointcover.vectors.rasterize import PlacementReport, place_annotations
from pointcover.vectors.read_labels import read_labels
from pointcover.vectors.settings import VectorSettings
from pointcover.vectors.write_points import POINT_FORMATS, write_points
from tests.geopackages import without_counters
from tests.tile_sets import lay_grid
from tests.vectors.formats.labels import CLASSES

PLACES = {
    "none": (None, Affine.identity()),
    "poland": ("EPSG:2180", from_origin(500_000, 600_000, 0.25, 0.25)),
    "degrees": ("EPSG:4326", from_origin(19.123456, 50.654321, 1e-6, 1e-6)),
}


class Labelled:
    """Point labels of images, on tiles of their pixels or of several pixels each."""

    def __init__(self, folder, masks, place="none", downsample=1, classes=CLASSES):
        self.folder, self.masks, self.classes = folder, masks, classes
        crs, transform = PLACES[place]
        self.tiles, images = [], []
        for (split, name), mask in masks.items():
            height, width = mask.shape
            like = RasterInfo(
                Path(name),
                height,
                width,
                1,
                "uint8",
                CRS.from_user_input(crs) if crs else None,
                transform @ Affine.scale(downsample),
                has_palette=False,
            )
            with write_mask(
                raster_path(folder / "clicks", split, name), like=like, block_px=64, classes=CLASSES
            ) as out:
                for number, window in enumerate(lay_grid(height, width, 64)):
                    out.write(np.ascontiguousarray(mask[window.toslices()])[None], window)
                    self.tiles.append(
                        Tile(
                            f"{name}_{number}",
                            name,
                            name,
                            split,
                            int(window.row_off),
                            int(window.col_off),
                            int(window.height),
                            int(window.width),
                            (),
                        )
                    )
            # A few pixels of the file are too few for one of the tiles.
            size = height * downsample + downsample // 2, width * downsample
            images.append(
                SourceImage(name, f"photos of it/{name}.png", *size, downsample, bool(crs))
            )
        self.images = SourceImages(images)

    def write(self, kind, limit=10**6):
        path = self.folder / f"out{POINT_FORMATS[kind].ending}"
        labels = PointLabels(self.tiles, self.folder / "clicks", self.classes, limit)
        return path, write_points(path, labels, self.images, kind)

    def read(self, path):
        """Return the masks of the written points."""
        paths = sorted(path.iterdir()) if path.is_dir() else [path]
        found = read_labels(paths, self.classes, VectorSettings(), self.images)
        masks = {}
        for split, name in self.masks:
            grid = RasterReader(raster_path(self.folder / "clicks", split, name)).info()
            report = PlacementReport(found)
            placed = place_annotations(found, grid, report, orthophoto=name, all_touched=False)
            masks[split, name] = placed.burn(Window(0, 0, grid.width, grid.height))
            assert not report.conflicting.any()
        return masks


@st.composite
def masks_of_points(draw):
    """Draw masks of one to three images, of which one at least has a point."""
    masks = {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
        mask = np.full((height, width), IGNORE_INDEX, np.uint8)
        count = draw(st.integers(0 if masks else 1, 9))
        for _ in range(count):
            row, column = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            mask[row, column] = draw(st.integers(0, 2))
        masks[draw(st.sampled_from(["train", "val"])), name] = mask
    return masks


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", POINT_FORMATS)
@settings(max_examples=8, deadline=None)
@given(masks=masks_of_points(), downsample=st.integers(1, 3))
def test_points_written_and_read_back_are_the_same_masks(kind, place, masks, downsample):
    with TemporaryDirectory() as folder:
        labelled = Labelled(Path(folder), masks, place, downsample)
        path, layers = labelled.write(kind)
        points = sum(int((mask != IGNORE_INDEX).sum()) for mask in masks.values())
        assert layers == {"points": points}
        for key, mask in labelled.read(path).items():
            np.testing.assert_array_equal(mask, masks[key])


def one_mask(*points, size=(20, 30)):
    mask = np.full(size, IGNORE_INDEX, np.uint8)
    for row, column, class_id in points:
        mask[row, column] = class_id
    return mask


@pytest.mark.parametrize("kind", POINT_FORMATS)
def test_any_class_name_is_written_and_read_back(tmp_path, kind):
    names = ("grass & <trees>", "7\" pipe; 'old'", "Straße, | nass")
    classes = replace(CLASSES, names=names)
    mask = one_mask((1, 2, 0), (3, 4, 1), (5, 6, 2))
    labelled = Labelled(tmp_path, {("train", "a & b"): mask}, classes=classes)
    path, _ = labelled.write(kind)
    np.testing.assert_array_equal(labelled.read(path)["train", "a & b"], mask)


@pytest.mark.parametrize("kind", [kind for kind in POINT_FORMATS if kind != "geopackage"])
def test_the_points_of_an_image_in_two_splits_are_in_one_entry(tmp_path, kind):
    both = {("train", "a"): one_mask((2, 3, 1)), ("val", "a"): one_mask((9, 8, 2))}
    labelled = Labelled(tmp_path, both)
    path, layers = labelled.write(kind)
    assert layers == {"points": 2}
    for mask in labelled.read(path).values():
        np.testing.assert_array_equal(mask, one_mask((2, 3, 1), (9, 8, 2)))


def test_vector_files_in_pixels_lie_where_qgis_shows_the_image(tmp_path):
    labelled = Labelled(tmp_path, {("train", "a"): one_mask((2, 3, 1))}, downsample=2)
    for kind, layer in (("geopackage", "points"), ("geojson", None)):
        path, _ = labelled.write(kind)
        table = pyogrio.read_dataframe(path, layer=layer)
        assert (table.geometry[0].x, table.geometry[0].y) == (7, -5)
        assert table["class"][0] == "water"
    assert pyogrio.read_info(tmp_path / "out.gpkg", layer="points")["crs"] is None
    assert '"crs": null' in (tmp_path / "out.geojson").read_text()


def test_images_with_a_transform_alone_are_written_in_pixels_only_by_formats_of_pixels(tmp_path):
    labelled = Labelled(tmp_path, {("train", "a"): one_mask((2, 3, 1))})
    (image,) = labelled.images.by_orthophoto.values()
    labelled.images = SourceImages([SourceImage("a", image.image, 20, 30, 1, is_placed=True)])
    with pytest.raises(ValueError, match=r"has no CRS .* choose a --format in pixels"):
        labelled.write("geopackage")
    path, _ = labelled.write("csv")
    assert (labelled.read(path)["train", "a"] == one_mask((2, 3, 1))).all()


def test_a_geojson_of_several_crs_is_refused(tmp_path):
    labelled = Labelled(tmp_path, {("train", "a"): one_mask((2, 3, 1))}, "poland")
    other = Labelled(tmp_path, {("train", "b"): one_mask((2, 3, 1))}, "degrees")
    labelled.tiles += other.tiles
    with pytest.raises(ValueError, match="a GeoJSON has one CRS"):
        labelled.write("geojson")


def test_equal_labels_give_equal_bytes(tmp_path):
    labelled = Labelled(tmp_path, {("train", "a"): one_mask((2, 3, 1), (4, 5, 0))})
    for kind in POINT_FORMATS:
        written = []
        for _ in range(2):
            path, _ = labelled.write(kind)
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            written.append([without_counters(file.read_bytes()) for file in files])
        assert written[0] == written[1]


@pytest.mark.parametrize("kind", POINT_FORMATS)
def test_another_ending_than_the_format_has_is_refused(tmp_path, kind):
    labels = PointLabels([], tmp_path, CLASSES, 1)
    with pytest.raises(ValueError, match=f"x.txt: format {kind} is written to "):
        write_points(tmp_path / "x.txt", labels, SourceImages([]), kind)
