"""Exports of annotation tools give the labels that were drawn, or one message of what is wrong."""

import json
import re

import numpy as np
import pytest

from pointcover.labels import IGNORE_INDEX
from pointcover.vectors import documents
from pointcover.vectors.formats import FORMATS
from pointcover.vectors.read_labels import is_vector_file
from pointcover.vectors.read_pixels import recognise
from tests.vectors.formats.labels import (
    HEIGHT,
    WIDTH,
    burn,
    coco,
    cvat,
    images_of,
    label_studio,
    labelme,
    mask_of,
    png,
    read,
    result,
    write_json,
)
from tests.vectors.test_run_lengths import compress, pack, runs

BOX = (slice(3, 8), slice(4, 10))
"""Rows and columns of the shapes below."""
CORNERS = [[4, 3], [10, 3], [10, 8], [4, 8]]
DRAWN = mask_of(water=BOX) == 1


def percent(x, y):
    return 100 * x / WIDTH, 100 * y / HEIGHT


def brush():
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[DRAWN] = 200
    return pack(rgba.ravel().tolist(), 8, (3, 4, 8, 16), literal=False)


def rectangle(**others):
    x, y = percent(4, 3)
    width, height = percent(6, 5)
    return {"x": x, "y": y, "width": width, "height": height, "rotation": 0} | others


SHAPES = {
    "coco polygon": coco([{"segmentation": [[4, 3, 10, 3, 10, 8, 4, 8]]}]),
    "coco polygons": coco(
        [{"segmentation": [[4, 3, 7, 3, 7, 8, 4, 8], [7, 3, 10, 3, 10, 8, 7, 8]]}]
    ),
    "coco RLE": coco(
        [
            {
                "iscrowd": 1,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(DRAWN.ravel("F"))},
            }
        ]
    ),
    "coco compressed RLE": coco(
        [{"segmentation": {"size": [HEIGHT, WIDTH], "counts": compress(runs(DRAWN.ravel("F")))}}]
    ),
    "label studio polygon": label_studio(
        result("polygonlabels", {"points": [percent(x, y) for x, y in CORNERS], "closed": True})
    ),
    "label studio rectangle": label_studio(result("rectanglelabels", rectangle())),
    "label studio brush": label_studio(result("brushlabels", {"format": "rle", "rle": brush()})),
    "label studio separate labels": label_studio(
        result("rectangle", rectangle()), result("labels", rectangle(labels=["water"]))
    ),
    "cvat polygon": cvat('<polygon label="water" points="4.00,3.00;10,3;10,8;4,8" z_order="0"/>'),
    "cvat box": cvat('<box label="water" xtl="4" ytl="3" xbr="10" ybr="8"><attribute/></box>'),
    "cvat turned box": cvat(  # by a quarter around its middle
        '<box label="water" xtl="4.5" ytl="2.5" xbr="9.5" ybr="8.5" rotation="90"/>'
    ),
    "cvat mask": cvat(
        f'<mask label="water" rle="{", ".join(map(str, runs(DRAWN[2:9, 3:12].ravel())))}" left="3" '
        f'top="2" width="9" height="7"/>'
    ),
    "labelme polygon": labelme({"shape_type": "polygon", "points": CORNERS}),
    "labelme without type": labelme({"points": CORNERS}),
    "labelme rectangle": labelme({"shape_type": "rectangle", "points": [[10, 3], [4, 8]]}),
    "labelme mask": labelme(
        {"shape_type": "mask", "points": [[3, 2], [11, 8]], "mask": png(DRAWN[2:9, 3:12])}
    ),
}

