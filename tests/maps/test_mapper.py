"""A map has its image's pixels and place, is whole or to be gone on with, and replaces nothing."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from pointcover.maps import map_files
from pointcover.maps import mapper as mapping
from pointcover.maps.journal import MapJournal
from pointcover.maps.map_files import SUFFIXES
from pointcover.maps.settings import ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.networks.description import Checkpoint
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.prediction.settings import LayerSettings, MeanFieldSettings, PriorSettings
from pointcover.raster.raster_io import open_dataset
from pointcover.runtime import fingerprint
from tests.classifiers import fit
from tests.geopackages import without_counters
from tests.imagery import CRS, ROOT, draw_image, read_tree, write_raster
from tests.map_models import CLASSES, TILE_SET, identity_model, make_map, make_mapper, save_model
from tests.train_settings import network_settings

pytestmark = pytest.mark.usefixtures("blank_pictures")

FILES = ("classes.tif", "classes.qml", "confidence.tif", "confidence.qml", "areas.csv")


def draw_classes(height, width, seed=0):
    """An image whose first band is a map of four classes, in areas of some 20 px."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 4, (height // 20 + 1, width // 20 + 1), np.uint8)
    first = np.kron(coarse, np.ones((20, 20), np.uint8))[:height, :width]
    return np.concatenate([first[None], draw_image(height, width, bands=2)])


def read_map(folder, what="classes"):
    with open_dataset(folder / f"a_{what}.tif") as file:
        return file.read()


PLACES = {
    "projected": (CRS, from_origin(500_000, 600_000, 0.25, 0.25)),
    "odd": ("EPSG:32632", Affine(0.6000000000000894, 0, 465595.7999999, 0, -0.599999999998, 5e6)),
    "turned": (CRS, Affine.translation(5e5, 6e5) @ Affine.rotation(30) @ Affine.scale(0.25, -0.25)),
    "degrees": ("EPSG:4326", from_origin(20.123456789, 52.1, 2.3e-6, 2.3e-6)),
    "south up": ("EPSG:2953", Affine(0.25, 0, 2_332_309.4475, 0, 0.25, 7_599_479.2044)),
    "no CRS": (None, from_origin(10, 20, 0.25, 0.25)),
    "nowhere": (None, Affine.identity()),
}


@pytest.mark.parametrize(("crs", "place"), PLACES.values(), ids=PLACES)
def test_a_map_has_the_grid_of_its_image(tmp_path, crs, place):
    image = draw_classes(150, 210)
    path = write_raster(tmp_path / "a.tif", image, crs=crs, transform=place)
    make_map(path, tmp_path / "out")
    for what in ("classes", "confidence"):
        with (
            open_dataset(tmp_path / "out" / f"a_{what}.tif") as made,
            open_dataset(path) as source,
        ):
            assert made.crs == source.crs
            assert made.transform == source.transform
            assert made.shape == source.shape
    assert np.array_equal(read_map(tmp_path / "out"), image[:1])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (31, 33), (64, 64), (65, 64)])
def test_a_raster_smaller_than_a_window_is_mapped_too(tmp_path, size):
    image = draw_classes(*size)
    path = write_raster(tmp_path / "a.tif", image)
    make_map(path, tmp_path / "out", polygons=True)
    assert np.array_equal(read_map(tmp_path / "out"), image[:1])


def test_a_map_is_cloud_optimised_and_names_its_classes(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(1100, 600))
    layers = LayerSettings(entropy=True, probabilities=True)
    make_map(path, tmp_path / "out", window_px=256, layers=layers)
    for what, bands in (("classes", 1), ("confidence", 1), ("entropy", 1), ("probabilities", 4)):
        with rasterio.open(tmp_path / "out" / f"a_{what}.tif") as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.overviews(1) == [2, 4]
            assert (file.count, file.nodata, file.dtypes[0]) == (bands, 255, "uint8")
            assert file.tags()["POINTCOVER_MODELS"] == "0" * 64
            if what == "classes":
                assert [file.tags()[f"CLASS_{n}"] for n in range(4)] == list(CLASSES.names)
                found = [file.colormap(1)[n][:3] for n in range(4)]
                assert found == list(CLASSES.colours)
            if what == "probabilities":
                names = [f"{name}, percent" for name in CLASSES.names]
                assert file.descriptions == tuple(names)
    assert not list((tmp_path / "out").glob("*.aux.xml"))


