"""A card says all that a dataset is, is taken as a whole or not at all, and pairs files by name."""

import re
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pointcover.datasets import card as cards
from pointcover.datasets.card import Pair, find_pairs, match_stars, matches
from pointcover.datasets.inventory import read_inventory, write_inventory
from pointcover.datasets.load_card import load_card
from pointcover.labels import IGNORE_INDEX
from tests.imagery import CARD, make_card


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "sources").mkdir()
    return tmp_path / "sources"


@pytest.fixture
def refusal(sources):
    """The message for a card with keys changed; a key of None is left out."""

    def refuse(**changes):
        values = {key: value for key, value in (CARD | changes).items() if value is not None}
        (sources / "mine.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(ValueError, match=r"mine\.yaml has") as caught:
            load_card(str(sources / "mine.yaml"), sources)
        return str(caught.value)

    return refuse


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(card, folder):
    return [(pair.name, pair.image, pair.mask) for pair in find_pairs(card, folder)]


# Reading a card


def test_the_dubai_card_holds_out_the_regions_that_results_are_reported_on(sources):
    card = load_card("dubai", sources)
    assert card.split == {"val": ("Tile 1",), "test": ("Tile 3", "Tile 6")}
    assert card.colour_ids()[0x3C, 0x10, 0x98] == card.class_table().names.index("building")
    assert card.colour_ids()[0, 0, 0] == IGNORE_INDEX


def test_a_card_of_ten_lines_is_enough(sources):
    (sources / "mine.yaml").write_text(
        "title: mine\nimages: images/*.png\nmasks: masks/*.png\nclasses:\n"
        '- {name: land, colour: "#00FF00"}\n- {name: water, colour: "#0000FF"}\n'
    )
    card = load_card(str(sources / "mine.yaml"), sources)
    assert card.fractions() == {"train": 0.6, "val": 0.2, "test": 0.2}
    assert card.value_ids() == {0: 0, 1: 1}
    assert card.bands == (1, 2, 3)


def test_an_unknown_name_is_refused_with_the_known_ones(sources):
    with pytest.raises(
        ValueError, match=r"got 'dubay', wanted one of deepglobe, dubai, .*zurich, or"
    ):
        load_card("dubay", sources)


def test_a_card_that_dvc_would_not_see_change_is_refused_with_where_to_move_it(sources):
    with pytest.raises(
        ValueError, match=r"lies outside .*sources/.*move it to .*sources/mine\.yaml"
    ):
        load_card(str(sources.parent / "mine.yaml"), sources)
    with pytest.raises(ValueError, match="lies outside"):
        load_card(str(sources / ".." / "mine.yaml"), sources)


def test_a_missing_card_is_named(sources):
    path = sources / "mine.yaml"
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml does not exist: write it") as caught:
        load_card(str(path), sources)
    assert f"files that git tracks: `git add {path}`" in str(caught.value)


def test_one_message_tells_every_fault_of_a_card(refusal):
    message = refusal(imagse="images/*.tif", images=None, bands=[1, "red"], mask_values="colors")
    assert "4 faults" in message
    assert "- imagse: this key is unknown; did you mean 'images'?" in message
    assert "- images: this key is missing; add it" in message
    assert "- bands.1: got 'red', wanted a valid integer" in message
    assert "- mask_values: got 'colors', allowed: 'ids' or 'colours'" in message


def test_a_wrong_key_of_a_class_is_refused_with_a_classs_keys(refusal):
    classes = [*CARD["classes"][:2], {"name": "road", "color": "#3C1098"}]
    message = refusal(classes=classes)
    assert "classes.2.color: this key is unknown; did you mean 'colour'?" in message
    assert "classes.2.colour: this key is missing; add it" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"classes": [{"name": "a", "colour": "red"}, CARD["classes"][0]]},
            "classes.0.colour: colour 'red' is not six hexadecimal digits",
        ),
        ({"classes": CARD["classes"][:1]}, "classes: got"),
        (
            {"classes": [*CARD["classes"], {"name": "LAND", "colour": "#8429f6"}]},
            "class colour #8429F6 occurs twice",
        ),
        (
            {"classes": [*CARD["classes"], {"name": "a,b", "colour": "#000000"}]},
            "classes.3.name: got 'a,b', wanted text, length at least 1, that matches",
        ),
        (
            {"classes": [*CARD["classes"], {"name": "x", "colour": "#000000", "value": 2}]},
            "value [2] belongs to two classes",
        ),
        ({"ignore": [1]}, "ignore holds 1, wanted numbers of the masks that are no class"),
        ({"ignore": ["#000000"]}, "ignore holds '#000000', wanted numbers"),
        ({"ignore": ["#8429F6"], "mask_values": "colours"}, "which is the colour of a class"),
        ({"ignore": [255], "mask_values": "colours"}, "colour '255' is not six hexadecimal"),
        ({"masks": "masks/*_*.tif"}, "must have the same number of stars, at least one"),
        ({"images": "a.tif", "masks": "b.tif"}, "at least one"),
        ({"images": "/data/*.tif"}, "must be a path below the dataset's folder"),
        ({"masks": "../masks/*.tif"}, "must be a path below the dataset's folder"),
        ({"images": "images/?_*.tif"}, "stars as its only wildcards"),
        ({"region": "(a"}, "region '(a' is no regular expression"),
        ({"region": "sheet"}, "has 0 groups, wanted 'file', 'folder', or a regular expression"),
        ({"value_range": [5, 5]}, "value_range [5.0, 5.0] is empty"),
        ({"value_range": [0, float("inf")]}, "value_range.1: got inf, wanted a finite number"),
        ({"gsd_m": 0}, "gsd_m: got 0, wanted greater than 0"),
        ({"gsd_m": float("inf")}, "gsd_m: got inf, wanted a finite number"),
        ({"split": {"train": 0.5, "val": 0.2, "test": 0.2}}, "add up to 0.9, not 1"),
        ({"split": {"train": 1.0, "val": 0.0, "test": 0.0}}, "must be more than 0"),
        ({"split": {"train": 0.8, "test": 0.2}}, "split must name train, val and test"),
        ({"split": {"test": ["a"]}}, "split must name the regions of val and of test"),
        ({"split": {"val": ["a"], "test": 0.2}}, "not a mixture"),
        ({"split": {"train": "t.txt", "test": "e.txt"}}, "split must name train, val and test"),
        ({"tile_px": 512}, "tile_px is the size of tiles on lists, but split names no files"),
        (
            {"binarise_at": 128},
            "leaves 0 and 255 in the masks, but classes and ignore have the values 1, 2",
        ),
        (
            {"binarise_at": 128, "mask_values": "colours", "ignore": []},
            "have the values 16, 41, 60, 132, 152, 169, 226, 246",
        ),
        ({"binarise_at": 0}, "binarise_at: got 0, wanted greater than or equal to 1"),
        (
            {"download": {"url": "http://a/b.zip", "checksum": "123"}},
            "download.0.checksum: got '123'",
        ),
        (
            {"download": {"url": "http://a/b.zip", "md5": "1"}},
            "download.0.md5: this key is unknown; known keys: checksum, url",
        ),
    ],
)
def test_a_card_that_does_not_hold_together_is_refused(refusal, changes, said):
    assert said in refusal(**changes)


