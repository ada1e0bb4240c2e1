"""Write cloud-optimised GeoTIFFs from strips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

from pointcover.raster.raster_io import (
    RasterInfo,
    RasterReader,
    Window,
    gdal_reason,
    open_dataset,
)
from pointcover.runtime.atomic_files import publish_file

COG_BLOCK_PX: Final = 512


def check_cog_path(path: Path) -> None:
    r"""Check that GDAL does not read a backslash in a path as the end of a folder's name.

    Raises:
        ValueError: there is one.
    """
    if "\\" in str(path.absolute()):
        raise ValueError(
            rf"{path.absolute()} has a \ in its path, with which GDAL writes no map: rename the "
            f"image, or choose another folder"
        )


@dataclass(frozen=True)
class CogLayer:
    """Bands of strips that become one file, and how it shows them."""

    bands: Sequence[int]
    """Numbers, from 1, of the strips' bands that become bands 1, 2, … of the file."""
    band_names: Sequence[str]
    """One description a band."""
    overviews: Literal["mode", "average"]
    """Resampling of overviews: the most frequent value of four pixels, or their mean."""
    palette: Mapping[int, tuple[int, int, int]] | None = None
    """Colours by value, for a single band."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the file."""


def write_cog(
    path: Path, strips: Sequence[Path], grid: RasterInfo, layer: CogLayer, nodata: int
) -> None:
    """Write a cloud-optimised uint8 GeoTIFF from strips that lie below each other.

    GDAL writes a COG only as a copy of a complete raster. Here this is a virtual raster (VRT),
    written beside the first strip and removed afterwards. Every strip is read back and compared.

    Args:
        path: of the file, which is written atomically.
        strips: uint8 GeoTIFFs as wide as the grid, from top to bottom; their heights add up to the
            height of the grid.
        grid: gives the file its CRS and transform.
        layer: the bands, and how they are shown.
        nodata: value of pixels without data.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    heights = [RasterReader(strip).info().height for strip in strips]
    tops = [sum(heights[:number]) for number in range(len(strips))]
    virtual = strips[0].with_name(f"{path.name}.vrt.partial")
    stack = list(zip(strips, tops, heights, strict=True))
    virtual.write_text(_virtual(stack, grid, layer, nodata), encoding="utf-8")
    with publish_file(path) as aside:
        try:
            rasterio.shutil.copy(
                virtual,
                aside,
                driver="COG",
                compress="deflate",
                blocksize=COG_BLOCK_PX,
                overview_resampling=layer.overviews,
                bigtiff="if_safer",
                num_threads="all_cpus",
            )
            with open_dataset(aside) as written:
                for strip, top, height in stack:
                    window = Window(0, top, grid.width, height)
                    wanted = RasterReader(strip).read(Window(0, 0, grid.width, height), layer.bands)
                    if not np.array_equal(written.read(window=window), wanted):
                        raise RasterioError(f"rows from {top} do not read back as written")
        except RasterioError as error:
            raise OSError(
                f"{path} could not be written ({gdal_reason(error)}): is the disk full? Free some "
                f"space and try again"
            ) from None
        finally:
            virtual.unlink()


def _virtual(
    stack: Sequence[tuple[Path, int, int]], grid: RasterInfo, layer: CogLayer, nodata: int
) -> str:
    """Return the XML of a GDAL virtual raster of strips, each with its first row and height."""
    width, palette = str(grid.width), layer.palette
    _, last, height = stack[-1]
    root = ElementTree.Element("VRTDataset", rasterXSize=width, rasterYSize=str(last + height))
    if grid.crs is not None:
        ElementTree.SubElement(root, "SRS").text = grid.crs.to_wkt()
    if grid.is_georeferenced:
        numbers = (repr(float(number)) for number in grid.transform.to_gdal())
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(numbers)
    kept = ElementTree.SubElement(root, "Metadata")
    for name, text in layer.tags.items():
        ElementTree.SubElement(kept, "MDI", key=name).text = text
    for number, (band, name) in enumerate(zip(layer.bands, layer.band_names, strict=True), start=1):
        element = ElementTree.SubElement(
            root,
            "VRTRasterBand",
            dataType="Byte",
            band=str(number),
            blockXSize=str(COG_BLOCK_PX),
            blockYSize=str(COG_BLOCK_PX),
        )
        ElementTree.SubElement(element, "Description").text = name
        ElementTree.SubElement(element, "NoDataValue").text = str(nodata)
        ElementTree.SubElement(element, "ColorInterp").text = "Palette" if palette else "Gray"
        if palette:
            table = ElementTree.SubElement(element, "ColorTable")
            for value in range(256):
                red, green, blue = palette.get(value, (0, 0, 0))
                ElementTree.SubElement(
                    table,
                    "Entry",
                    c1=str(red),
                    c2=str(green),
                    c3=str(blue),
                    c4="0" if value == nodata else "255",
                )
        for strip, top, height in stack:
            source = ElementTree.SubElement(element, "SimpleSource")
            ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = strip.name
            ElementTree.SubElement(source, "SourceBand").text = str(band)
            size = {"xOff": "0", "xSize": width, "ySize": str(height)}
            ElementTree.SubElement(source, "SrcRect", size, yOff="0")
            ElementTree.SubElement(source, "DstRect", size, yOff=str(top))
    return ElementTree.tostring(root, encoding="unicode")