POINTS = {
    "coco": coco([{"keypoints": [4.5, 3.5, 2, 0, 0, 0, 9, 7, 1]}]),
    "label studio": label_studio(
        *(
            result(
                "keypointlabels", dict(zip("xy", percent(x, y), strict=True)) | {"width": 0.4}, x
            )
            for x, y in ((4.5, 3.5), (9, 7))
        )
    ),
    "cvat": cvat('<points label="water" points="4.5,3.5;9,7" occluded="0"/>'),
    "labelme": labelme(
        {"shape_type": "point", "points": [[4.5, 3.5]]},
        {"shape_type": "points", "points": [[9, 7]]},
    ),
    "csv": "class;image;column;row\nwater;a.png;4.5;3.5\n1;photos/a.png;9;7\n",
    "csv of Windows": "\ufeffclass,orthophoto,column,row\r\nWATER,a,4.5,3.5\r\n1,a,9,7\r\n",
}


def write(folder, document):
    if isinstance(document, str):
        path = folder / ("labels.xml" if document.startswith("<") else "labels.csv")
        path.write_text(document, encoding="utf-8", newline="")
        return path
    return write_json(folder / "labels.json", document)


def refusal(*paths, **options):
    with pytest.raises(ValueError, match=re.escape(str(paths[0].parent))) as caught:
        read(*paths, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_label_the_pixels_that_were_drawn(tmp_path, name):
    found = read(write(tmp_path, SHAPES[name]))
    np.testing.assert_array_equal(burn(found), mask_of(water=BOX))
    assert (burn(found, "b") == IGNORE_INDEX).all()
    assert found.read == 1


@pytest.mark.parametrize("name", POINTS)
def test_points_label_the_pixels_that_they_are_in(tmp_path, name):
    found = read(write(tmp_path, POINTS[name]))
    np.testing.assert_array_equal(burn(found), mask_of(water=([3, 7], [4, 9])))
    # On tiles of half the resolution they are in the pixels that show the same ground.
    halved = read(write(tmp_path, POINTS[name]), images=images_of(downsample=2))
    rows, columns = np.nonzero(burn(halved, downsample=2) == 1)
    assert list(zip(rows, columns, strict=True)) == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    "document",
    [
        label_studio(result("ellipselabels", {"x": 40, "y": 50, "radiusX": 8, "radiusY": 10})),
        cvat('<ellipse label="water" cx="20" cy="20" rx="4" ry="4"/>'),
        labelme({"shape_type": "circle", "points": [[20, 20], [24, 20]]}),
    ],
)
def test_circles_cover_the_pixels_within_their_radius(tmp_path, document):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    wanted = np.hypot(rows - 20, columns - 20) < 3.99
    np.testing.assert_array_equal(burn(read(write(tmp_path, document))) == 1, wanted)


def test_a_rectangle_of_label_studio_is_turned_clockwise_around_its_corner(tmp_path):
    x, y = percent(20, 10)
    width, height = percent(8, 4)[0], percent(8, 4)[1]
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 90}
    found = burn(read(write(tmp_path, label_studio(result("rectanglelabels", value)))))
    np.testing.assert_array_equal(found, mask_of(water=(slice(10, 18), slice(16, 20))))


def test_several_files_of_one_format_are_read_together(tmp_path):
    for name in "ab":
        shape = {"shape_type": "point", "points": [[5, 6]]}
        write_json(tmp_path / f"{name}.json", labelme(shape, image=f"{name}.png"))
    found = read(*sorted(tmp_path.iterdir()))
    assert found.fids.tolist() == ["a.json: shape 0", "b.json: shape 0"]
    for name in "ab":
        np.testing.assert_array_equal(burn(found, name), mask_of(water=(6, 5)))
    write_json(tmp_path / "c.json", SHAPES["coco polygon"])
    said = refusal(*sorted(tmp_path.iterdir()))
    assert "several formats (labelme: a.json, b.json; coco: c.json)" in said


def test_a_point_on_the_far_edges_belongs_to_the_last_pixels(tmp_path):
    found = read(write(tmp_path, f"class,image,column,row\nwater,a.png,{WIDTH},{HEIGHT}\n"))
    np.testing.assert_array_equal(burn(found), mask_of(water=(HEIGHT - 1, WIDTH - 1)))