def test_numbers_of_a_mask_mean_the_classes_that_name_them():
    values = zip(CARD["classes"], (10, 20, 0), strict=True)
    classes = [entry | {"value": value} for entry, value in values]
    assert make_card(classes=classes).value_ids() == {10: 0, 20: 1, 0: 2, 255: IGNORE_INDEX}


# A card that extends another


def write_card(path, **keys):
    path.write_text(yaml.safe_dump(keys))
    return str(path)


def test_a_card_has_its_own_keys_in_place_of_those_of_the_card_that_it_extends(sources):
    base = load_card("dubai", sources)
    own = load_card(
        write_card(
            sources / "mine.yaml",
            extends="dubai",
            title="mine",
            split={
                "train": 0.5,
                "val": 0.25,
                "test": 0.25,
            },
        ),
        sources,
    )
    assert (own.title, own.fractions()["val"]) == ("mine", 0.25)
    changed = {"title", "split"}
    for name in type(base).model_fields.keys() - changed:
        assert getattr(own, name) == getattr(base, name), name


def test_a_card_extends_through_a_card_beside_it_and_null_takes_a_key_away(sources):
    (sources / "deep").mkdir()
    write_card(sources / "deep" / "base.yaml", extends="landcoverai", gsd_m=2.0)
    own = write_card(sources / "deep" / "own.yaml", extends="base.yaml", orthophotos=None)
    card = load_card(own, sources)
    assert (card.gsd_m, card.orthophotos, len(card.classes)) == (2.0, None, 5)


