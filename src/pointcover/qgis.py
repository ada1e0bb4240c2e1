"""QGIS layer styles (QML) that show classes in the colours of their table."""

from typing import Final
from xml.etree import ElementTree

from pointcover.labels import ClassTable, Colour

QGIS_VERSION: Final = "3.40.0"
"""Whose form the style has; QGIS updates styles of older versions and reads those of newer ones."""

POINT_MM: Final = 2.0


def style_points(classes: ClassTable, column: str) -> str:
    """Give the QML of a point layer: a dot in its class's colour, in the order of the table.

    Args:
        classes: names and colours.
        column: the layer's column that holds a class name.
    """
    root = ElementTree.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=column, enableorderby="0",
        forceraster="0", symbollevels="0",
    )  # fmt: skip
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for class_id, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        ElementTree.SubElement(
            categories, "category", value=name, label=name, symbol=str(class_id), type="string",
            render="true",
        )  # fmt: skip
        symbols.append(_dot(str(class_id), colour))
    ElementTree.SubElement(root, "layerGeometryType").text = "0"  # points
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _dot(name: str, colour: Colour) -> ElementTree.Element:
    red, green, blue = colour
    settings = {
        "name": "circle",
        "color": f"{red},{green},{blue},255",
        "outline_color": "35,35,35,255",
        "outline_style": "solid",
        "outline_width": "0.2",
        "outline_width_unit": "MM",
        "size": str(POINT_MM),
        "size_unit": "MM",
    }
    symbol = ElementTree.Element("symbol", type="marker", name=name, alpha="1")
    layer = ElementTree.SubElement(
        symbol, "layer", {"class": "SimpleMarker", "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in settings.items():
        ElementTree.SubElement(options, "Option", name=key, type="QString", value=value)
    return symbol