def test_the_only_image_need_not_be_named(tmp_path):
    found = read(write(tmp_path, "class,column,row\nwater,1,2\n"), images=images_of("a.png"))
    np.testing.assert_array_equal(burn(found), mask_of(water=(2, 1)))


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/deadbeef-a.png",
        "/data/local-files/?d=photos%2Fa.png",
        "s3://bucket/photos/a.png",
        "https://example.org/photos/a.png?token=1",
        "C:\\photos\\a.png",
        "a.png",
    ],
)
def test_label_studio_names_images_in_many_ways(tmp_path, address):
    point = result("keypointlabels", {"x": 50, "y": 50})
    found = read(write(tmp_path, label_studio(point, image=address)))
    assert found.orthophotos.tolist() == ["a"]


def test_annotations_that_were_skipped_and_results_without_shape_are_not_read(tmp_path):
    point = result("keypointlabels", {"x": 50, "y": 50})
    choice = {"id": "c", "type": "choices", "value": {"choices": ["blurred"]}}
    tasks = label_studio(point, choice)
    tasks[0]["annotations"].append({"was_cancelled": True, "result": [point]})
    assert read(write(tmp_path, tasks)).read == 1


def test_values_to_ignore_are_counted_and_codes_merge_classes(tmp_path):
    text = "class,image,column,row\n10,a.png,1,1\n11,a.png,2,1\nno,a.png,3,1\n,a.png,4,1\n"
    found = read(write(tmp_path, text), codes={10: "water", "11": "water"}, ignore=("", "no"))
    assert (found.read, found.ignored) == (4, 2)
    np.testing.assert_array_equal(burn(found), mask_of(water=(1, [1, 2])))
    only = "class,image,column,row\nno,a.png,3,1\n"
    assert "of 1 records 1 have a value to ignore" in refusal(write(tmp_path, only), ignore=("no",))


# What cannot be read


