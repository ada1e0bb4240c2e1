"""Every embedded card fits its dataset: a fake of 64 px in the real layout is found, split and cut.

The layouts, codes and lists here are written down apart from the cards, from the datasets' readmes.
"""

import hashlib
import os
import re
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import transform_bounds

from pointcover.datasets.acquire import acquire
from pointcover.datasets.card import CARDS, DatasetCard, Pair, find_pairs
from pointcover.datasets.inventory import Inventory
from pointcover.datasets.load_card import load_card
from pointcover.labels import IGNORE_INDEX, SPLITS
from pointcover.raster.grids import check_same_grid
from pointcover.raster.raster_io import RasterReader
from pointcover.tileset.tiles import raster_path
from pointcover.tiling.cutting import Cutting, CuttingPlan, cut_orthophoto
from pointcover.tiling.overlaps import check_overlaps
from pointcover.tiling.splits import check_tile_size, read_tile_lists, split_regions
from tests.imagery import ROOT, draw_image, make_card, tile_settings, write_raster

SIZE = 64
REAL = Path(os.environ.get("POINTCOVER_REAL_DATA", ROOT.parent / "shared" / "data"))

PL_1992 = """PROJCS["Projection: Transverse Mercator; Datum: WGS84; Ellipsoid: WGS84",
    GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,
    AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0],
    UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]],
    PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],
    PARAMETER["central_meridian",19],PARAMETER["scale_factor",0.9993],
    PARAMETER["false_easting",500000],PARAMETER["false_northing",-5300000],
    UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]"""
"""The CRS of a real mask of LandCover.ai, letter by letter."""


def words(text: str) -> list[str]:
    return text.split()


SHEETS = words("""M-33-20-D-c-4-2 M-33-20-D-d-3-3 M-33-32-B-b-4-4 M-33-48-A-c-4-4 M-33-7-A-d-2-3
    M-33-7-A-d-3-2 M-34-32-B-a-4-3 M-34-32-B-b-1-3 M-34-5-D-d-4-2 M-34-51-C-b-2-1 M-34-51-C-d-4-1
    M-34-55-B-b-4-1 M-34-56-A-b-1-4 M-34-6-A-d-2-2 M-34-65-D-a-4-4 M-34-65-D-c-4-2 M-34-65-D-d-4-1
    M-34-68-B-a-1-3 M-34-77-B-c-2-3 N-33-104-A-c-1-1 N-33-119-C-c-3-3 N-33-130-A-d-3-3
    N-33-130-A-d-4-4 N-33-139-C-d-2-2 N-33-139-C-d-2-4 N-33-139-D-c-1-3 N-33-60-D-c-4-2
    N-33-60-D-d-1-2 N-33-96-D-d-1-1 N-34-106-A-b-3-4 N-34-106-A-c-1-3 N-34-140-A-b-3-2
    N-34-140-A-b-4-2 N-34-140-A-d-3-4 N-34-140-A-d-4-2 N-34-61-B-a-1-1 N-34-66-C-c-4-3
    N-34-77-A-b-1-4 N-34-94-A-b-2-4 N-34-97-C-b-1-2 N-34-97-D-c-2-4""")

POTSDAM = {
    "train": words(
        "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 "
        "6_12 7_7 7_8 7_9 7_10 7_11 7_12"
    ),
    "test": words("2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13"),
}
VAIHINGEN = {
    "train": words("1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37"),
    "test": words("2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38"),
}
ISPRS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

Code = int | tuple[int, int, int]


@dataclass(frozen=True)
class Fake:
    """How a dataset lies on disk. `{}` stands for the name."""

    images: str
    masks: str
    names: Sequence[str]
    classes: Sequence[Code]
    """The code of each class in masks, in the order of ids."""
    unlabelled: Sequence[Code] = ()
    bands: int = 3
    dtype: str = "uint8"
    crs: str | None = None
    mask_crs: str | None = None
    mask_bands: int = 1
    noise: int = 0
    """How far mask values may be off."""
    whole: bool = True
    """Whether `names` are all orthophotos of the dataset."""


def numbered(text: str, numbers: Sequence[object]) -> list[str]:
    return [text.format(number) for number in numbers]


def isprs(image: str, mask: str, areas: dict[str, list[str]], **options: Any) -> Fake:
    names = areas["train"] + areas["test"]
    return Fake(f"{image}", f"{mask}", names, ISPRS, mask_bands=3, crs="EPSG:32633", **options)