def test_overviews_have_the_most_frequent_class(tmp_path):
    image = np.zeros((3, 1024, 1024), np.uint8)
    image[0, :, ::4] = 3  # a quarter of each block: the mean would be another class
    make_map(write_raster(tmp_path / "a.tif", image), tmp_path / "out", window_px=512)
    with rasterio.open(tmp_path / "out" / "a_classes.tif", overview_level=0) as file:
        assert set(np.unique(file.read(1))) <= {0, 3}


def test_pixels_without_data_have_no_class_and_no_confidence(tmp_path):
    image = draw_classes(150, 210) + 1
    image[0] %= 4
    image[:, 40:90, 100:] = 255
    path = write_raster(tmp_path / "a.tif", image, nodata=255)
    areas = make_map(path, tmp_path / "out", layers=LayerSettings(entropy=True, probabilities=True))
    hole = (image == 255).all(axis=0)
    for what in ("classes", "confidence", "entropy", "probabilities"):
        assert ((read_map(tmp_path / "out", what) == 255) == hole).all()
    assert sum(area.pixels for area in areas) == (~hole).sum()
    assert sum(area.fraction for area in areas) == pytest.approx(1, abs=1e-5)


def test_an_image_without_any_data_gives_an_empty_map(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 70, 90), np.uint8), nodata=0)
    areas = make_map(path, tmp_path / "out", polygons=True)
    assert (read_map(tmp_path / "out") == 255).all()
    assert {area.fraction for area in areas} == {None}


def test_areas_are_pixels_times_their_size(tmp_path):
    image = np.zeros((3, 100, 80), np.uint8)
    image[0, :10] = 2
    make_map(write_raster(tmp_path / "a.tif", image), tmp_path / "out")
    with (tmp_path / "out" / "a_areas.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert rows["road"] == {
        "class_id": "2",
        "class": "road",
        "pixels": "800",
        "fraction": "0.1",
        "area_m2": "50.0",
        "area_ha": "0.005",
        "basis": "pixel counts; for areas to report use sample and assess",
    }
    assert rows["wood & heath"]["pixels"] == "0"
    summary = json.loads((tmp_path / "out" / "a.json").read_text())
    assert summary["areas"][2]["area_m2"] == 50


def test_areas_in_degrees_are_of_the_ellipsoid_row_by_row(tmp_path):
    """Upper half 2, lower half 1; rows at 70° north are smaller than at 50°."""
    image = np.zeros((3, 200, 100), np.uint8)
    image[0, :100], image[0, 100:] = 2, 1
    place = from_origin(10, 70, 0.1, 0.1)
    areas = make_map(
        write_raster(tmp_path / "a.tif", image, crs="EPSG:4326", transform=place), tmp_path / "out"
    )
    from pyproj import Geod
    from shapely.geometry import box

    for class_id, south in ((2, 60), (1, 50)):
        # A polygon along parallels needs many corners: sides of geodesics would bulge north.
        outline = box(10, south, 20, south + 10).segmentize(0.01)
        wanted_m2 = abs(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])
        assert areas[class_id].area_m2 == pytest.approx(wanted_m2, rel=1e-6)


def test_areas_on_a_web_map_are_not_those_of_its_plane(tmp_path):
    image = np.zeros((3, 100, 100), np.uint8)
    place = from_origin(2_226_389, 8_399_737, 1, 1)  # 60° north: metres there are half a metre
    path = write_raster(tmp_path / "a.tif", image, crs="EPSG:3857", transform=place)
    areas = make_map(path, tmp_path / "out")
    assert areas[0].area_m2 == pytest.approx(100 * 100 / 4, rel=0.01)


def test_areas_are_none_without_a_pixel_size(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(50, 50), crs=None)
    assert {area.area_m2 for area in make_map(path, tmp_path / "out")} == {None}
    said = ReadingSettings(gsd_m=2)
    areas = make_map(path, tmp_path / "said", reading=said)
    assert sum(area.area_m2 for area in areas) == 50 * 50 * 4


def test_several_models_are_averaged(tmp_path):
    image = np.zeros((3, 64, 64), np.uint8)
    image[0], image[1] = 1, 2

    class Second(type(identity_model().segmenter.network)):
        def forward(self, values):
            return 1.1 * super().forward(values[:, 1:])

    other = identity_model("1" * 64)
    other.segmenter.network = Second()
    path = write_raster(tmp_path / "a.tif", image)
    make_map(path, tmp_path / "out", models=[identity_model(), other])
    assert (read_map(tmp_path / "out") == 2).all()  # the surer one counts for more
    confidence = 100 * (np.exp(5.5) / (np.exp(5.5) + 3) + 1 / (np.exp(5) + 3)) / 2
    assert (read_map(tmp_path / "out", "confidence") == round(confidence)).all()


