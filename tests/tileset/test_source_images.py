"""Source images are found by the names that other tools have for them."""

import unicodedata

import pytest

from pointcover.tileset.source_images import (
    SOURCE_IMAGES,
    SourceImage,
    SourceImages,
    read_source_images,
    write_source_images,
)


def image(path, orthophoto=None):
    name = orthophoto or path.rpartition("/")[2].partition(".")[0]
    return SourceImage(name, path, 10, 20, 1, is_placed=False)


IMAGES = [image("a/1.png", "a-1"), image("b/1.png", "b-1"), image("b/Wälder 2.tif", "b-W_2")]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a/1.png"], "a-1"),
        (["/home/me/pictures/b/1.png"], "b-1"),
        (["..\\b\\1.png"], "b-1"),
        (["Wälder 2.tif"], "b-W_2"),
        ([unicodedata.normalize("NFD", "Wälder 2.tif")], "b-W_2"),
        (["b-W_2"], "b-W_2"),
        (["0123-1.png", "x/Wälder 2.tif"], "b-W_2"),
        (["", "a/1.png"], "a-1"),
    ],
)
def test_an_image_is_found_by_the_end_of_its_path_or_its_orthophoto(names, wanted):
    assert SourceImages(IMAGES).find(*names).orthophoto == wanted


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1.png", "image '1.png' may be a/1.png, b/1.png: its path must end as in the dataset"),
        ("c/1.png", "image 'c/1.png' may be a/1.png, b/1.png"),
        ("2.png", "image '2.png' is not in the dataset, which has a/1.png, b/1.png, b/W"),
        ("1.PNG", "is not in the dataset"),
        ("x/b-1", "is not in the dataset"),
        ("", "image '' is not in the dataset"),
    ],
)
def test_an_unknown_name_and_one_of_several_images_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        SourceImages(IMAGES).find(name)


def test_the_list_of_images_survives_the_way_to_disk(tmp_path):
    write_source_images(tmp_path, IMAGES)
    assert list(read_source_images(tmp_path).by_orthophoto.values()) == IMAGES
    assert not read_source_images(tmp_path).are_placed


def test_a_missing_or_damaged_list_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `dvc repro tile`"):
        read_source_images(tmp_path)
    write_source_images(tmp_path, IMAGES)
    text = (tmp_path / SOURCE_IMAGES).read_text(encoding="utf-8")
    for damaged in (text[:-20], text.replace("20", '"x"'), "[]\n", "{}\n"):
        (tmp_path / SOURCE_IMAGES).write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match="is damaged"):
            read_source_images(tmp_path)