def isprs_variants(card: str, fake: Fake, eroded_masks: str) -> dict[str, Fake]:
    five = replace(fake, classes=ISPRS[:5], unlabelled=[ISPRS[5]])
    eroded = {"masks": eroded_masks}
    return {
        card: fake,
        f"{card}_eroded": replace(fake, unlabelled=[BLACK], **eroded),
        f"{card}_5classes": five,
        f"{card}_5classes_eroded": replace(five, unlabelled=[ISPRS[5], BLACK], **eroded),
    }


LANDCOVERAI = Fake(
    "images/{}.tif", "masks/{}.tif", SHEETS, [0, 1, 2, 3, 4], crs="EPSG:2180", mask_crs=PL_1992
)
DUBAI = Fake(
    "Tile {}/images/image_part_00{}.jpg",
    "Tile {}/masks/image_part_00{}.png",
    [f"{tile} {part}" for tile in range(1, 9) for part in (1, 2)],
    [
        (0x84, 0x29, 0xF6),
        (0xE2, 0xA9, 0x29),
        (0x3C, 0x10, 0x98),
        (0xFE, 0xDD, 0x3A),
        (0x6E, 0xC1, 0xE4),
    ],
    [(0x9B, 0x9B, 0x9B), BLACK],
    mask_bands=3,
)
POTSDAM_RGB = isprs(
    "2_Ortho_RGB/top_potsdam_{}_RGB.tif", "5_Labels_all/top_potsdam_{}_label.tif", POTSDAM
)
FAKES = {
    "landcoverai": LANDCOVERAI,
    "landcoverai_published": LANDCOVERAI,
    "landcoverai100": Fake(
        "output/{}.jpg",
        "output/{}_m.png",
        [f"{SHEETS[n % 41]}_{n}" for n in range(100)],
        [0, 1, 2, 3, 4],
        mask_bands=3,
    ),
    **isprs_variants(
        "potsdam", POTSDAM_RGB, "5_Labels_all_noBoundary/top_potsdam_{}_label_noBoundary.tif"
    ),
    "potsdam_irrg": replace(POTSDAM_RGB, images="3_Ortho_IRRG/top_potsdam_{}_IRRG.tif"),
    "potsdam_rgbir": replace(POTSDAM_RGB, images="4_Ortho_RGBIR/top_potsdam_{}_RGBIR.tif", bands=4),
    **isprs_variants(
        "vaihingen",
        isprs(
            "top/top_mosaic_09cm_area{}.tif", "gts_complete/top_mosaic_09cm_area{}.tif", VAIHINGEN
        ),
        "gts_eroded_complete/top_mosaic_09cm_area{}_noBoundary.tif",
    ),
    "deepglobe": Fake(
        "train/{}_sat.jpg",
        "train/{}_mask.png",
        ["119", "2334", "3484", "855"],
        [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), WHITE],
        [BLACK],
        mask_bands=3,
        noise=20,
        whole=False,
    ),
    "forest": Fake(
        "images/{}_sat_{}.jpg",
        "masks/{}_mask_{}.jpg",
        ["855 01", "855 02", "10452 08", "10452 18", "111335 00", "2334 03"],
        [0, 255],
        noise=20,
        whole=False,
    ),
    "zurich": Fake(
        "images_tif/zh{}.tif",
        "groundtruth/zh{}_GT.tif",
        numbered("{}", range(1, 21)),
        [
            BLACK,
            (100, 100, 100),
            (0, 125, 0),
            (0, 255, 0),
            (150, 80, 0),
            (0, 0, 150),
            (255, 255, 0),
            (150, 150, 255),
        ],
        [WHITE],
        bands=4,
        dtype="uint16",
        crs="EPSG:32632",
        mask_crs="EPSG:32632",
        mask_bands=3,
    ),
    "loveda": Fake(
        "{}/images_png/{}.png",
        "{}/masks_png/{}.png",
        [
            "Train/Rural 0",
            "Train/Rural 1300",
            "Train/Rural 1200",
            "Train/Urban 2400",
            "Train/Urban 2500",
            "Train/Urban 1366",
            "Val/Rural 2522",
            "Val/Urban 3514",
        ],
        [1, 2, 3, 4, 5, 6, 7],
        [0],
        whole=False,
    ),
    "dubai": DUBAI,
    "dubai_within": DUBAI,
}