PRIORS = PriorSettings(fractions={"land": 0.01, "water": 0.97, "road": 0.01, "wood & heath": 0.01})


def test_each_model_is_corrected_by_its_own_label_fractions(tmp_path):
    """Of class 0 both are sure by 5; the first learned water as common as it is."""
    models = [
        identity_model(label_fractions=tuple(PRIORS.fractions.values())),
        identity_model("1" * 64, label_fractions=(0.97, 0.01, 0.01, 0.01)),
    ]
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint8))
    make_map(path, tmp_path / "out", models=models, priors=PRIORS)
    odds = np.array([[np.exp(5), 1, 1, 1], [np.exp(5) / 97, 97, 1, 1]])
    wanted = (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)
    assert (read_map(tmp_path / "out") == wanted.argmax()).all()
    assert (read_map(tmp_path / "out", "confidence") == round(100 * wanted.max())).all()
    summary = json.loads((tmp_path / "out" / "a.json").read_text())
    assert summary["settings"]["priors"] == {"fractions": PRIORS.fractions, "strength": 1}


def test_eight_views_of_an_identity_are_the_identity(tmp_path):
    image = draw_classes(90, 130)
    make_map(write_raster(tmp_path / "a.tif", image), tmp_path / "out", average_views=True)
    assert np.array_equal(read_map(tmp_path / "out"), image[:1])


def test_a_crf_removes_specks_without_a_colour_of_their_own(tmp_path):
    image = np.zeros((3, 90, 130), np.uint8)
    image[0, 20:60, 30:80] = 2
    clean = image[0].copy()
    image[0, 5::10, 5::10] = 1  # of 255: no colour of its own
    path = write_raster(tmp_path / "a.tif", image)
    make_map(path, tmp_path / "out")
    assert np.array_equal(read_map(tmp_path / "out")[0], image[0])
    make_map(path, tmp_path / "smooth", crf=MeanFieldSettings(iterations=5))
    assert np.array_equal(read_map(tmp_path / "smooth")[0], clean)
    with pytest.raises(FileExistsError, match="add --force"):  # it is another map
        make_map(path, tmp_path / "out", crf=MeanFieldSettings(iterations=5))


# What exists already ---------------------------------------------------------------------------