def test_a_fault_of_a_card_that_extends_another_is_told_with_the_name_of_the_first(sources):
    own = write_card(sources / "mine.yaml", extends="dubai", ignor=[])
    with pytest.raises(ValueError, match=r"mine\.yaml has one fault:\n  - ignor: .*mean 'ignore'"):
        load_card(own, sources)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dubay", "extends 'dubay', wanted one of deepglobe, "),
        (7, "extends 7, wanted one of "),
        ("gone.yaml", "gone.yaml does not exist"),
        ("../outside.yaml", "extends '../outside.yaml', which lies outside "),
        ("mine.yaml", "extends 'mine.yaml', which extends it too"),
        ("other.yaml", "extends 'mine.yaml', which extends it too"),
    ],
)
def test_a_card_that_extends_nothing_known_or_itself_is_refused(sources, name, said):
    write_card(sources / "other.yaml", extends="mine.yaml")
    own = write_card(sources / "mine.yaml", extends=name)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)):
        load_card(own, sources)


# Pairing


def test_files_pair_by_what_the_stars_stand_for_and_never_by_order(tmp_path):
    touch(tmp_path, "T 1/img/a.jpg", "T 1/img/b.jpg", "T 2/img/a.jpg")
    touch(tmp_path, "T 2/msk/a_gt.png", "T 1/msk/b_gt.png", "T 1/msk/a_gt.png")
    card = make_card(images="T */img/*.jpg", masks="T */msk/*_gt.png")
    assert names(card, tmp_path) == [
        ("1-a", "T 1/img/a.jpg", "T 1/msk/a_gt.png"),
        ("1-b", "T 1/img/b.jpg", "T 1/msk/b_gt.png"),
        ("2-a", "T 2/img/a.jpg", "T 2/msk/a_gt.png"),
    ]


def test_side_car_and_hidden_files_are_no_data(tmp_path):
    touch(tmp_path, "images/a.tif", "masks/a.tif")
    touch(tmp_path, "images/a.tif.aux.xml", "images/Thumbs.db", "images/.b.tif", "masks/._a.tif")
    assert [name for name, *_ in names(make_card(), tmp_path)] == ["a"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path):
    touch(tmp_path, "images/a.tif", "masks/a.tif")
    for kind in ("images", "masks"):
        (tmp_path / kind / "b.tif").symlink_to(tmp_path / "gone.tif")
    with pytest.raises(FileNotFoundError, match=r"images/b\.tif is a link to .*/gone\.tif, which"):
        find_pairs(make_card(), tmp_path)


def test_two_stars_match_any_depth_even_none(tmp_path):
    touch(tmp_path, "images/a.tif", "images/x/y/b.tif", "masks/x/y/b.tif", "masks/a.tif")
    card = make_card(images="images/**/*.tif", masks="masks/**/*.tif")
    assert [name for name, *_ in names(card, tmp_path)] == ["a", "x_y-b"]


def test_unpaired_files_are_all_named_with_what_they_lack(tmp_path):
    touch(tmp_path, "images/a.tif", "images/b.tif", "masks/b.tif", "masks/c.tif")
    with pytest.raises(ValueError, match="2 files are unpaired") as caught:
        find_pairs(make_card(), tmp_path)
    assert f"- {tmp_path}/images/a.tif has no mask" in str(caught.value)
    assert f"- {tmp_path}/masks/c.tif has no image" in str(caught.value)
    assert "add what is missing or move them away" in str(caught.value)


def test_hundreds_of_unpaired_files_make_no_endless_message(tmp_path):
    touch(tmp_path, *(f"images/{number}.tif" for number in range(30)))
    with pytest.raises(ValueError, match="30 files are unpaired") as caught:
        find_pairs(make_card(), tmp_path)
    assert str(caught.value).endswith("and 10 more")
    assert len(str(caught.value).splitlines()) == 22