def expected_ids(fake: Fake) -> npt.NDArray[np.uint8]:
    """Squares of 16 px of each class and each code that means unlabelled, in turn."""
    ids = [*range(len(fake.classes)), *[IGNORE_INDEX] * len(fake.unlabelled)]
    squares = np.resize(np.array(ids, np.uint8), (4, 4))
    return np.kron(squares, np.ones((16, 16), np.uint8))


def write_fake(fake: Fake, folder: Path) -> None:
    codes = np.array([*fake.classes, *fake.unlabelled])
    squares = np.resize(np.arange(len(codes)), (4, 4))
    mask = np.kron(squares, np.ones((16, 16), int))
    values = codes[mask].transpose(2, 0, 1) if codes.ndim == 2 else codes[mask][np.newaxis]
    off = np.random.default_rng(0).integers(-fake.noise, fake.noise + 1, values.shape)
    values = np.clip(values + off, 0, 255).astype(np.uint8)
    if fake.mask_bands == 3 and len(values) == 1:
        values = values.repeat(3, axis=0)
    for number, name in enumerate(fake.names):
        image = draw_image(SIZE, SIZE, number, fake.bands).astype(fake.dtype)
        place = from_origin(400_000 + 100 * number, 500_000, 0.25, 0.25) if fake.crs else None
        for path, pixels, crs in (
            (fake.images, image, fake.crs),
            (fake.masks, values, fake.mask_crs),
        ):
            driver = {".png": "PNG", ".jpg": "JPEG"}.get(Path(path).suffix, "GTiff")
            write_raster(
                folder / path.format(*name.split()),
                pixels,
                driver=driver,
                crs=CRS.from_user_input(crs) if crs else None,
                transform=place if crs else None,
            )


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Writes the fake of a dataset, once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_fake(FAKES[name], made[name])
        return made[name]

    yield make
    for folder in made.values():
        shutil.rmtree(folder)


def embedded(name: str) -> DatasetCard:
    card = load_card(name, Path("sources"))
    if name in FAKES and not FAKES[name].whole:
        card = card.model_copy(update={"orthophotos": len(FAKES[name].names)})
    return card


NAMES = sorted(path.stem for path in CARDS.glob("*.yaml"))


def test_every_embedded_card_but_the_drawn_one_has_a_fake_here():
    assert set(NAMES) - {"synthetic"} == set(FAKES)
    assert "folder" not in NAMES  # what `dataset` is where there is no card


@pytest.mark.parametrize("name", NAMES)
def test_every_embedded_card_says_licence_citation_and_how_to_get_the_files(name):
    card = embedded(name)
    assert card.licence != "not stated"
    assert card.drawn or (card.citation and (card.download or "`source`" in card.instructions))
    titles = [load_card(other, Path("sources")).title for other in NAMES]
    assert titles.count(card.title) == 1
    table = card.class_table()
    assert len(set(table.names)) == len(set(table.colours)) == len(card.classes)


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_of_every_dataset_is_found_split_and_cut_into_its_ids(name, fakes, tmp_path):
    fake, card, folder = FAKES[name], embedded(name), fakes(name)
    left_out = {"4_12"} if name.startswith("potsdam") else set()
    pairs = find_pairs(card, acquire(card, name, folder, tmp_path / "unused"))
    assert not (tmp_path / "unused").exists(), "files were copied that lie in `source`"
    wanted = [entry for entry in fake.names if entry not in left_out]
    assert sorted(pair.image for pair in pairs) == sorted(
        fake.images.format(*entry.split()) for entry in wanted
    )
    regions = [pair.region for pair in pairs]
    sides: dict[str, Any]
    if card.fractions() or card.region_lists():
        sides = dict(split_regions(card, regions, seed=0))
        assert set(sides.values()) == set(SPLITS)
    else:
        sides = dict.fromkeys(regions, "train")
    cutting = Cutting()
    expected = expected_ids(fake)
    for pair in pairs[:3]:
        plan = CuttingPlan(card, folder, tmp_path, sides, tile_settings(SIZE))
        cutting.include(cut_orthophoto(plan, pair))
        with rasterio.open(raster_path(tmp_path / "masks", sides[pair.region], pair.name)) as file:
            assert np.array_equal(file.read(1), expected)
            assert file.crs == (CRS.from_user_input(fake.crs) if fake.crs else None)
        with rasterio.open(raster_path(tmp_path / "images", sides[pair.region], pair.name)) as file:
            assert file.shape == (SIZE, SIZE)
            assert file.count == len(card.bands) == (4 if fake.bands == 4 else 3)
    assert len(cutting.tiles) == 3