def test_an_existing_map_is_not_made_again(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    make_map(path, tmp_path / "out")
    (task,) = make_mapper().prepare([path], tmp_path / "out", replace=False)
    assert task.is_done
    (task,) = make_mapper().prepare([path], tmp_path / "out", replace=True)
    assert not task.is_done


def test_a_file_beside_an_image_that_places_it_makes_another_map(tmp_path):
    plain = {"crs": None, "transform": None}
    path = write_raster(tmp_path / "a.tif", draw_classes(100, 130), **plain)
    make_map(path, tmp_path / "out")
    path.with_suffix(".tfw").write_text("0.25\n0\n0\n-0.25\n500000\n600000\n")
    with pytest.raises(FileExistsError, match="is not the map of this image by these models"):
        make_mapper().prepare([path], tmp_path / "out", replace=False)
    make_map(path, tmp_path / "out", force=True)
    with open_dataset(tmp_path / "out" / "a_classes.tif") as made:
        assert made.transform.c == 500_000 - 0.125
    (task,) = make_mapper().prepare([path], tmp_path / "out", replace=False)
    assert task.is_done


def test_another_map_is_replaced_only_with_force_and_completely(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    make_map(path, tmp_path / "out", layers=LayerSettings(entropy=True))
    before = read_tree(tmp_path / "out")
    for changes in ({}, {"models": [identity_model("2" * 64)]}, {"overlap": 0.5}):
        with pytest.raises(FileExistsError, match=r"a_classes\.tif exists, .* add --force"):
            make_map(path, tmp_path / "out", **changes)
    assert read_tree(tmp_path / "out") == before
    make_map(path, tmp_path / "out", force=True)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {f"a_{name}" for name in (*FILES, "preview.png")} | {"a.json"}


@pytest.mark.parametrize("what", ["threads", "batch_size", "a map of before"])
def test_changes_of_the_last_bit_do_not_invalidate_a_map(tmp_path, monkeypatch, what):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    make_map(path, tmp_path / "out")
    changes = {"batch_size": 2} if what == "batch_size" else {}
    summary = tmp_path / "out" / "a.json"
    if what == "threads":
        monkeypatch.setattr(fingerprint, "environment_of", lambda device: {"machine": "another"})
    elif what == "a map of before":
        values = json.loads(summary.read_text())
        del values["image_sha256"], values["seams"]
        summary.write_text(json.dumps(values))
    (task,) = make_mapper(**changes).prepare([path], tmp_path / "out", replace=False)
    assert task.is_done
    write_raster(path, draw_classes(70, 70, seed=1))
    with pytest.raises(FileExistsError, match="is not the map of this image"):
        make_mapper(**changes).prepare([path], tmp_path / "out", replace=False)
    for text in ("[]", '{"settings": 5}', '{"settings": {}, "models": [1]}'):
        summary.write_text(text)
        with pytest.raises(FileExistsError, match="is not the map of this image"):
            make_mapper().prepare([path], tmp_path / "out", replace=False)


def test_strips_without_counts_of_seams_are_made_again(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", draw_classes(250, 210))
    make_map(path, tmp_path / "wanted")
    with monkeypatch.context() as patch:
        fail_after(patch, 3)
        with pytest.raises(Interruption):
            make_map(path, tmp_path / "out")
    counts = tmp_path / "out" / "a.map.partial" / "strip_00001.json"
    counts.unlink()
    saved = fail_after(monkeypatch, 99)
    make_map(path, tmp_path / "out")
    assert saved[0] == 1
    assert (tmp_path / "out" / "a.json").read_text() == (tmp_path / "wanted" / "a.json").read_text()


def test_polygons_are_added_only_to_the_same_map(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    wanted = make_map(path, tmp_path / "wanted", polygons=True, least_m2=5)
    make_map(path, tmp_path / "out")
    made = (tmp_path / "out" / "a_classes.tif").stat().st_mtime_ns
    assert make_map(path, tmp_path / "out", polygons=True, least_m2=5) == wanted
    assert (tmp_path / "out" / "a_classes.tif").stat().st_mtime_ns == made
    assert read_tree(tmp_path / "out").keys() == {
        name.replace("wanted", "out") for name in read_tree(tmp_path / "wanted")
    }
    made_later, at_once = (read_without_counters(tmp_path / name) for name in ("out", "wanted"))
    for name in ("a.json", "a_polygons.gpkg"):
        assert made_later[name] == at_once[name]
    for said in ({"polygons": True, "least_m2": 5}, {}):
        (task,) = make_mapper(**said).prepare([path], tmp_path / "out", replace=False)
        assert task.is_done
    with pytest.raises(FileExistsError, match="is not the map of this image"):
        make_map(path, tmp_path / "out", polygons=True, least_m2=1)


def read_without_counters(folder):
    """Read all files; of a GeoPackage without SQLite's count of transactions, which varies."""
    return {path.name: without_counters(path.read_bytes()) for path in folder.iterdir()}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("when", ["traced", "in place"])
def test_failed_polygons_leave_a_complete_map_and_only_they_are_repeated(
    tmp_path, monkeypatch, force, when
):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    make_map(path, tmp_path / "wanted", polygons=True)
    if force:
        make_map(path, tmp_path / "out", overlap=0.5, polygons=True)
    with monkeypatch.context() as patch:
        if when == "traced":
            patch.setattr("pointcover.maps.trace._reserve", interrupt)
        else:
            publish = mapping.publish_json
            patch.setattr(
                mapping,
                "publish_json",
                lambda path, values: interrupt() if "polygons" in values else publish(path, values),
            )
        with pytest.raises(Interruption):
            make_map(path, tmp_path / "out", polygons=True, force=force)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"a_{name}" for name in (*FILES, "preview.png")} | {"a.json"} <= there
    assert ("a_polygons.gpkg" in there) == (when == "in place")
    saved = fail_after(monkeypatch, 0)
    make_map(path, tmp_path / "out", polygons=True, force=force)
    assert saved == []
    assert read_without_counters(tmp_path / "out") == read_without_counters(tmp_path / "wanted")


def test_another_file_of_the_same_name_is_not_replaced(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a\.json exists"):
        make_map(path, tmp_path / "out")


def test_an_output_that_is_an_image_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    other = write_raster(tmp_path / "a_classes.tif", draw_classes(70, 70))
    with pytest.raises(ValueError, match=r"the map of .*a\.tif would replace the image"):
        make_mapper().prepare([path, other], tmp_path, replace=True)


def test_two_images_of_one_name_are_refused(tmp_path):
    paths = [write_raster(tmp_path / sub / "a.tif", draw_classes(70, 70)) for sub in "xy"]
    with pytest.raises(ValueError, match=r"would both be called a_classes\.tif"):
        make_mapper().prepare(paths, tmp_path / "out", replace=True)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/out cannot be written .*--out"):
        make_mapper().prepare([path], tmp_path / "file" / "out", replace=False)
    if os.geteuid():  # root may write everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(OSError, match="locked cannot be written"):
            make_mapper().prepare([path], tmp_path / "locked", replace=False)


def test_the_last_image_is_checked_before_the_first_is_mapped(tmp_path):
    good = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    bad = write_raster(tmp_path / "b.tif", draw_classes(70, 70).astype(np.uint16))
    with pytest.raises(ValueError, match="holds uint16"):
        make_mapper().prepare([good, bad], tmp_path / "out", replace=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_minimum_areas_in_m2_need_a_gsd(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70), crs=None)
    with pytest.raises(ValueError, match="has no CRS, so --min-area-m2 cannot be converted"):
        make_map(path, tmp_path / "out", polygons=True, least_m2=5)


# Killed and gone on with -------------------------------------------------------------------------


class Interruption(BaseException):
    """What a signal's SystemExit is like."""


def interrupt(*_):
    raise Interruption


def fail_after(monkeypatch, strips):
    """Let the saving of strips end with an error after so many."""
    save, done = MapJournal.save, []

    def save_some(journal, number, strip, counts):
        if len(done) == strips:
            raise Interruption
        done.append(number)
        save(journal, number, strip, counts)

    monkeypatch.setattr(MapJournal, "save", save_some)
    return done


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("strips", [pytest.param(0, marks=pytest.mark.slow), 1, 3])
def test_an_interrupted_map_resumes_and_has_the_same_bytes(tmp_path, monkeypatch, strips, blend):
    path = write_raster(tmp_path / "a.tif", draw_classes(250, 210))
    settings = {
        "blend": blend,
        "polygons": True,
        "layers": LayerSettings(entropy=True, probabilities=True),
    }
    make_map(path, tmp_path / "wanted", **settings)
    with monkeypatch.context() as patch:
        fail_after(patch, strips)
        with pytest.raises(Interruption):
            make_map(path, tmp_path / "out", **settings)
        (left,) = (tmp_path / "out").iterdir()
        assert left.name == "a.map.partial"
    with monkeypatch.context() as patch:
        saved = fail_after(patch, 99)
        make_map(path, tmp_path / "out", **settings)
        assert saved[0] == strips
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "wanted").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == wanted


@pytest.mark.parametrize("change", ["image", "model", "settings", "priors", "fractions"])
def test_strips_of_another_image_model_or_setting_are_not_used(tmp_path, monkeypatch, change):
    path = write_raster(tmp_path / "a.tif", draw_classes(250, 210))
    models = [identity_model(label_fractions=(0.25,) * 4)]
    even = PriorSettings(fractions=dict.fromkeys(CLASSES.names, 0.25))
    first = {"priors": even} if change == "fractions" else {}
    with monkeypatch.context() as patch:
        fail_after(patch, 2)
        with pytest.raises(Interruption):
            make_map(path, tmp_path / "out", models=models, **first)
    image, changes = draw_classes(250, 210), {}
    if change == "image":
        image = draw_classes(250, 210, seed=1)
        write_raster(path, image)
    elif change == "model":
        changes = {"models": [identity_model("3" * 64)]}
    elif change == "priors":
        changes = {"priors": even, "models": models}
    elif change == "fractions":
        changes = {"priors": even, "models": [identity_model(label_fractions=(0.3, 0.3, 0.2, 0.2))]}
    else:
        changes = {"overlap": 0.5}
    saved = fail_after(monkeypatch, 99)
    make_map(path, tmp_path / "out", **changes)
    assert saved[0] == 0
    assert np.array_equal(read_map(tmp_path / "out"), image[:1])


def test_a_map_interrupted_while_it_was_published_is_finished(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    publish = mapping._publish

    def publish_half(task, made):
        (made / "a_classes.tif").replace(task.path("_classes.tif"))
        raise Interruption

    monkeypatch.setattr(mapping, "_publish", publish_half)
    with pytest.raises(Interruption):
        make_map(path, tmp_path / "out")
    monkeypatch.setattr(mapping, "_publish", publish)
    make_map(path, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"a_{name}" for name in (*FILES, "preview.png")} | {"a.json"}


def test_a_map_that_another_process_is_making_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_classes(70, 70))
    mapper = make_mapper()
    (task,) = mapper.prepare([path], tmp_path / "out", replace=False)
    with (
        MapJournal(tmp_path / "out" / "a.map.partial", task.key, (0, 70)),
        pytest.raises(ValueError, match=r"another process is using .*a\.map\.partial"),
    ):
        make_map(path, tmp_path / "out")


def test_a_damaged_image_keeps_the_finished_strips(tmp_path):
    image = draw_image(400, 300)
    path = write_raster(tmp_path / "a.tif", image, compress="deflate", blockysize=20)
    data = bytearray(path.read_bytes())
    with rasterio.open(path) as file:
        place = int(file.get_tag_item("BLOCK_OFFSET_0_15", "TIFF", bidx=1))
    data[place : place + 200] = bytes(200)
    path.write_bytes(data)
    mapper = make_mapper([replace_network(identity_model())])
    (task,) = mapper.prepare([path], tmp_path / "out", replace=False)
    with pytest.raises(ValueError, match=r"a\.tif is damaged or cut short: rows .* Copy it again"):
        mapper.make(task, lambda megapixels, was_done: None)
    assert len(list((tmp_path / "out" / "a.map.partial").glob("strip_*.tif"))) > 1
    assert not [suffix for suffix in SUFFIXES if (tmp_path / "out" / f"a{suffix}").exists()]


def replace_network(model):
    """Let a model take any value for one of its classes."""

    class Remainder(type(model.segmenter.network)):
        def forward(self, values):
            return super().forward(values % len(CLASSES))

    model.segmenter.network = Remainder()
    return model


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_no_map(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", draw_image(300, 300) % 4)
    code = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        from pathlib import Path
        from tests.map_models import make_map
        try:
            make_map(Path(sys.argv[1]), Path(sys.argv[2]))
        except OSError as error:
            sys.exit(f"{type(error).__name__}: {error}")
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert done.returncode == 1
    assert "is the disk full?" in done.stderr or "File too large" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.map.partial"]


# The command -------------------------------------------------------------------------------------


def start(*arguments, cwd):
    """Start `pointcover predict`; leaving the `with` block waits for it and closes its pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", "from pointcover.cli import app; app()", "predict", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.alone
@pytest.mark.slow
def test_a_killed_run_resumes_and_has_the_bytes_of_an_uninterrupted_one(tmp_path):
    save_model(tmp_path / "model", tile_set=replace(TILE_SET, bands=(3, 1, 2)))
    write_raster(tmp_path / "a.tif", draw_image(600, 300))
    options = ["model", "a.tif", "--device", "cpu", "--precision", "fp32", "--batch-size", "2"]
    options += ["--window-px", "64"]  # so that there are strips to be killed between
    with start(*options, "--out", "wanted", cwd=tmp_path) as undisturbed:
        _, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    assert said.startswith("wanted/a_classes.tif: land ")
    # The network is random, and its windows are small.
    note = said.splitlines()[1]
    assert re.fullmatch(r"note: near seams between windows, \d+\.\d% of the pixels .*", note)
    assert note.endswith(
        "use --blend, or --window-px 128; encoders without squeeze-and-excitation are less affected"
    )
    strips = tmp_path / "out" / "a.map.partial"
    with start(*options, "--out", "out", cwd=tmp_path) as killed:
        while len(list(strips.glob("strip_*.tif"))) < 3 and killed.poll() is None:
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.map.partial"]
    with start(*options, "--out", "out", cwd=tmp_path) as again:
        output, errors = again.communicate(timeout=300)
    assert (again.returncode, strips.exists(), output) == (0, False, "")
    assert errors == said.replace("wanted/", "out/")
    seams = json.loads((tmp_path / "out" / "a.json").read_text())["seams"]
    assert f"{seams['unlike'] / seams['pixels']:.1%}" in note
    for path in (tmp_path / "wanted").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def run(*arguments):
    from typer.testing import CliRunner

    from pointcover.cli.app import app

    return CliRunner().invoke(app, ["predict", *arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a model, and an image that fits it."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    write_raster(tmp_path / "a.tif", draw_image(100, 90))
    return tmp_path


def test_the_command_writes_all_optional_files(folder):
    shutil.copytree("model", "other")
    done = run(
        "model/model.pt",
        "a.tif",
        "--out",
        "out",
        "--also",
        "other",
        "--tta",
        "--blend",
        "--crf",
        "2",
        "--probabilities",
        "--entropy",
        "--polygons",
        "--min-area-m2",
        "2",
        "--window-px",
        "96",
        "--overlap",
        "0.5",
        "--bands",
        "3,2,1",
        "--value-range",
        "0,255",
    )
    assert (done.exit_code, done.stdout) == (0, "")
    made = {path.name for path in (folder / "out").iterdir()}
    assert made == {f"a{suffix}" for suffix in SUFFIXES}
    again = run("model", "a.tif", "--out", "out")
    assert again.exit_code == 1
    assert "add --force to replace" in again.stderr


def test_the_command_corrects_maps_for_class_priors(folder):
    save_model(folder / "model", label_fractions=(0.25,) * 4)
    said = "land=0.001,water=0.001,wood & heath=0.001,road=0.997"
    for out, options in (("plain", []), ("more", ["--prior-strength", "2"]), ("bayes", [])):
        priors = [] if out == "plain" else ["--priors", said]
        done = run("model", "a.tif", "--out", out, *priors, *options)
        assert (done.exit_code, done.stdout) == (0, "")
    fractions = [(read_map(folder / out) == 2).mean() for out in ("plain", "bayes", "more")]
    assert fractions == sorted(fractions)
    assert fractions[0] < fractions[1]


def test_the_command_prints_remarks_and_existing_maps(folder):
    write_raster(folder / "b.tif", draw_image(40, 40), crs=None)
    for ending in ("%\n", "b_classes.tif exists already\n"):
        done = run("model", "b.tif", "--out", "out")
        assert done.exit_code == 0
        assert done.stderr.startswith("note: b.tif has no CRS, so its map has none either\nnote: ")
        assert done.stderr.endswith(ending)


EVEN = ",".join(f"{name}=0.25" for name in CLASSES.names)


def test_maps_among_the_images_are_left_out(folder):
    """As `predict model img/* --out img` gives them when it is said again."""
    write_raster(folder / "img" / "a.tif", draw_image(40, 40))
    assert run("model", "img/a.tif", "--out", "img").exit_code == 0
    pictures = [*map(str, sorted((folder / "img").glob("*.tif"))), "img/a_preview.png"]
    again = run("model", *pictures, "--out", "img")
    assert again.exit_code == 0
    for name in ("a_classes.tif", "a_confidence.tif", "a_preview.png"):
        assert f"{name} is a map of pointcover, so it is skipped\n" in again.stderr
    assert "a_classes.tif exists already" in again.stderr
    alone = run("model", "img/a_classes.tif", "--out", "out")
    assert alone.exit_code == 1
    assert "img/a_classes.tif: found maps of pointcover, wanted images" in alone.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "a.tif"], "nowhere is not a model: wanted a folder with model.pt and"),
        (["model", "b.tif"], "b.tif does not exist"),
        (["model", "a.tif", "--window-px", "100"], "window_px: got 100, wanted a multiple of 32"),
        (
            ["model", "a.tif", "--overlap", "1"],
            "overlap: got 1.0, wanted a fraction from 0 to",
        ),
        (["model", "a.tif", "--bands", "x"], "--bands: got 'x'"),
        (["model", "model"], "model is a folder, wanted a raster file: give those in it"),
        (["model", "a.tif", "--min-area-m2", "9"], "--min-area-m2: got 9 without --polygons"),
        (["model", "a.tif", "--priors", "land"], "--priors: got 'land'"),
        (["model", "a.tif", "--priors", "land=1"], "priors lack road, water, wood & heath: give"),
        (["model", "a.tif", "--priors", EVEN], "model does not hold the fraction of each class"),
        (["model", "a.tif", "--prior-strength", "2"], "--prior-strength: got 2 without --priors"),
        (["runs:/" + "0" * 32, "a.tif"], "there is no MLflow store at sqlite:"),
        (["model", "model/model.json"], "model/model.json is no raster"),
    ],
)
def test_invalid_input_is_one_message_before_mapping(folder, arguments, said):
    done = run(*arguments, "--out", "out")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"\npointcover predict: {said}")
    assert done.stderr.count("\n") == 2
    assert not (folder / "out").exists()
    assert not (folder / "mlflow.db").exists()


def test_a_map_without_data_has_a_message(folder):
    write_raster(folder / "b.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)
    done = run("model", "b.tif", "--out", "out")
    assert done.exit_code == 0
    assert done.stderr.endswith(
        "out/b_classes.tif: no pixel has data, so the map is empty: check the image's nodata "
        "value, alpha band or mask\n"
    )


@pytest.mark.parametrize(
    "option",
    [
        ["--device", "tpu"],
        ["--precision", "fp8"],
        ["--gsd-m", "-1"],
        ["--gsd-m", "0"],
        ["--gsd-m", "inf"],
        ["--gsd-m", "nan"],
        ["--min-area-m2", "inf"],
        ["--min-area-m2", "nan"],
    ],
)
def test_a_value_that_an_option_does_not_know_is_a_wrong_use(folder, option):
    done = run("model", "a.tif", "--out", "out", *option)
    assert done.exit_code == 2
    assert option[0] in done.stderr


def test_pixel_classifiers_score_only_what_is_kept_with_the_same_map(tmp_path):
    classifier = fit("logistic_regression", "random_forest")
    segmenter = PixelSegmenter(classifier, TILE_SET.mean, TILE_SET.std)
    network = network_settings("classifier_mean", "none")
    checkpoint = Checkpoint(network, TILE_SET, {}, classifier=classifier.settings)
    model = NamedModel("classifier", segmenter, checkpoint, "0" * 64)
    path = write_raster(tmp_path / "a.tif", draw_image(150, 210))
    results = []
    for name in ("parts", "whole"):
        mapper = make_mapper([model], window_px=96)
        inference = mapper.scoring.inference
        assert inference.parts_at_a_time == 1
        if name == "whole":
            inference = replace(inference, score_parts=None)
            mapper.scoring = replace(mapper.scoring, inference=inference)
        (task,) = mapper.prepare([path], tmp_path / name, replace=False)
        results.append(mapper.make(task, lambda megapixels, was_done: None))
    assert results[0].seams.pixels == results[1].seams.pixels > 0
    assert results[0].seams.unlike == pytest.approx(results[1].seams.unlike, abs=20)
    parts, whole = (read_map(tmp_path / name) for name in ("parts", "whole"))
    assert (parts == whole).mean() > 0.999
    assert len(np.unique(parts)) > 1
    assert (
        make_mapper([model], window_px=96, average_views=True).scoring.inference.parts_at_a_time
        == 0
    )
    assert make_mapper().scoring.inference.parts_at_a_time == 0


@pytest.mark.parametrize("stem", ["a$_$", "a\nb", "x" * 220])
def test_an_image_of_any_name_is_mapped(tmp_path, stem):
    image = write_raster(tmp_path / f"{stem}.tif", np.ones((3, 64, 64), np.uint8))
    make_map(image, tmp_path / "out")
    assert (tmp_path / "out" / f"{stem}_preview.png").exists()


@pytest.mark.parametrize(
    ("stem", "said"),
    [("x" * 221, "has a name of 221 bytes, wanted at most 220"), ("a\\b", r"has a \\ in its path")],
)
def test_names_with_which_no_map_can_be_written_are_refused_before_any_work(tmp_path, stem, said):
    image = write_raster(tmp_path / f"{stem}.tif", np.ones((3, 64, 64), np.uint8))
    with pytest.raises(ValueError, match=said):
        make_map(image, tmp_path / "out")


def test_without_matplotlib_only_the_preview_is_missing(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", np.ones((3, 64, 64), np.uint8))
    make_map(path, tmp_path / "with")
    monkeypatch.setattr(map_files, "find_spec", lambda name: None)
    make_map(path, tmp_path / "without")
    found, wanted = ({one.name for one in (tmp_path / n).iterdir()} for n in ("without", "with"))
    assert wanted - found == {"a_preview.png"}


@pytest.mark.parametrize("missing", ["geopandas", "shapely"])
def test_packages_of_polygons_are_looked_for_before_work(monkeypatch, missing):
    monkeypatch.setattr(map_files, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ValueError, match=rf"polygons need {missing}, .* 'pointcover\[polygons\]'"):
        make_mapper(polygons=True)
    make_mapper()