def test_a_folder_without_a_match_is_named_with_the_glob(tmp_path):
    with pytest.raises(ValueError, match=r"no file in .* matches images 'images/\*\.tif': check"):
        find_pairs(make_card(), tmp_path)


def test_orthophotos_that_would_have_the_same_name_on_disk_are_refused(tmp_path):
    touch(tmp_path, "images/a b.tif", "images/a+b.tif", "masks/a b.tif", "masks/a+b.tif")
    with pytest.raises(ValueError, match=r"1 orthophotos would have the same name \(a_b\): rename"):
        find_pairs(make_card(), tmp_path)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("file", ["x/sheet1_a.tif", "x/sheet1_b.tif", "y/sheet2_a.tif"]),
        ("folder", ["x", "x", "y"]),
        (r"sheet(\d)", ["1", "1", "2"]),
    ],
)
def test_regions_follow_the_cards_rule(tmp_path, rule, wanted):
    touch(tmp_path, "x/sheet1_a.tif", "x/sheet1_b.tif", "y/sheet2_a.tif")
    touch(tmp_path, "x/sheet1_a.png", "x/sheet1_b.png", "y/sheet2_a.png")
    card = make_card(images="*/*.tif", masks="*/*.png", region=rule)
    assert [pair.region for pair in find_pairs(card, tmp_path)] == wanted


@pytest.mark.parametrize("rule", [r"sheet(\d)", r"a(\d)?"])
def test_an_image_that_the_region_rule_does_not_match_is_refused(tmp_path, rule):
    touch(tmp_path, "images/a.tif", "masks/a.tif")
    with pytest.raises(ValueError, match=re.escape("does not match the image images/a.tif")):
        find_pairs(make_card(region=rule), tmp_path)


def test_what_a_card_leaves_out_is_neither_paired_nor_missed(tmp_path):
    touch(tmp_path, "images/a.tif", "images/b1.tif", "images/c.tif", "images/x/d.tif")
    touch(tmp_path, "masks/a.tif", "masks/b1.tif", "masks/c.tif")
    card = make_card(
        images="images/**/*.tif",
        masks="masks/**/*.tif",
        region=r"/(\w+)\.tif",
        leave_out=["b*", "images/x/*"],
    )
    assert [name for name, *_ in names(card, tmp_path)] == ["a", "c"]


def test_a_name_that_is_too_long_for_the_files_of_tiles_is_refused(tmp_path):
    for size in (110, 111):
        touch(tmp_path, *(f"{kind}/{'ä' * size}.tif" for kind in ("images", "masks")))
        if size == 110:
            assert len(find_pairs(make_card(), tmp_path)) == 1
    with pytest.raises(ValueError, match="has a name of more than 220 bytes"):
        find_pairs(make_card(), tmp_path)


def test_files_in_a_folder_with_a_line_break_are_found(tmp_path):
    touch(tmp_path, *(f"{kind}/a\nb/c.tif" for kind in ("images", "masks")))
    card = make_card(images="images/**/*.tif", masks="masks/**/*.tif")
    assert names(card, tmp_path)[0][0] == "a_b-c"


@pytest.mark.parametrize("name", [" ", "..", "- -", "a\nb", "x" * 101])
def test_a_class_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        make_card(classes=[{"name": name, "colour": "#000000"}, *CARD["classes"][1:]])


def test_an_entry_of_leave_out_that_matches_nothing_is_warned_of(tmp_path, caplog):
    touch(tmp_path, *(f"{kind}/{name}.tif" for kind in ("images", "masks") for name in "ab"))
    find_pairs(make_card(leave_out=["masks/b.tif", "images/b*"]), tmp_path)
    assert not caplog.messages
    find_pairs(make_card(leave_out=["images/bb.tif"]), tmp_path)
    assert "leave_out lists 'images/bb.tif', which matches no image" in caplog.text