# What the cards say of their datasets


@pytest.mark.parametrize(("name", "areas"), [("potsdam", POTSDAM), ("vaihingen", VAIHINGEN)])
def test_the_isprs_cards_test_on_the_published_areas_and_train_and_validate_on_the_others(
    name, areas
):
    card = embedded(name)
    split = {key: set(value) for key, value in card.region_lists().items()}
    assert split["test"] == set(areas["test"])
    assert split["train"] | split["val"] | set(card.leave_out) == set(areas["train"])
    assert sum(map(len, split.values())) + len(card.leave_out) == sum(map(len, areas.values()))
    assert len(areas["train"]) + len(areas["test"]) == {"potsdam": 38, "vaihingen": 33}[name]


def test_neighbouring_sheets_of_landcoverai_are_one_region(fakes):
    pairs = find_pairs(embedded("landcoverai"), fakes("landcoverai"))
    regions = Counter(pair.region for pair in pairs)
    assert len(regions) == 26
    assert (regions["M-33-20"], regions["N-34-140"], regions["M-34-5"]) == (2, 4, 1)


def sheet_bounds(name):
    """Return west, south, east, north in degrees of a sheet of the Polish map of 1:5000.

    A sheet of the International Map of the World (4° × 6°) has 144 sheets of 1:100 000, and each of
    these is quartered four times.
    """
    row, column, number, *quarters = name.split("-")
    height, width = 4.0, 6.0
    north, west = (ord(row) - ord("A") + 1) * height, (int(column) - 31) * width
    places = [(divmod(int(number) - 1, 12), 12)]
    places += [(divmod("ABCDabcd1234".index(part) % 4, 2), 2) for part in quarters]
    for (down, across), parts in places:
        height, width = height / parts, width / parts
        north, west = north - down * height, west + across * width
    return west, north - height, west + width, north


def place_sheet(name):
    """Return the transform of an image of SIZE that covers a sheet in EPSG:2180."""
    bounds = transform_bounds("EPSG:4258", "EPSG:2180", *sheet_bounds(name))
    return from_bounds(*bounds, SIZE, SIZE)


def test_sheets_of_landcoverai_lie_where_their_names_say():
    """Real ones are within a metre: their upper left corners, and that in torchgeo's test data."""
    corners = {
        "M-33-20-D-c-4-2": (280_307.75, 394_547.0),
        "M-34-5-D-d-4-2": (601_451.25, 427_944.5),
        "N-33-130-A-d-4-4": (345_198.75, 519_668.25),
        "N-33-60-D-c-4-2": (424_877.0, 724_053.5),
        "N-34-97-C-b-1-2": (443_584.0, 589_375.5),
    }
    for name, corner in corners.items():
        assert place_sheet(name) @ (0, 0) == pytest.approx(corner, abs=1)


def test_no_split_of_landcoverai_shows_the_ground_of_another(tmp_path):
    """So its card is not refused, whatever seed its regions are drawn by."""
    card, black = embedded("landcoverai"), np.zeros((1, SIZE, SIZE), np.uint8)
    for name in SHEETS:
        write_raster(tmp_path / f"{name}.tif", black, transform=place_sheet(name))
    pairs = tuple(
        Pair(name, re.match(card.region, name)[1], f"{name}.tif", None) for name in SHEETS
    )
    regions = sorted({pair.region for pair in pairs})
    for bit in range(5):  # any two of 26 regions are in different splits at least once
        splits = {name: ("train", "val")[place >> bit & 1] for place, name in enumerate(regions)}
        check_overlaps(Inventory(card, tmp_path, pairs), splits)
    near = [pair for pair in pairs if pair.name.startswith("N-33-139-C")]  # of one region
    alone = tuple(replace(pair, region=pair.name) for pair in near)
    with pytest.raises(ValueError, match=r"N-33-139-C-d-2-4\.tif on N-33-139-C-d-2-2\.tif"):
        check_overlaps(
            Inventory(card, tmp_path, alone),
            dict(zip((pair.name for pair in alone), ("train", "val"), strict=True)),
        )


def test_dubai_within_splits_each_mosaic_image_by_image(fakes):
    card = embedded("dubai_within")
    regions = [pair.region for pair in find_pairs(card, fakes("dubai_within"))]
    assert len(set(regions)) == len(regions) == 16
    sides = split_regions(card, regions, 0)
    assert {key: card.fractions()[key] for key in SPLITS} == {"train": 0.6, "val": 0.1, "test": 0.3}
    train, test = (
        {region.split("/")[0] for region in regions if sides[region] == split}
        for split in ("train", "test")
    )
    assert train & test, "images of one mosaic are on two sides"


