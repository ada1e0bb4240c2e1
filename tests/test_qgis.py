"""A style is what QGIS reads: a category a class, in the colours and the order of the table."""

from xml.etree import ElementTree

from pointcover.labels import ClassTable
from pointcover.qgis import style_points


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
