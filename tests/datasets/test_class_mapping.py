"""Several values make one class, and a card may have the classes of another card."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.datasets.load_card import load_card
from pointcover.evaluation.evaluator import check_tiles
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterReader
from pointcover.tileset.tiles import TileSet, write_tile_set
from tests.classifiers import SMALL
from tests.imagery import CARD, make_card, write_raster

COLOURS = {"land": (132, 41, 246), "water": (226, 169, 41), "road": (60, 16, 152)}


def classes_of(**values):
    """Return the classes of CARD with values in masks."""
    return [
        {"name": name, "colour": "#{:02X}{:02X}{:02X}".format(*colour), "value": values[name]}
        for name, colour in COLOURS.items()
    ]


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


def write_card(path, **changes):
    path.write_text(yaml.safe_dump(CARD | changes))
    return str(path)


# Several values


def test_several_numbers_are_one_class():
    card = make_card(classes=classes_of(land=[1, 2], water=3, road=[4, 5, 6]))
    assert card.value_ids() == {1: 0, 2: 0, 3: 1, 4: 2, 5: 2, 6: 2, 255: IGNORE_INDEX}


def test_several_colours_are_one_class_that_is_shown_in_its_own():
    values = {"land": ["#010203", "#040506"], "water": "#E2A929", "road": []}
    card = make_card(classes=classes_of(**values), mask_values="colours", ignore=["#000000"])
    ids = {(1, 2, 3): 0, (4, 5, 6): 0, (226, 169, 41): 1, (0, 0, 0): IGNORE_INDEX}
    assert card.colour_ids() == ids
    assert card.class_table().colours == tuple(COLOURS.values())


def test_a_card_of_several_values_survives_the_way_to_json():
    card = make_card(classes=classes_of(land=[1, 2], water=3, road=[]))
    assert type(card).model_validate(json.loads(card.model_dump_json())) == card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": classes_of(land=[1, 2], water=2, road=3)}, r"value \[2\] belongs to two"),
        ({"classes": classes_of(land=[1, 1], water=2, road=3)}, r"value \[1\] belongs to two"),
        ({"classes": classes_of(land=[1, -2], water=2, road=3)}, r"got \[1, -2\], wanted a whole"),
        ({"classes": classes_of(land=[1, 2.5], water=2, road=3)}, r"got \[1, 2.5\], wanted a wh"),
        ({"classes": classes_of(land=[1, None], water=2, road=3)}, r"got \[1, None\], wanted a wh"),
        ({"classes": classes_of(land=float("inf"), water=2, road=3)}, "got inf, wanted a whole"),
        ({"classes": classes_of(land=float("nan"), water=2, road=3)}, "got nan, wanted a whole"),
        ({"classes": classes_of(land={1: 2}, water=2, road=3)}, "got {1: 2}, wanted a whole"),
        ({"classes": classes_of(land=70_000, water=2, road=3)}, "got 70000, wanted a whole number"),
        ({"classes": classes_of(land="blue", water=2, road=3)}, "colour 'blue' is not six hex"),
        ({"classes": classes_of(land="#010203", water=2, road=3)}, "but mask_values is 'ids'"),
        (
            {"classes": classes_of(land=1, water=2, road=3), "mask_values": "colours"},
            "class 'land' has value 1, but mask_values is 'colours'",
        ),
        (
            {
                "classes": classes_of(land="#0000FF", water="#0000ff", road="#FF0000"),
                "mask_values": "colours",
            },
            r"value \['#0000FF'\] belongs to two classes",
        ),
        (
            {"classes": [{"name": "a", "colour": ["#010203", "#040506"]}, *CARD["classes"]]},
            r"several colours of masks are its `value: \['#010203', '#040506'\]`",
        ),
    ],
)
def test_values_that_are_not_of_one_class_are_refused(sources, changes, said):
    with pytest.raises(ValueError, match=said):
        load_card(write_card(sources / "mine.yaml", **changes), sources)


def test_masks_of_several_values_are_cut_as_their_class(project):
    values = np.array([1, 2, 3, 6, 0], np.uint8)
    ids = np.array([0, 0, 1, 2, IGNORE_INDEX], np.uint8)
    drawn = np.random.default_rng(0).integers(0, 5, (100, 130))
    write_raster(project.data / "masks/a.tif", values[drawn])
    for name in "bc":
        write_raster(project.data / f"masks/{name}.tif", np.full((100, 130), 3, np.uint8))
    project.write_card(classes=classes_of(land=[1, 2], water=3, road=[5, 6]), ignore=[0])
    project.run("download", "tile")
    mask = RasterReader(Path("data/tiles/masks/train/a.tif")).dataset.read(1)
    np.testing.assert_array_equal(mask, ids[drawn])


@pytest.mark.parametrize("kind", ["ids", "colours"])
def test_values_that_no_class_names_are_refused_with_all_their_pixels(project, kind):
    mask = np.zeros((100, 130), np.uint8)
    mask[0, :3] = mask[99, :4] = 9  # in both rows of tiles
    mask[50, :2] = 8
    said = "unknown id 9 (7 px), 8 (2 px); known: 0, 1, 2, 255"
    if kind == "colours":
        colours = np.zeros((256, 3), np.uint8)
        colours[[0, 8, 9]] = COLOURS["land"], (1, 2, 3), (4, 5, 6)
        mask = np.moveaxis(colours[mask], -1, 0)
        said = "unknown colour #040506 (7 px), #010203 (2 px); known: #8429F6, #E2A929, #3C1098"
        project.write_card(mask_values="colours", ignore=[])
    write_raster(project.data / "masks/a.tif", mask)
    message = project.refusal("download", "tile")
    assert f"sources/mine/masks/a.tif: {said}" in message
    assert "`value` may be a list" in message


# Classes of another card

THEIRS = {"meadow": [10], "wood": [11, 12], "lake": [20], "street": [30], "cloud": [40]}
MAPPING = {"meadow": "land", "wood": "land", "lake": "water", "street": "road", "cloud": None}


def other_card(path, **changes):
    classes = [
        {"name": name, "colour": f"#0000{number:02X}", "value": values}
        for number, (name, values) in enumerate(THEIRS.items())
    ]
    return write_card(path, **{"classes": classes, "ignore": [0]} | changes)


def mapped(to="mine.yaml", **changes):
    return {"to": to, "classes": MAPPING | changes}


def test_a_card_has_the_classes_of_another_card(sources):
    write_card(sources / "mine.yaml")
    own = other_card(sources / "other.yaml", title="other", map_classes=mapped())
    card = load_card(own, sources)
    assert card.title == "other"
    assert card.class_table() == make_card().class_table()
    assert card.value_ids() == {
        **{10: 0, 11: 0, 12: 0, 20: 1, 30: 2},
        **{40: IGNORE_INDEX, 0: IGNORE_INDEX},
    }


def test_colours_are_mapped_and_a_class_may_have_none(sources):
    write_card(sources / "mine.yaml")
    own = write_card(
        sources / "other.yaml",
        mask_values="colours",
        ignore=["#FFFFFF"],
        classes=[{"name": "x", "colour": "#010203"}, {"name": "y", "colour": "#040506"}],
        map_classes={"to": "mine.yaml", "classes": {"x": "road", "y": "road"}},
    )
    card = load_card(own, sources)
    assert card.colour_ids() == {(1, 2, 3): 2, (4, 5, 6): 2, (255, 255, 255): IGNORE_INDEX}
    assert card.class_table() == make_card().class_table()


def test_a_card_that_extends_an_embedded_one_may_map_it_to_another(sources):
    names = ["background", "building", "road", "water", "barren", "forest", "agriculture"]
    to = dict.fromkeys(names, "background") | {
        **{"building": "building", "road": "road", "water": "water", "forest": "woodland"},
    }
    path = sources / "loveda_as_landcoverai.yaml"
    mapping = {"to": "landcoverai", "classes": to}
    path.write_text(yaml.safe_dump({"extends": "loveda", "map_classes": mapping}))
    card = load_card(str(path), sources)
    assert card.class_table() == load_card("landcoverai", sources).class_table()
    assert card.images == load_card("loveda", sources).images
    merged = card.classes[card.class_table().names.index("background")]
    assert merged.values == (1, 5, 7)


def test_the_mapping_of_an_extended_card_is_kept_replaced_or_removed(sources):
    write_card(sources / "mine.yaml")
    other_card(sources / "other.yaml", map_classes=mapped())

    def load(**changes):
        path = sources / "third.yaml"
        path.write_text(yaml.safe_dump({"extends": "other.yaml"} | changes))
        return load_card(str(path), sources)

    assert load().value_ids()[10] == 0
    assert load(map_classes=mapped(meadow="road")).value_ids()[10] == 2
    assert load(map_classes=None).class_table().names == tuple(THEIRS)


@pytest.mark.parametrize(
    ("said", "mapping"),
    [
        ("map_classes.classes leaves out cloud: say which class of 'mine.yaml' each is (land", "x"),
        ("`cloud: null`, which means unlabelled", "x"),
        ("map_classes.classes names sea, which is no class of this card: wanted", {"sea": "water"}),
        ("map_classes.classes maps to lava, which is no class of 'mine.yaml'", {"cloud": "lava"}),
        ("maps its classes to 'none', wanted one of ", {"to": "none"}),
        (
            "maps its classes to 'other.yaml', which maps its classes to it too",
            {"to": "other.yaml"},
        ),
        ("map_classes: got 3, wanted a section with the keys to, classes", 3),
        ("map_classes.too: this key is unknown; did you mean 'to'?", {"too": "x"}),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(sources, said, mapping):
    write_card(sources / "mine.yaml")
    whole = mapped()
    if mapping == "x":
        del whole["classes"]["cloud"]
    elif mapping == 3:
        whole = 3
    elif "to" in mapping or "too" in mapping:
        whole |= mapping
    else:
        whole["classes"] |= mapping
    own = other_card(sources / "other.yaml", map_classes=whole)
    with pytest.raises(ValueError, match=r"other\.yaml") as caught:
        load_card(own, sources)
    assert said in str(caught.value)


# A model of one dataset, scored on another

PAINT = np.array([(40, 160, 60), (30, 60, 180), (150, 150, 150)], np.uint8)
"""Colours of the three classes on the ground."""


def paint(folder, seed, table):
    """Write three images of patches of the three classes; `table` are values of masks by class."""
    generator = np.random.default_rng(seed)
    for name in "abc":
        ids = np.repeat(np.repeat(generator.integers(0, 3, (8, 8)), 16, 0), 16, 1)
        noise = generator.normal(0, 6, (3, 128, 128))
        pixels = np.clip(np.moveaxis(PAINT[ids], -1, 0) + noise, 1, 255).astype(np.uint8)
        write_raster(folder / f"images/{name}.tif", pixels)
        values = np.array(table, np.uint8)[ids]
        values[generator.random(ids.shape) < 0.1] = 40 if table[0] == 10 else IGNORE_INDEX
        write_raster(folder / f"masks/{name}.tif", values)


def refuse(*options):
    done = CliRunner().invoke(app, ["evaluate", *options])
    assert done.exit_code == 1
    return done.stderr


def score(*options):
    done = CliRunner().invoke(app, ["evaluate", "first", *options])
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.fixture
def two_datasets(project, blank_pictures):
    """Return a project with a model of one dataset in `first`, and another dataset."""
    project.set(
        {
            "train.model": "logistic_regression",
            "train.encoder": "none",
            "annotate.propagator": "none",
            "points": 40,
            "tile.size_px": 64,
            "evaluate.panels": 1,
            "evaluate.worst": 0,
        }
        | {f"train.classifier.{key}": value for key, value in SMALL.items()}
    )
    paint(project.data, 1, [0, 1, 2])
    paint(project.root / "sources/other", 2, [10, 20, 30])
    paint(project.root / "sources/same", 2, [0, 1, 2])
    project.run("download", "tile", "annotate", "train")
    Path("models").rename("first")
    return project


def tile_card(project, name, **changes):
    """Tile the images of a folder, with a card that other_card writes, or that of the project."""
    card = {
        "images": f"{name}/images/*.tif",
        "masks": f"{name}/masks/*.tif",
        "split": {"val": [f"{name}/images/b.tif"], "test": [f"{name}/images/c.tif"]},
    }
    write = other_card if name == "other" else write_card
    write(project.root / f"sources/{name}.yaml", **card, **changes)
    project.set({"dataset": f"sources/{name}.yaml"})
    project.run("download", "tile")


@pytest.mark.slow  # trains a model
def test_a_model_of_one_dataset_is_scored_on_the_test_split_of_another(two_datasets):
    tile_card(two_datasets, "other")
    said = refuse("first", "--out", "out/there")
    assert "data/tiles has the classes meadow, wood, lake, street, cloud, but the model has" in said
    assert not Path("out").exists()

    tile_card(two_datasets, "other", map_classes=mapped())
    said = score("--out", "reports/first_on_other")
    found = json.loads(Path("reports/first_on_other/evaluate.json").read_text())
    assert f"test mIoU {found['miou']:.3f}, accuracy {found['accuracy']:.3f}" in said
    assert found["miou"] > 0.9
    assert found["scored_on"] == "dense masks"
    # About a tenth is cloud, which is not scored.
    assert 0.85 * 128**2 < found["pixels"] < 0.95 * 128**2
    assert {path.name for path in Path("reports/first_on_other").iterdir()} == {
        *("evaluate.json", "tables", "confusion.csv", "panels"),
    }

    # The same ground with the first dataset's own values has the same scores, on other tiles too.
    tile_card(two_datasets, "same")
    score("--out", "again")
    assert json.loads(Path("again/evaluate.json").read_text()) == found
    two_datasets.set({"evaluate.ensemble": "first"})
    said = score("--out", "both")
    assert "the softmax is averaged with that of the models in first (`evaluate.ensemble`" in said
    assert "of 2 models, on dense masks" in said
    two_datasets.set({"evaluate.ensemble": "sources"})
    two_datasets.set({"tile.size_px": 128, "train.crop_px": 128})
    two_datasets.run("tile")
    score("--out", "larger")
    larger = json.loads(Path("larger/evaluate.json").read_text())
    assert (larger["pixels"], larger["by_class"]) == (found["pixels"], found["by_class"])


def test_tiles_of_other_classes_or_bands_are_refused_with_what_to_do(tmp_path):
    def tile_set(names=("land", "water"), bands=(1, 2, 3)):
        classes = ClassTable(names, tuple((number, 0, 0) for number in range(len(names))))
        return TileSet(
            classes, 64, (0.5,), (0.0,) * len(bands), (1.0,) * len(bands), (0, 255), bands
        )

    path = tmp_path / "tiles.json"
    for found, said in (
        (tile_set(("land", "sea")), "has the classes land, sea, but the model has land, water: to"),
        (tile_set(("water", "land")), "map the classes in the card (`map_classes`)"),
        (tile_set(bands=(1, 2)), "has 2 bands, but the model has 3: name as many of the same kind"),
    ):
        write_tile_set(path, found)
        with pytest.raises(ValueError, match=re.escape(said)):
            check_tiles(path, tile_set())
    write_tile_set(path, tile_set(bands=(4, 3, 2)))
    assert check_tiles(path, tile_set()).bands == (4, 3, 2)


def test_an_existing_folder_is_not_replaced_by_scores(project):
    assert "sources exists: name a new folder" in refuse("first", "--out", "sources")
    assert "first is not a model: wanted a folder with model.pt" in refuse("first", "--out", "new")
    Path("model.onnx").write_text("x")
    assert "model.onnx is an ONNX file, wanted the folder" in refuse("model.onnx", "--out", "new")
    assert not Path("new").exists()