def test_parts_of_one_forest_image_are_one_region(fakes):
    pairs = find_pairs(embedded("forest"), fakes("forest"))
    assert Counter(pair.region for pair in pairs) == {"855": 2, "10452": 2, "111335": 1, "2334": 1}


@pytest.mark.slow
def test_loveda_validates_on_the_last_hundreds_of_train_and_tests_on_val(tmp_path):
    parts = {
        "Train/Rural": (0, 1366),
        "Train/Urban": (1366, 2522),
        "Val/Rural": (2522, 3514),
        "Val/Urban": (3514, 4191),
        "Test/Rural": (4191, 4195),
    }
    for part, (first, last) in parts.items():
        for kind in ("images_png", "masks_png")[: 1 if "Test" in part else 2]:
            (tmp_path / part / kind).mkdir(parents=True)
            for number in range(first, last):
                (tmp_path / part / kind / f"{number}.png").touch()
    card = load_card("loveda", Path("sources"))
    pairs = find_pairs(card, tmp_path)
    sides = split_regions(card, [pair.region for pair in pairs], 0)
    # 1200 to 1365 and 2400 to 2521; 992 + 677
    assert Counter(sides[pair.region] for pair in pairs) == {
        "train": 2522 - 166 - 122,
        "val": 166 + 122,
        "test": 1669,
    }
    side = {Path(pair.image).stem: sides[pair.region] for pair in pairs}
    numbers = ("12", "120", "1199", "1200", "1365", "1366", "2399", "2400", "2521", "2522")
    assert [side[number] for number in numbers] == [
        "train",
        "train",
        "train",
        "val",
        "val",
        "train",
        "train",
        "val",
        "val",
        "test",
    ]


def test_zurich_bands_are_read_as_red_green_blue_infrared_and_scaled(tmp_path):
    card = embedded("zurich")
    write_fake(replace(FAKES["zurich"], names=["1"]), tmp_path)
    image = np.stack([np.full((4, 4), value, np.uint16) for value in (100, 200, 300, 2000)])
    write_raster(tmp_path / "images_tif/zh1.tif", image)
    write_raster(tmp_path / "groundtruth/zh1_GT.tif", np.zeros((3, 4, 4), np.uint8))
    pair = find_pairs(card.model_copy(update={"orthophotos": 1}), tmp_path)[0]
    cut_orthophoto(
        CuttingPlan(card, tmp_path, tmp_path, {"zh1": "train"}, tile_settings(SIZE)), pair
    )
    with rasterio.open(raster_path(tmp_path / "images", "train", pair.name)) as file:
        # 300 of 1000, 200, 100, and 2000 which is cut off
        assert file.read()[:, 0, 0].tolist() == [76, 51, 26, 255]


def published_cells(image: npt.NDArray[Any], size: int) -> dict[int, npt.NDArray[Any]]:
    """What the archive's split.py writes, by its k: cells row by row, the full ones alone, while
    k counts those at the edges too."""
    cells, k = {}, 0
    for top in range(0, image.shape[0], size):
        for left in range(0, image.shape[1], size):
            cell = image[top : top + size, left : left + size]
            if cell.shape[:2] == (size, size):
                cells[k] = cell
            k += 1
    return cells


