"""No region is on two sides, and published lists are followed to the tile."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pointcover.datasets.card import Pair, matches
from pointcover.labels import SPLITS
from pointcover.tileset.tiles import TileReader, read_index
from pointcover.tiling.cutting import CuttingPlan, cut_orthophoto
from pointcover.tiling.splits import check_tile_size, read_tile_lists, split_regions
from tests.imagery import make_card, tile_settings, write_dataset

LISTS = {split: f"{split}.txt" for split in SPLITS}
TILE_LISTS = {"split": LISTS, "tile_px": 64}


def sides_of(sides):
    return [sorted(name for name in sides if sides[name] == split) for split in SPLITS]


@given(
    count=st.integers(3, 60),
    weights=st.tuples(*[st.integers(1, 100)] * 3),
    seed=st.integers(0, 5),
    repeats=st.integers(1, 3),
)
def test_fractions_give_every_region_one_split_and_every_split_a_region(
    count, weights, seed, repeats
):
    total = sum(weights)
    fractions = {split: weight / total for split, weight in zip(SPLITS, weights, strict=True)}
    regions = [f"region {number}" for number in range(count)]
    sides = split_regions(make_card(split=fractions), regions * repeats, seed)
    parts = sides_of(sides)
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(regions)
    assert all(parts)
    for part, split in zip(parts, SPLITS, strict=True):
        wanted = fractions[split] * count
        assert len(part) == 1 or abs(len(part) - wanted) < 2


@pytest.mark.parametrize(
    ("count", "counts"),
    [(3, [1, 1, 1]), (4, [2, 1, 1]), (5, [3, 1, 1]), (10, [6, 2, 2]), (40, [24, 8, 8])],
)
def test_fractions_of_six_two_and_two_tenths_are_divided_as_by_hand(count, counts):
    card = make_card(split={"train": 0.6, "val": 0.2, "test": 0.2})
    sides = split_regions(card, [str(number) for number in range(count)], seed=0)
    assert [len(part) for part in sides_of(sides)] == counts


def test_a_split_depends_on_its_seed_and_the_names_but_not_on_their_order():
    card = make_card(split={"train": 0.6, "val": 0.2, "test": 0.2})
    regions = [str(number) for number in range(20)]
    sides = split_regions(card, regions, 1)
    assert split_regions(card, regions[::-1], 1) == sides
    assert split_regions(card, regions, 2) != sides


@given(st.sets(st.sampled_from("abcdefgh"), min_size=3), st.data())
def test_lists_are_followed_and_the_rest_is_for_training(regions, data):
    names = sorted(regions)
    val = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=len(names) - 2))
    rest = sorted(regions - val)
    test = data.draw(st.sets(st.sampled_from(rest), min_size=1, max_size=len(rest) - 1))
    assume(val and test)
    sides = split_regions(make_card(split={"val": sorted(val), "test": sorted(test)}), names, 0)
    assert sides_of(sides) == [sorted(regions - val - test), sorted(val), sorted(test)]


@pytest.mark.parametrize("regions", [[], ["a"], ["a", "b"], ["a", "b", "a", "b"]])
def test_fewer_than_three_regions_are_refused(regions):
    card = make_card(split={"train": 0.6, "val": 0.2, "test": 0.2})
    said = rf"the dataset has {len(set(regions))} region.*wanted at least three.*Add orthophotos"
    with pytest.raises(ValueError, match=said):
        split_regions(card, regions, 0)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"val": ["a"], "test": ["a"]}, "lists a twice"),
        ({"val": ["a"], "test": ["z"]}, "lists z, but the regions are a, b, c, d"),
        ({"train": ["a"], "val": ["b"], "test": ["c"]}, "lists no split for d"),
        ({"val": ["a", "b"], "test": ["c", "d"]}, "leaves train without a region"),
        ({"val": [], "test": ["c"]}, "leaves val without a region"),
        ({"val": ["a"], "test": ["*"]}, "lists a twice"),
        ({"val": ["x*"], "test": ["a"]}, "lists x*, but the regions are a, b, c, d"),
    ],
)
def test_lists_that_do_not_fit_the_regions_are_refused(split, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        split_regions(make_card(split=split), list("abcd"), 0)


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("val/*", ["val/a.png", "val/b/c.png"]),
        ("*.png", ["val/a.png", "val/b/c.png", "v.l/a.png"]),
        ("v.l/*", ["v.l/a.png"]),  # a dot means a dot
        ("val/a.png", ["val/a.png"]),
        ("[v]al*", ["[v]al"]),
        ("al*", []),
    ],
)
def test_a_star_in_a_list_of_regions_stands_for_any_text_and_nothing_else_does(entry, meant):
    regions = ["val/a.png", "val/b/c.png", "v.l/a.png", "[v]al"]
    assert [region for region in regions if matches(region, entry)] == meant


def test_lists_with_stars_name_many_regions_and_the_rest_is_for_training():
    regions = [*(f"val/{n}" for n in range(12)), *(f"train/{n}" for n in range(12))]
    card = make_card(split={"val": ["train/1*"], "test": ["val/*"]})
    parts = sides_of(split_regions(card, regions, 0))
    assert parts[1] == ["train/1", "train/10", "train/11"]
    assert parts[2] == sorted(f"val/{n}" for n in range(12))
    assert len(parts[0]) == 9


def test_a_message_about_thousands_of_regions_names_a_few():
    card = make_card(split={"val": ["x"], "test": ["y"]})
    with pytest.raises(ValueError, match=r"9 and 4990 more$"):
        split_regions(card, [f"{n:04}" for n in range(5000)], 0)


# Published tile lists


def write_lists(folder, **lists):
    for split in SPLITS:
        (folder / f"{split}.txt").write_text("\n".join(lists.get(split, [f"{split}_0"])) + "\n")


def test_published_lists_are_read_as_written(tmp_path):
    write_lists(tmp_path, train=["a_0", "b_3"], test=["a_1"])
    assert read_tile_lists(make_card(split=LISTS), tmp_path) == {
        "a_0": "train",
        "b_3": "train",
        "val_0": "val",
        "a_1": "test",
    }


def test_lists_of_other_programs_are_read_or_refused_by_their_encoding(tmp_path):
    card = make_card(split={split: f"{split}.txt" for split in ("train", "val", "test")})
    (tmp_path / "train.txt").write_bytes("north field\r\nä\r\n\r\n".encode("utf-8-sig"))
    (tmp_path / "val.txt").write_text(" b \n")
    (tmp_path / "test.txt").write_text("c")
    wanted = {"north field": "train", "ä": "train", "b": "val", "c": "test"}
    assert read_tile_lists(card, tmp_path) == wanted
    (tmp_path / "val.txt").write_bytes("b".encode("utf-16"))
    with pytest.raises(ValueError, match=r"val\.txt is not UTF-8 \(invalid start byte at byte 0\)"):
        read_tile_lists(card, tmp_path)


def test_a_card_that_splits_by_region_has_no_tile_lists(tmp_path):
    assert read_tile_lists(make_card(), tmp_path) is None


def test_lists_that_are_missing_empty_or_share_a_tile_are_refused(tmp_path):
    card = make_card(split=LISTS)
    with pytest.raises(ValueError, match=r"names train\.txt, but .*/train\.txt does not exist"):
        read_tile_lists(card, tmp_path)
    write_lists(tmp_path, val=[])
    with pytest.raises(ValueError, match=r"/val\.txt is empty, wanted the ids of the val tiles"):
        read_tile_lists(card, tmp_path)
    write_lists(tmp_path, train=["a_0"], test=["a_0"])
    with pytest.raises(ValueError, match="tile a_0 is listed for train and for test"):
        read_tile_lists(card, tmp_path)


@pytest.fixture
def listed(project):
    """100 × 130 px make 2 × 3 cells of 64 px, of which all but the first two are partial."""
    project.write_card(**TILE_LISTS)
    write_dataset(project.data, "ab")
    return project


def test_published_lists_are_followed_to_the_tile_and_the_rest_is_counted(listed):
    write_lists(listed.data, train=["a_0", "b_0", "c_5"], val=["a_4"], test=["b_1", "a_2"])
    listed.run("download", "tile")
    index = read_index(listed.root / "data" / "tiles" / "index.csv")
    found = {
        tile.id: (tile.split, tile.row_off, tile.col_off, tile.height, tile.width) for tile in index
    }
    assert found == {
        "a_0": ("train", 0, 0, 64, 64),
        "b_0": ("train", 0, 0, 64, 64),
        "c_5": ("train", 64, 128, 36, 2),
        "a_4": ("val", 64, 64, 36, 64),
        "b_1": ("test", 0, 64, 64, 64),
        "a_2": ("test", 0, 128, 64, 2),
    }
    assert '"tiles_left_out": 12' in (listed.root / "metrics" / "tile.json").read_text()


def test_tiles_of_one_orthophoto_in_turn_on_both_sides_all_keep_their_clicks(
    listed, blank_pictures
):
    write_lists(listed.data, train=["a_0", "a_3"], val=["a_1", "a_4"], test=["b_1"])
    listed.set({"points": 5, "annotate.unit": "per_class"})
    listed.run("download", "tile", "annotate")
    sparse = listed.root / "data" / "sparse"
    clicks = TileReader(sparse / "clicks", 64, 255)
    tiles = read_index(sparse / "index.csv")
    assert sorted(tile.id for tile in tiles) == ["a_0", "a_1", "a_3", "a_4"]
    for tile in tiles:
        assert (clicks.read(tile) != 255).sum() == 15  # 5 for each of three classes


@pytest.mark.parametrize("regions", [["a"], ["a", "b"]])
def test_lists_of_tiles_hold_at_their_size_alone(regions):
    card = make_card(**TILE_LISTS)
    for size_px, downsample in ((64, 1), (32, 2)):
        check_tile_size(card, ["a_0", "b_3"], regions, tile_settings(size_px, downsample))
    for size_px, downsample, product in ((128, 1, 128), (64, 2, 128), (32, 1, 32)):
        with pytest.raises(
            ValueError,
            match=re.escape(
                f"name tiles of 64 px, but tile.size_px is {size_px} and tile.downsample "
                f"{downsample}, "
                f"which makes {product} px of the source: set tile.size_px=64 and tile.downsample=1"
            ),
        ):
            check_tile_size(card, ["a_0", "b_3"], regions, tile_settings(size_px, downsample))


def test_lists_of_regions_hold_at_any_size_and_an_unknown_entry_is_refused():
    card = make_card(split=LISTS)
    check_tile_size(card, ["a", "b"], ["a", "b", "c"], tile_settings(96, 3))
    with pytest.raises(ValueError, match=r"name z, but the regions are a, b\. .*with `tile_px`"):
        check_tile_size(card, ["a", "z"], ["a", "b"], tile_settings(64))


def test_another_tile_size_than_the_lists_is_refused_by_the_stage(listed):
    write_lists(listed.data, train=["a_0"], val=["a_1"], test=["b_1"])
    listed.set({"tile.size_px": 128})
    assert "the card's lists name tiles of 64 px" in listed.refusal("download", "tile")


def test_tiles_of_half_the_size_are_those_of_the_list_when_downsampled(listed):
    # 129 × 129 px: the third cell of a row is one pixel wide, which downsampling drops; it counts.
    write_dataset(listed.data, "ab", height=129, width=129)
    places = {}
    for size_px, downsample in ((64, 1), (32, 2)):
        splits = dict.fromkeys(["a_0", "a_1", "a_3", "a_4"], "train")
        pair = Pair("a", "elsewhere", "images/a.tif", "masks/a.tif")
        out = listed.root / f"out{downsample}"
        settings = tile_settings(size_px, downsample)
        plan = CuttingPlan(make_card(), listed.data, out, splits, settings)
        cutting = cut_orthophoto(plan, pair)
        places[downsample] = {
            tile.id: (tile.row_off * downsample, tile.col_off * downsample)
            for tile in cutting.tiles
        }
    assert places[1] == {"a_0": (0, 0), "a_1": (0, 64), "a_3": (64, 0), "a_4": (64, 64)}
    assert places[2] == places[1]


def test_lists_of_regions_in_files_are_followed(listed):
    listed.write_card(split=LISTS, region=r"images/(\w)\.tif")
    write_lists(listed.data, train=["c"], val=["a"], test=["b"])
    listed.run("download", "tile")
    index = read_index(listed.root / "data" / "tiles" / "index.csv")
    assert {(tile.region, tile.split) for tile in index} == {
        ("a", "val"),
        ("b", "test"),
        ("c", "train"),
    }
    assert len(index) == 18


def test_a_list_of_tiles_that_were_not_cut_is_refused(listed):
    write_lists(listed.data, train=["a_0"], val=["a_1"], test=["a_6", "z_0"])
    assert "lists tiles that were not cut: a_6, z_0. A tile is called" in listed.refusal(
        "download", "tile"
    )