def test_one_message_names_the_records_that_cannot_be_read(tmp_path):
    document = coco(
        [
            {"keypoints": [500, 3, 2]},
            {"image_id": 99},
            {"category_id": 4},
            {"bbox": [1, 2, 3, 4]},
            {"keypoints": [1, 2]},
            {"segmentation": [[1, 2, 3, 4]]},
            {"segmentation": [[0, 0, 9, 9, 9, 0, 0, 9]]},
            {"segmentation": {"size": [5, 5], "counts": [25]}},
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2]}},
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
            {"keypoints": "many"},
            {"segmentation": [[60, 3, 70, 3, 70, 8]]},
            {"keypoints": [1, 1, 2]},
        ]
    )
    document["images"].append({"id": 1, "file_name": "c.png"})
    document["annotations"].append(
        {"id": 7, "image_id": 1, "category_id": 3, "keypoints": [1, 1, 1]}
    )
    document["categories"].append({"id": 6, "name": "lava"})
    document["annotations"].append({"image_id": 7, "category_id": 6, "keypoints": [1, 1, 1]})
    said = refusal(write(tmp_path, document)).splitlines()
    assert said[0].endswith(
        "labels.json has 14 records that cannot be read; correct or remove them, or map values "
        "with annotate.vectors.codes, or skip values with annotate.vectors.ignore:"
    )
    wanted = {
        "100": "point 500, 3 is outside image 'photos/a.png' of 50 × 40 px (columns, rows)",
        "101": "image_id 99 is not among `images`",
        "102": "category_id 4 is not in `categories`",
        "103": "it has neither key points nor a segmentation: a `bbox` alone does not say",
        "104": "keypoints has 2 numbers, wanted x, y, v for each point",
        "105": "a polygon has 2 corners, wanted at least 3",
        "106": "its polygon is invalid (Self-intersection",
        "107": "its mask has 5 × 5 px, its image 40 × 50",
        "108": "the run lengths of the mask add up to 3 px, wanted 40 × 50",
        "109": "the mask is empty",
        "110": "keypoints: ",
        "111": "shape from 60, 3 to 70, 8 is outside image 'photos/a.png'",
        "7": "image 'c.png' is not in the dataset, which has photos/a.png, photos/b.png",
        "14": "'lava' is not a class; known: land, water, road",
    }
    for number, text in wanted.items():
        assert any(f"labels.json, annotation {number}: {text}" in line for line in said), number
    assert len(said) == 15


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            cvat('<polyline label="water" points="1,1;2,2"/>'),
            "image 'photos/a.png', polyline in line 4: 'polyline' cannot be read: a line",
        ),
        (cvat('<cuboid label="water"/>'), "'cuboid' cannot be read: wanted points, polygon, box"),
        (cvat('<points points="1,1"/>'), "it has no attribute `label`"),
        (cvat('<points label="water"/>'), "points: Field required"),
        (cvat('<points label="water" points="1;2"/>'), "its points are not pairs"),
        (cvat('<points label="water" points="1,x"/>'), "could not convert string to float: 'x'"),
        (cvat('<points label="water" points="1,nan"/>'), "its points are not pairs of finite"),
        (cvat('<box label="water" xtl="1" ytl="1" xbr="1" ybr="9"/>'), "has no area"),
        (cvat('<ellipse label="water" cx="1" cy="1" rx="0" ry="9"/>'), "has radii 0 and 9"),
        (
            cvat('<mask label="water" rle="4" left="49" top="0" width="2" height="2"/>'),
            "its mask has columns 49 to 51 and rows 0 to 2, outside image",
        ),
        (
            cvat('<mask label="water" rle="9" left="0" top="0" width="2" height="2"/>'),
            "must be from 0 to 4",
        ),
        (
            cvat("", name="z.png").replace("<image", "<track").replace("/image", "/track"),
            "for video",
        ),
        (
            cvat('<points label="water" points="1,1"/>').replace('"50"', '"51"'),
            "made on 40 × 51 px",
        ),
        (labelme({"shape_type": "linestrip", "points": CORNERS}), "'linestrip' cannot be read"),
        (labelme({"shape_type": "circle", "points": CORNERS}), "a circle has 4 points, wanted 2"),
        (labelme({"points": [[1, None]] * 3}), "points.0.1: Input should be a valid number"),
        (
            labelme({"points": CORNERS}, image="z.png"),
            "shape 0: image 'z.png' is not in the dataset",
        ),
        (
            labelme({"shape_type": "mask", "points": [[3, 2], [11, 8]], "mask": png(DRAWN[:2])}),
            "its mask is no PNG of 9 × 7 px",
        ),
        (
            labelme({"shape_type": "mask", "points": [[3, 2], [11, 8]], "mask": "*"}),
            "its mask is not base64",
        ),
        (
            labelme({"shape_type": "mask", "points": [[3, 2], [10**9, 10**9]], "mask": ""}),
            "its mask goes to column 1000000000 and row 1000000000, outside image",
        ),
        (labelme() | {"shapes": 3}, "shapes: it is no list"),
        (label_studio(result("polygonlabels", {"points": 3})), "points: "),
        (label_studio(result("keypointlabels", {"x": 120, "y": 1})), "point 60, 0.4 is outside"),
        (label_studio(result("videorectangle", {})), "type 'videorectangle' cannot be read"),
        (
            label_studio(result("keypointlabels", {"keypointlabels": ["water", "land"], "x": 1})),
            "it has 2 labels, wanted one class",
        ),
        (
            label_studio(result("keypointlabels", {"x": 1, "y": 1}, image_rotation=90)),
            "its image was turned in Label Studio",
        ),
        (
            label_studio(result("brushlabels", {"format": "png", "rle": []})),
            "its brush has format 'png'",
        ),
        (
            label_studio(result("brushlabels", {"format": "rle", "rle": [255] * 9})),
            "is of 4294967295 values, wanted 8000",
        ),
        (
            label_studio(result("keypointlabels", {"x": 1, "y": 1}, original_width=10)),
            "the labels were made on 40 × 10 px",
        ),
        (
            [{"id": 4, "image": "a.png", "label": [], "annotator": 1}],
            "task 4: it has no list `annot",
        ),
        ([{"data": {"text": 4}, "annotations": [3]}], "an annotation has no list `result`"),
        (
            [{"data": {}, "annotations": [{"result": [result("keypointlabels", {"x": 1})]}]}],
            "its `data` names no image",
        ),
        (
            [{"data": 3, "annotations": [{"result": [result("keypointlabels", {"x": 1})]}]}],
            "it has no `data` with an image",
        ),
        (label_studio(result("keypointlabels", {"x": 1}) | {"id": []}), "result []: id"),
        (coco([]) | {"images": 5}, "images: it is no list"),
        (
            coco([{"keypoints": [1, 1, 1]}], images=[{"id": 7}]),
            "images 0: file_name: Field required",
        ),
        (coco([]) | {"annotations": ["x"]}, "annotation 0: Input should be a valid dictionary"),
        ("class,column,row,image\nwater,x,1,a.png\n", "line 2: could not convert string to float"),
        ("class,column,row,image\nwater,inf,1,a.png\n", "line 2: it has no coordinates, or such"),
        ("class,column,row\nwater,1,1\n", "does not say on which of 2 images it is: add a column"),
        ("kind,column,row\nwater,1,1\n", "header: it has no column 'class', it has kind, column"),
        ("class,column,row\nwater,1\n", "line 2: it has 2 fields, wanted 3"),
        ("class,column,row,row\nwater,1,1,1\n", "has a column twice"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path, document, said):
    text = refusal(write(tmp_path, document))
    assert said in text
    assert "labels." in text