def test_the_published_lists_of_landcoverai_name_the_cells_that_its_script_writes(tmp_path):
    # 150 × 200 px in cells of 64 px: three rows of four, the last of each row and the last row cut
    card = embedded("landcoverai_published").model_copy(update={"orthophotos": 1, "tile_px": 64})
    image, sheet = draw_image(150, 200), "N-33-60-D-c-4-2"
    mask = np.random.default_rng(0).integers(0, 5, (150, 200)).astype(np.uint8)
    write_raster(tmp_path / f"images/{sheet}.tif", image)
    write_raster(tmp_path / f"masks/{sheet}.tif", mask, crs=CRS.from_wkt(PL_1992))
    cells = published_cells(image.transpose(1, 2, 0), 64)
    mask_cells = published_cells(mask, 64)
    assert list(cells) == [0, 1, 2, 4, 5, 6]
    lists = {"train": [0, 4, 6], "val": [1, 5], "test": [2]}
    for split, numbers in lists.items():
        text = "".join(f"{sheet}_{k}\n" for k in numbers)
        (tmp_path / f"{split}.txt").write_text(text)
    sides = read_tile_lists(card, tmp_path)
    assert sides is not None
    pairs = find_pairs(card, tmp_path)
    check_tile_size(card, sides, [pair.region for pair in pairs], tile_settings(64))
    plan = CuttingPlan(card, tmp_path, tmp_path / "out", sides, tile_settings(64))
    cutting = cut_orthophoto(plan, pairs[0])
    assert cutting.left_out == 6  # the partial cells, which no list names
    found: dict[str, list[int]] = {split: [] for split in SPLITS}
    for tile in cutting.tiles:
        k = int(tile.id.removeprefix(f"{sheet}_"))
        found[tile.split].append(k)
        place = np.s_[tile.row_off : tile.row_off + 64, tile.col_off : tile.col_off + 64]
        for kind, wanted in (("images", cells[k].transpose(2, 0, 1)), ("masks", mask_cells[k])):
            with rasterio.open(raster_path(tmp_path / "out" / kind, tile.split, sheet)) as file:
                assert np.array_equal(file.read()[:, *place], wanted.reshape(-1, 64, 64))
    assert found == lists


def test_the_published_lists_are_refused_at_another_tile_size():
    card = embedded("landcoverai_published")
    names = (["N-33-60-D-c-4-2_0"], ["images/N-33-60-D-c-4-2.tif"])
    check_tile_size(card, *names, tile_settings(512))
    with pytest.raises(ValueError, match=r"tiles of 512 px, but tile\.size_px is 256"):
        check_tile_size(card, *names, tile_settings(256))


def test_the_100_tiles_of_landcoverai_are_split_by_the_lists_that_come_along(fakes):
    card, folder = embedded("landcoverai100"), fakes("landcoverai100")
    names = FAKES["landcoverai100"].names
    lists = {"train": names[:70], "val": names[70:85], "test": names[85:]}
    for split, entries in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(entries))
    sides = read_tile_lists(card, folder)
    assert sides is not None
    regions = [pair.region for pair in find_pairs(card, folder)]
    # The entries are regions, for which any size will do.
    check_tile_size(card, sides, regions, tile_settings(256))
    assert Counter(sides[region] for region in regions) == {"train": 70, "val": 15, "test": 15}


# CRS of the same meaning


@pytest.fixture
def image_info(tmp_path):
    place = from_origin(424_877, 724_053.5, 0.5, 0.5)
    return RasterReader(
        write_raster(tmp_path / "a.tif", draw_image(40, 50), transform=place)
    ).info()


def test_pl_1992_written_out_is_the_crs_that_its_epsg_code_names(image_info):
    written_out = CRS.from_wkt(PL_1992)
    assert written_out != image_info.crs
    check_same_grid(image_info, replace(image_info, crs=written_out))
    check_same_grid(replace(image_info, crs=written_out), image_info)


@pytest.mark.parametrize(
    "change",
    [
        ('PARAMETER["false_easting",500000]', 'PARAMETER["false_easting",500000.1]'),
        ('PARAMETER["central_meridian",19]', 'PARAMETER["central_meridian",19.0001]'),
        ('PARAMETER["scale_factor",0.9993]', 'PARAMETER["scale_factor",0.9994]'),
    ],
)
def test_a_crs_that_differs_by_a_fraction_of_a_pixel_is_another_one(image_info, change):
    other = CRS.from_wkt(PL_1992.replace(*change))
    with pytest.raises(ValueError, match="differ in CRS: EPSG:2180 against PROJCS"):
        check_same_grid(image_info, replace(image_info, crs=other))


def test_a_crs_in_which_the_place_does_not_exist_is_another_one(image_info):
    # 424 877° east, 724 053° north
    with pytest.raises(ValueError, match="differ in CRS: EPSG:2180 against EPSG:4326"):
        check_same_grid(image_info, replace(image_info, crs=CRS.from_epsg(4326)))


# Getting the files


class Archives:
    """A server of one folder, which counts what it is asked for."""

    def __init__(self, folder: Path) -> None:
        asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.asked, self.folder = asked, folder
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def pack(self, name: str, *members: str) -> dict[str, str]:
        """Make an archive, and give what a card says of it."""
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for member in members:
                archive.writestr(member, member)
        digest = hashlib.md5((self.folder / name).read_bytes()).hexdigest()
        return {"url": f"{self.url}/{name}", "checksum": f"md5:{digest}"}