@pytest.mark.parametrize("ending", [".TIF", ".tiff"])
def test_files_that_a_glob_misses_by_their_ending_alone_are_warned_of(tmp_path, caplog, ending):
    """They were left out in silence (torchgeo#1452)."""
    others = ("a.tif.aux.xml", "a.tfw", f"._a{ending}", "a.ovr")
    names = ("a.tif", "b.tif", f"c{ending}", *others)
    touch(tmp_path, *(f"{kind}/{name}" for kind in ("images", "masks") for name in names))
    assert [pair.name for pair in find_pairs(make_card(), tmp_path)] == ["a", "b"]
    assert caplog.messages == [
        f"{kind} '{kind}/*.tif' leaves out {kind}/c{ending}, which end in another way: if they "
        f"belong to the dataset, rename them"
        for kind in ("images", "masks")
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"#8429F6"', "000000", "has one fault:\n  - classes.0.colour: got 0, wanted text: write"),
        ("land", "no", "has one fault:\n  - classes.0.name: got False, .* write it in quotes"),
        ("images/b.tif", "02, 2019-07-01", "has 2 faults:\n  - split.val.0: got 2, .* in quotes"),
        ("images/*", "images\\*", ".* has a backslash: write paths with `/`, also on Windows"),
    ],
)
def test_what_yaml_reads_in_another_way_is_told_once_with_the_remedy(sources, old, new, said):
    text = yaml.safe_dump(CARD, default_flow_style=None).replace("'", '"')
    (sources / "mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf"(?s)mine\.yaml {said}"):
        load_card(str(sources / "mine.yaml"), sources)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_card_in_another_encoding_is_told_so(sources, encoding):
    card = CARD | {"title": "Gewässer"}
    text = yaml.safe_dump(card, allow_unicode=True)
    (sources / "mine.yaml").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"mine\.yaml is not UTF-8 \(.*: save it as UTF-8"):
        load_card(str(sources / "mine.yaml"), sources)
    (sources / "mine.yaml").write_bytes(text.encode("utf-8-sig"))
    assert load_card(str(sources / "mine.yaml"), sources).title == "Gewässer"