@pytest.mark.parametrize(
    ("key", "entry", "number"),
    [("images", {"id": 8, "file_name": "a.png"}, 2), ("categories", {"id": 3, "name": "water"}, 2)],
)
def test_an_id_of_coco_that_is_given_twice_is_refused(tmp_path, key, entry, number):
    document = coco([{"keypoints": [1, 1, 1]}])
    document[key].append(entry)
    wanted = f"labels.json, {key} {number}: id {entry['id']} is given twice: number them anew"
    assert wanted in refusal(write(tmp_path, document))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("keypointlabels", {"x": 50, "y": 50}),
        ("polygonlabels", {"points": [[1, 1], [9, 1], [9, 9]]}),
        ("rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9}),
        ("brushlabels", {"rle": brush()}),
    ],
)
def test_a_shape_of_label_studio_that_lacks_a_coordinate_is_refused(tmp_path, kind, value):
    assert read(write(tmp_path, label_studio(result(kind, value)))).read == 1
    for key in value:
        rest = {other: value[other] for other in value if other != key}
        said = refusal(write(tmp_path, label_studio(result(kind, rest))))
        assert f"labels.json, task 9, result r0: {key}: Field required" in said


def test_the_type_of_geojson_is_that_of_the_whole_document(tmp_path):
    inside = coco([{"keypoints": [1, 1, 1]}], info={"type": "Polygon"})
    for document in ({"info": inside.pop("info"), **inside}, coco([{"keypoints": [1, 1, 1]}])):
        path = write(tmp_path, document)
        assert not is_vector_file(path)
        assert read(path).read == 1
    collection = {"type": "FeatureCollection", "features": []}
    for document in (collection, dict(reversed(collection.items()))):
        assert is_vector_file(write(tmp_path, document))
    path = tmp_path / "a.json"
    path.write_text('\n {"type" : "Feature", "properties": NaN', encoding="utf-8-sig")
    assert is_vector_file(path), "GDAL says what is wrong with it"