@pytest.fixture
def archives(tmp_path, monkeypatch):
    (tmp_path / "served").mkdir()
    (tmp_path / "source").mkdir()
    monkeypatch.setenv("POINTCOVER_CACHE", str(tmp_path / "cache"))
    made = Archives(tmp_path / "served")
    yield made
    made.close()


PAIR = ("images/a.tif", "masks/a.tif")


def test_an_archive_is_fetched_once_into_the_cache_of_all_projects_and_unpacked(archives, tmp_path):
    card = make_card(download=archives.pack("data.zip", *PAIR))
    for project in ("one", "two"):
        folder = tmp_path / project / "files"
        assert acquire(card, "mine", tmp_path / "source", folder) == folder
        assert [pair.image for pair in find_pairs(card, folder)] == ["images/a.tif"]
    assert archives.asked == ["/data.zip"]
    assert [path.name[8:] for path in (tmp_path / "cache").glob("*.zip")] == ["-data.zip"]


def test_files_that_lie_in_source_are_referred_to_and_nothing_is_fetched(archives, tmp_path):
    card = make_card(download=archives.pack("data.zip", *PAIR))
    for place in (tmp_path / "source" / "mine", tmp_path / "source"):
        (place / "images").mkdir(parents=True)
        (place / "images" / "a.tif").touch()
        assert acquire(card, "mine", tmp_path / "source", tmp_path / "out") == place
        shutil.rmtree(place)
    assert archives.asked == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["source/data.zip", "source/mine/data.zip"])
@pytest.mark.parametrize("as_file", [False, True])
def test_an_archive_in_source_is_used_offline_after_it_is_verified(
    archives, tmp_path, place, as_file
):
    card = make_card(download=archives.pack("data.zip", *PAIR))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    shutil.move(archives.folder / "data.zip", tmp_path / place)
    archives.close()
    source = tmp_path / place if as_file else tmp_path / "source"
    assert acquire(card, "mine", source, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "masks" / "a.tif").read_text() == "masks/a.tif"
    shutil.rmtree(tmp_path / "out")
    with (tmp_path / place).open("r+b") as file:
        file.write(b"PK\x03\x05")
    with pytest.raises(
        ValueError, match=r"data\.zip has md5 .*, wanted .*: it is damaged"
    ) as caught:
        acquire(card, "mine", source, tmp_path / "out")
    assert "Download it again, or remove it" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_its_user_packed_is_taken_under_another_name(archives, tmp_path):
    card = make_card(download=archives.pack("data.zip", *PAIR))
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("images/own.tif", "own")
    acquire(card, "mine", tmp_path / "own.zip", tmp_path / "out")
    assert (tmp_path / "out" / "images" / "own.tif").is_file()