def test_a_dataset_that_is_not_whole_is_refused_with_what_is_missing_and_where_to_get_it(tmp_path):
    touch(tmp_path, "images/a.tif", "images/b.tif", "masks/a.tif", "masks/b.tif")
    card = make_card(orthophotos=3, instructions="Ask the neighbour")
    said = r"holds 2 orthophotos with masks, wanted 3: missing images/c\.tif\. .*Ask the neighbour$"
    with pytest.raises(ValueError, match=said):
        find_pairs(card, tmp_path)
    touch(tmp_path, "images/c.tif", "masks/c.tif")
    assert len(find_pairs(card, tmp_path)) == 3
    touch(tmp_path, "images/d.tif", "masks/d.tif")
    with pytest.raises(ValueError, match=r"holds 4 orthophotos with masks, wanted 3\. To use"):
        find_pairs(card, tmp_path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_of_macos_pair_and_are_listed(tmp_path, forms):
    own, other = (unicodedata.normalize(form, "Täler") for form in forms)
    touch(tmp_path, f"images/{own}.tif", f"masks/{other}.tif", "images/b.tif", "masks/b.tif")
    card = make_card(
        leave_out=["*/b.tif"],
        classes=[{"name": own, "colour": "#000000"}, {"name": "b", "colour": "#FFFFFF"}],
    )
    (pair,) = find_pairs(card, tmp_path)
    assert (pair.image, pair.mask) == (f"images/{own}.tif", f"masks/{other}.tif")
    assert matches(pair.region, f"images/{other}.*")
    assert card.class_table().names == (unicodedata.normalize("NFC", own), "b")
    touch(tmp_path, f"images/{other}.tif")
    with pytest.raises(ValueError, match="have the same name but for how its letters are composed"):
        find_pairs(card, tmp_path)


# The inventory


@pytest.fixture
def source(tmp_path):
    touch(tmp_path / "source" / "mine", "images/a.tif", "masks/a.tif")
    (tmp_path / "out").mkdir()
    return tmp_path / "source"


def inventory_of(source, card):
    path = source.parent / "out" / "dataset.json"
    write_inventory(path, card, source / "mine", here=path.parent, source=source)
    return path


def test_an_inventory_is_read_as_written_also_where_the_source_moved(source):
    card = make_card(bands=[2, 1, 4], split={"train": 0.5, "val": 0.25, "test": 0.25})
    path = inventory_of(source, card)
    assert str(source) not in path.read_text()
    moved = source.rename(source.with_name("moved"))
    inventory = read_inventory(path, moved)
    assert inventory.card == card
    assert inventory.folder == moved / "mine"
    assert inventory.pairs == (Pair("a", "images/a.tif", "images/a.tif", "masks/a.tif"),)


def test_the_inventory_changes_with_a_files_bytes(source):
    before = inventory_of(source, make_card()).read_text()
    assert inventory_of(source, make_card()).read_text() == before
    (source / "mine" / "masks" / "a.tif").write_text("changed")
    assert inventory_of(source, make_card()).read_text() != before


def test_files_that_dvc_hashes_are_not_hashed_again(source, monkeypatch):
    monkeypatch.setattr("pointcover.datasets.inventory.sha256", lambda path: pytest.fail(str(path)))
    here = source / "mine"
    path = here / "dataset.json"
    pairs = write_inventory(path, make_card(), here, here=here, source=source.parent)
    assert read_inventory(path, source).pairs == tuple(pairs)


@pytest.mark.parametrize("name", ["mine", "mine/masks"])
def test_files_behind_a_link_to_a_folder_are_refused_and_linked_files_are_not(source, name):
    # DVC does not look behind such a link, but behind these two:
    (source / "mine/masks/a.tif").rename(source.parent / "a.tif")
    (source / "mine/masks/a.tif").symlink_to(source.parent / "a.tif")
    link = source.with_name("link")
    link.symlink_to(source)
    inventory_of(link, make_card())
    (source / name).rename(source.parent / "elsewhere")
    (source / name).symlink_to(source.parent / "elsewhere")
    with pytest.raises(
        ValueError, match=rf"/{name} is a link to a folder, and DVC would not notice"
    ):
        inventory_of(source, make_card())


def test_the_inventory_changes_with_a_tile_list(source):
    card = make_card(split={split: f"{split}.txt" for split in ("train", "val", "test")})
    with pytest.raises(ValueError, match=r"tile lists that do not exist: .*mine/train\.txt, "):
        inventory_of(source, card)
    for split in ("train", "val", "test"):
        (source / "mine" / f"{split}.txt").write_text(f"{split}_0\n")
    before = inventory_of(source, card).read_text()
    (source / "mine" / "val.txt").write_text("val_1\n")
    assert inventory_of(source, card).read_text() != before


# Patterns that take long


def as_regex(glob):
    """Return a glob as the regular expression that its stars stand for."""
    stars = {"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)"}
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    return "".join(stars.get(part, re.escape(part)) for part in parts)


@given(
    glob=st.text("*/ab", max_size=7),
    texts=st.lists(st.text("/ab", max_size=8), min_size=1, max_size=20),
)
def test_stars_match_what_the_regular_expression_would(glob, texts):
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    for text in texts:
        match = re.fullmatch(as_regex(glob), text, re.DOTALL)
        assert match_stars(parts, text) == (match and match.groups(""))
        whole = ".*".join(map(re.escape, glob.split("*")))
        assert matches(text, glob) == bool(re.fullmatch(whole, text, re.DOTALL))


def test_dozens_of_stars_take_no_time():
    assert not matches("a" * 200, "*a" * 60 + "b")
    assert match_stars(re.split(r"(\*)", "*a" * 20 + "b"), "a" * 200) is None


@pytest.mark.parametrize("glob", ["*a" * 21, "**/" * 4 + "*.tif"])
def test_a_glob_of_too_many_stars_is_refused(glob):
    with pytest.raises(ValueError, match=r"stars, wanted at most 20, and at most 3 times `\*\*`"):
        make_card(images=glob, masks=glob)


def test_a_region_rule_that_backtracks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "REGION_S", 0.1)
    touch(tmp_path, *(f"{kind}/{'a' * 60}.tif" for kind in ("images", "masks")))
    with pytest.raises(TimeoutError, match=r"takes more than 0.1 s on images/a+\.tif: its repet"):
        find_pairs(make_card(region="((?:a+)+)$"), tmp_path)