def test_a_long_list_of_faults_is_shortened(tmp_path):
    document = coco([{"keypoints": [500, 3, 2]}] * 50)
    assert refusal(write(tmp_path, document)).endswith("\n  - and 30 more")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"hello": 1}', "It has the keys hello"),
        ("a.json", b"[1, 2]", "It is a list of 2 values"),
        ("a.json", b"[]", "It is a list of 0 values"),
        ("a.xml", b"<html/>", "Its root is <html>"),
        ("a.csv", b"x,y,class\n1,2,water\n", "It has the columns x, y, class"),
        ("a.csv", b"\0\1\2", "It is empty, or not text"),
        ("a.csv", b"  \n", "It is empty, or not text"),
    ],
)
def test_a_file_that_is_not_recognised_says_what_it_holds(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    text = refusal(path)
    assert f"{path} is not recognised as labels: wanted a GeoPackage, Shapefile or GeoJSON" in text
    assert said in text


@pytest.mark.parametrize("name", [*SHAPES, *POINTS])
def test_formats_are_told_by_their_contents(tmp_path, name):
    path = write(tmp_path, (SHAPES | POINTS)[name])
    found, document = recognise(path.rename(tmp_path / "labels.txt"))
    assert found.split("-")[0] == name.split()[0]
    others = [
        other
        for other, one in FORMATS.items()
        if one.kind == FORMATS[found].kind and other != found and one.recognise(document)
    ]
    assert others == []


# Hostile files

BOMB = (
    '<!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
)
FILE = '<!DOCTYPE annotations [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (cvat('<points label="&b;" points="1,1"/>', head=BOMB), "has a document type or entities"),
        (cvat('<points label="&x;" points="1,1"/>', head=FILE), "has a document type or entities"),
        (cvat('<points label="&x;" points="1,1"/>'), "cannot be read as XML (undefined entity"),
        (cvat("<points>" * 10**5), "nested more than 100 deep"),
        (cvat("<points>"), "cannot be read as XML (mismatched tag"),
        ("<a", "cannot be read as XML (unclosed token"),
        ("class,column,row\n" + "x" * 200_000 + ",1,2\n", "field larger than field limit"),
        ("x" * 200_000, "labels.csv cannot be read as CSV, by its first line (field larger than"),
    ],
)
def test_a_hostile_text_is_refused(tmp_path, document, said):
    assert said in refusal(write(tmp_path, document))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 10**6, "nested too deeply"),
        ('{"images": ' + '{"a": ' * 10**6, "nested too deeply"),
        ('{"images": [], "annotations": NaN}', "holds NaN, which is no number"),
        ('{"images": [1' + "0" * 5000 + '], "annotations": []}', "is not valid JSON"),
        ('{"images": [}', "is not valid JSON"),
    ],
)
def test_hostile_json_is_refused(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert said in refusal(path)


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    path = write_json(tmp_path / "a.json", coco([{"keypoints": [1, 1, 1]}]))
    assert "wanted labels of at most 100: export fewer images a file" in refusal(path)


def test_xml_of_very_many_elements_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_ELEMENTS", 9)
    point = '<points label="water" points="1,1"/>'
    assert read(write(tmp_path, cvat(*[point] * 3))).read == 3  # after six others
    said = refusal(write(tmp_path, cvat(*[point] * 4)))
    assert "cannot be read as XML (more than 9 elements, wanted fewer images a file)" in said


def test_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("class,column,row\nWälder,1,1\n".encode("latin-1"))
    assert "is not UTF-8 text" in refusal(path)


def test_a_huge_number_is_a_fault_of_its_record(tmp_path):
    text = json.dumps(coco([{"keypoints": [1, 1, 1]}])).replace(
        '"keypoints": [1', '"keypoints": [1e999'
    )
    path = tmp_path / "a.json"
    path.write_text(text)
    assert "annotation 100: its points are not pairs of finite numbers" in refusal(path)
