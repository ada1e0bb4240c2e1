"""A style is what QGIS reads: a category a class, in the colours and the order of the table."""

from xml.etree import ElementTree

from pointcover.labels import ClassTable
from pointcover.vectors.qgis_styles import (
    style_classes,
    style_percent,
    style_points,
    style_polygons,
)


def test_any_class_name_survives_in_a_style():
    names = ('<grass> & "herbs"', "Żyto 'ozime'")
    style = style_points(ClassTable(names, ((1, 2, 3), (4, 5, 6))), "class")
    renderer = ElementTree.fromstring(style).find("renderer-v2")
    categories = renderer.find("categories")
    assert [category.get("value") for category in categories] == list(names)
    assert [category.get("label") for category in categories] == list(names)


def test_a_category_points_to_the_symbol_of_its_class_colour():
    classes = ClassTable(("b", "a"), ((1, 2, 3), (4, 5, 6)))
    renderer = ElementTree.fromstring(style_points(classes, "kind")).find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "kind")
    colours = {
        symbol.get("name"): symbol.find("layer/Option/Option[@name='color']").get("value")
        for symbol in renderer.find("symbols")
    }
    shown = {c.get("value"): colours[c.get("symbol")] for c in renderer.find("categories")}
    assert shown == {"b": "1,2,3,255", "a": "4,5,6,255"}


def test_a_raster_style_gives_each_class_its_colour_and_name():
    names = ('<grass> & "herbs"', "Żyto 'ozime'")
    style = style_classes(ClassTable(names, ((1, 2, 3), (4, 5, 254))))
    renderer = ElementTree.fromstring(style).find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = renderer.findall("colorPalette/paletteEntry")
    assert [entry.get("label") for entry in entries] == list(names)
    assert [entry.get("value") for entry in entries] == ["0", "1"]
    assert [entry.get("color") for entry in entries] == ["#010203", "#0405fe"]


def test_a_style_of_percents_is_a_linear_colour_ramp():
    style = style_percent((255, 255, 255), (0, 100, 200))
    items = list(ElementTree.fromstring(style).iter("item"))
    assert [item.get("value") for item in items] == ["0", "25", "50", "75", "100"]
    assert [items[place].get("color") for place in (0, 2, 4)] == ["#ffffff", "#80b2e4", "#0064c8"]


def test_a_polygon_style_fills_areas_in_their_class_colour():
    style = style_polygons(ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6))), "kind")
    root = ElementTree.fromstring(style)
    assert root.find("renderer-v2").get("attr") == "kind"
    assert root.find("layerGeometryType").text == "2"
    assert {symbol.get("type") for symbol in root.iter("symbol")} == {"fill"}