def test_a_damaged_archive_on_the_server_is_refused_and_not_kept(archives, tmp_path):
    download = archives.pack("data.zip", *PAIR)
    (archives.folder / "data.zip").write_bytes(b"half")
    with pytest.raises(ValueError, match="got 4 bytes with md5"):
        acquire(make_card(download=download), "mine", tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").glob("*.zip"))


def test_several_archives_are_unpacked_into_one_folder_whether_they_lie_there_or_not(
    archives, tmp_path
):
    train = archives.pack("Train.zip", "Train/images/a.tif", "Train/masks/a.tif")
    val = archives.pack("Val.zip", "Val/images/b.tif", "Val/masks/b.tif")
    val["url"] += "?download=1"
    card = make_card(images="*/images/*.tif", masks="*/masks/*.tif", download=[train, val])
    shutil.move(archives.folder / "Train.zip", tmp_path / "source")
    folder = acquire(card, "mine", tmp_path / "source", tmp_path / "out")
    assert [pair.name for pair in find_pairs(card, folder)] == ["Train-a", "Val-b"]
    assert sorted(path.name for path in folder.iterdir()) == ["Train", "Val"]
    assert archives.asked == ["/Val.zip?download=1"]


def test_archives_that_hold_the_same_are_refused(archives, tmp_path):
    download = [archives.pack(name, *PAIR) for name in ("1.zip", "2.zip")]
    with pytest.raises(ValueError, match=r"2\.zip holds images, as does an archive before it"):
        acquire(make_card(download=download), "mine", tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("name", [name for name in FAKES if not embedded(name).download])
def test_a_dataset_that_is_not_there_and_cannot_be_fetched_says_how_to_get_it(name, tmp_path):
    card = embedded(name)
    with pytest.raises(ValueError, match=re.escape(card.instructions)):
        acquire(card, name, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("area", ["top_potsdam_5_13", "top_potsdam_2_10"])
def test_an_area_that_was_not_copied_is_named_with_the_instructions(area, fakes, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(fakes("potsdam"), folder)
    for path in folder.rglob(f"{area}_*"):
        path.unlink()
    with pytest.raises(ValueError, match="36 orthophotos with masks, wanted 37: missing") as caught:
        find_pairs(embedded("potsdam"), folder)
    assert f"missing {area.removeprefix('top_potsdam_')}." in str(caught.value)
    assert "unzip 5_Labels_all.zip -d 5_Labels_all" in str(caught.value)


# Real files, where they are


def real(folder: str) -> Path:
    if not (REAL / folder).is_dir():
        pytest.skip(f"no real data in {REAL / folder}")
    return REAL / folder


def test_real_masks_of_landcoverai_lie_on_the_grid_of_epsg_2180():
    paths = sorted(real("landcoverai_masks_only").glob("*.tif"))
    assert len(paths) == 5
    for path in paths:
        mask = RasterReader(path).info()
        check_same_grid(replace(mask, crs=CRS.from_epsg(2180)), mask)
        if mask.crs is not None:
            with pytest.raises(ValueError, match="differ in CRS"):
                check_same_grid(replace(mask, crs=CRS.from_epsg(2178)), mask)


def test_a_real_mask_of_landcoverai_is_cut_at_its_true_size(tmp_path):
    sheet = "N-33-60-D-c-4-2"
    path = real("landcoverai_masks_only") / f"{sheet}.tif"
    with rasterio.open(path) as file:
        mask, transform = file.read(1), file.transform
    rows = np.arange(mask.shape[0], dtype=np.uint8)[:, np.newaxis]
    image = np.broadcast_to(rows, (3, *mask.shape))
    write_raster(tmp_path / f"images/{sheet}.tif", image, transform=transform)
    (tmp_path / "masks").mkdir()
    (tmp_path / f"masks/{sheet}.tif").symlink_to(path)
    card = embedded("landcoverai").model_copy(update={"orthophotos": None})
    pair = find_pairs(card, tmp_path)[0]
    plan = CuttingPlan(card, tmp_path, tmp_path / "out", {pair.region: "test"}, tile_settings(512))
    cutting = cut_orthophoto(plan, pair)
    with rasterio.open(raster_path(tmp_path / "out/masks", "test", sheet)) as file:
        assert np.array_equal(file.read(1), mask)
        assert (file.crs, file.transform) == (CRS.from_epsg(2180), transform)
    totals = np.sum([tile.pixels for tile in cutting.tiles], axis=0)
    assert totals.tolist() == np.bincount(mask.ravel(), minlength=5).tolist()
    assert cutting.gsds_m == {0.5}


def test_the_real_zurich_image_is_read_by_its_card(tmp_path):
    folder = real("zurich_summer_14")
    for name, link in (
        ("14_sat_bgrnir_uint16", "images_tif/zh14"),
        ("14_gt_rgb", "groundtruth/zh14_GT"),
    ):
        (tmp_path / link).parent.mkdir()
        (tmp_path / f"{link}.tif").symlink_to(folder / f"{name}.tif")
    card = embedded("zurich").model_copy(update={"orthophotos": None})
    pair = find_pairs(card, tmp_path)[0]
    plan = CuttingPlan(card, tmp_path, tmp_path / "out", {"zh14": "test"}, tile_settings(256))
    cut_orthophoto(plan, pair)
    with rasterio.open(raster_path(tmp_path / "out/images", "test", pair.name)) as file:
        red, green, _, infrared = file.read().astype(int)
    with rasterio.open(raster_path(tmp_path / "out/masks", "test", pair.name)) as file:
        ids = file.read(1)
    names = card.class_table().names
    grass, water = (ids == names.index(name) for name in ("grass", "water"))
    # Plants are bright in the infrared and water is dark: the order of bands is right
    assert infrared[grass].mean() > 3 * red[grass].mean()
    assert infrared[water].mean() < 0.25 * green[water].mean()
    with rasterio.open(folder / "14_gt_rgb.tif") as file:
        assert np.array_equal(ids == IGNORE_INDEX, (file.read() == 255).all(axis=0))
    assert sum((image == 255).mean() for image in (red, green, infrared)) < 0.03
