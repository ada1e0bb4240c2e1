"""Cloud-optimised GeoTIFFs, put together from strips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, gdal_reason
from pointcover.runtime.atomic_files import publish_file

COG_BLOCK_PX: Final = 512


def write_cog(
    path: Path,
    strips: Sequence[Path],
    grid: RasterInfo,
    *,
    bands: Sequence[int],
    band_names: Sequence[str],
    nodata: int,
    overviews: Literal["mode", "average"],
    palette: Mapping[int, tuple[int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a cloud-optimised uint8 GeoTIFF from strips that lie below each other.

    GDAL makes such a file only from one that is whole: a virtual one, which stands beside the
    first strip meanwhile. Every strip is compared with what reads back.

    Args:
        path: where to; whole or not at all.
        strips: GeoTIFFs of uint8 as wide as the grid, from top to bottom, which together are as
            high.
        grid: whose CRS and transform the file gets.
        bands: which bands of the strips become bands 1, 2, … of the file.
        band_names: one each.
        nodata: value of pixels without data.
        overviews: how four pixels become one: their commonest value, or their mean.
        palette: colours by value, of one band.
        tags: what the file says of itself.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    heights = [RasterReader(strip).info().height for strip in strips]
    tops = [sum(heights[:number]) for number in range(len(strips))]
    virtual = strips[0].with_name(f"{path.name}.vrt.partial")
    virtual.write_text(
        _virtual(strips, tops, heights, grid, bands, band_names, nodata, palette, tags or {}),
        encoding="utf-8",
    )
    with publish_file(path) as aside:
        try:
            rasterio.shutil.copy(
                virtual,
                aside,
                driver="COG",
                compress="deflate",
                blocksize=COG_BLOCK_PX,
                overview_resampling=overviews,
                bigtiff="if_safer",
                num_threads="all_cpus",
            )
            with rasterio.open(aside) as written:
                for strip, top, height in zip(strips, tops, heights, strict=True):
                    window = Window(0, top, grid.width, height)
                    wanted = RasterReader(strip).read(Window(0, 0, grid.width, height), bands)
                    if not np.array_equal(written.read(window=window), wanted):
                        raise RasterioError(f"row {top} and those below read back changed")
        except RasterioError as error:
            raise OSError(
                f"{path} could not be written ({gdal_reason(error)}): is the disk full? Free some "
                f"space and try again"
            ) from None
        finally:
            virtual.unlink()


def _virtual(
    strips: Sequence[Path],
    tops: Sequence[int],
    heights: Sequence[int],
    grid: RasterInfo,
    bands: Sequence[int],
    band_names: Sequence[str],
    nodata: int,
    palette: Mapping[int, tuple[int, int, int]] | None,
    tags: Mapping[str, str],
) -> str:
    """Return the XML of GDAL's virtual format for strips below each other."""
    width = str(grid.width)
    root = ElementTree.Element(
        "VRTDataset", rasterXSize=width, rasterYSize=str(tops[-1] + heights[-1])
    )
    if grid.crs is not None:
        ElementTree.SubElement(root, "SRS").text = grid.crs.to_wkt()
    if grid.is_georeferenced:
        numbers = (repr(float(number)) for number in grid.transform.to_gdal())
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(numbers)
    kept = ElementTree.SubElement(root, "Metadata")
    for name, text in tags.items():
        ElementTree.SubElement(kept, "MDI", key=name).text = text
    for number, (band, name) in enumerate(zip(bands, band_names, strict=True), start=1):
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
        for strip, top, height in zip(strips, tops, heights, strict=True):
            source = ElementTree.SubElement(element, "SimpleSource")
            ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = strip.name
            ElementTree.SubElement(source, "SourceBand").text = str(band)
            size = {"xOff": "0", "xSize": width, "ySize": str(height)}
            ElementTree.SubElement(source, "SrcRect", size, yOff="0")
            ElementTree.SubElement(source, "DstRect", size, yOff=str(top))
    return ElementTree.tostring(root, encoding="unicode")
