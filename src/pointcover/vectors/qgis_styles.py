"""QGIS layer styles (QML) that show classes in the colours of their table."""

from collections.abc import Callable, Mapping
from typing import Final
from xml.etree import ElementTree

from pointcover.labels import ClassTable, Colour, format_colour

QGIS_VERSION: Final = "3.40.0"
"""The version of the styles; QGIS updates older ones and reads newer ones."""

POINT_MM: Final = 2.0

UNNAMED: Final = tuple((255, 235, blue) for blue in range(59, 256))
"""Yellows for points without a class: the first that no class has."""

OUTLINE: Final = {
    "outline_color": "35,35,35,255",
    "outline_style": "solid",
    "outline_width": "0.2",
    "outline_width_unit": "MM",
}


def style_points(classes: ClassTable, column: str) -> str:
    """Return the QML of a point layer: a dot in its class's colour, in the order of the table.

    Args:
        classes: names and colours.
        column: the layer's column that holds a class name.
    """
    return _style_features(classes, column, _dot, geometry=0)


def style_suggestions(classes: ClassTable, column: str) -> str:
    """Return the QML of points to be labelled: as `style_points`, those without a class in yellow.

    A form offers the names of the classes, to be chosen instead of typed.
    """
    free = next(colour for colour in UNNAMED if colour not in classes.colours)
    names, colours = (*classes.names, ""), (*classes.colours, free)
    root = ElementTree.fromstring(
        _style_features(ClassTable(names, colours), column, _dot, geometry=0)
    )
    root.set("styleCategories", "Symbology|Fields|Forms")
    fields = ElementTree.SubElement(root, "fieldConfiguration")
    field = ElementTree.SubElement(fields, "field", name=column)
    config = ElementTree.SubElement(
        ElementTree.SubElement(field, "editWidget", type="ValueMap"), "config"
    )
    options = ElementTree.SubElement(config, "Option", type="Map")
    listed = ElementTree.SubElement(options, "Option", type="List", name="map")
    for name in names:
        entry = ElementTree.SubElement(listed, "Option", type="Map")
        ElementTree.SubElement(
            entry, "Option", type="QString", name=name or "(none yet)", value=name
        )
    return _text(root)


def style_polygons(classes: ClassTable, column: str) -> str:
    """Return the QML of a polygon layer, filled with class colours; see `style_points`."""
    return _style_features(classes, column, _fill, geometry=2)


def style_classes(classes: ClassTable) -> str:
    """Return the QML of a raster of class ids: colours and names in the order of the table."""
    root, renderer = _style_raster("paletted")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for class_id, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(class_id),
            label=name,
            color=format_colour(colour).lower(),
            alpha="255",
        )
    return _text(root)


def style_percent(low: Colour, high: Colour) -> str:
    """Return the QML of a raster of percents: from one colour at 0 to another at 100."""
    root, renderer = _style_raster("singlebandpseudocolor")
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        minimumValue="0",
        maximumValue="100",
        clip="0",
        classificationMode="1",
    )
    for percent in range(0, 101, 25):
        between = zip(low, high, strict=True)
        red, green, blue = (round(a + (b - a) * percent / 100) for a, b in between)
        ElementTree.SubElement(
            shader,
            "item",
            value=str(percent),
            label=f"{percent} %",
            color=format_colour((red, green, blue)).lower(),
            alpha="255",
        )
    return _text(root)


def _style_raster(kind: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    """Make the style of a raster's first band; return it and its renderer."""
    root = ElementTree.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type=kind, band="1", alphaBand="-1", opacity="1", nodataColor=""
    )
    ElementTree.SubElement(renderer, "rasterTransparency")
    return root, renderer


def _style_features(
    classes: ClassTable,
    column: str,
    symbol: Callable[[str, Colour], ElementTree.Element],
    geometry: int,
) -> str:
    root = ElementTree.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol",
        attr=column,
        enableorderby="0",
        forceraster="0",
        symbollevels="0",
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for class_id, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        ElementTree.SubElement(
            categories,
            "category",
            value=name,
            label=name,
            symbol=str(class_id),
            type="string",
            render="true",
        )
        symbols.append(symbol(str(class_id), colour))
    ElementTree.SubElement(root, "layerGeometryType").text = str(geometry)
    return _text(root)


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _dot(name: str, colour: Colour) -> ElementTree.Element:
    settings = {
        "name": "circle",
        "color": _rgba(colour),
        **OUTLINE,
        "size": str(POINT_MM),
        "size_unit": "MM",
    }
    return _symbol("marker", name, "SimpleMarker", settings)


def _fill(name: str, colour: Colour) -> ElementTree.Element:
    return _symbol(
        "fill", name, "SimpleFill", {"color": _rgba(colour), "style": "solid", **OUTLINE}
    )


def _rgba(colour: Colour) -> str:
    red, green, blue = colour
    return f"{red},{green},{blue},255"


def _symbol(
    kind: str, name: str, layer_class: str, settings: Mapping[str, str]
) -> ElementTree.Element:
    symbol = ElementTree.Element("symbol", type=kind, name=name, alpha="1")
    layer = ElementTree.SubElement(
        symbol, "layer", {"class": layer_class, "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in settings.items():
        ElementTree.SubElement(options, "Option", name=key, type="QString", value=value)
    return symbol
