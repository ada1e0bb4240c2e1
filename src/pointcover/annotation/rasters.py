"""The four rasters of an orthophoto's labels: clicks, sparse mask, sources, confidence."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pointcover.labels import ClassTable
from pointcover.raster.raster_io import (
    BlockWriter,
    GeoTiffProfile,
    RasterInfo,
    write_geotiff,
    write_mask,
)

CLICKS: Final = "clicks"
"""Rasters of the clicks alone: class ids, IGNORE_INDEX elsewhere."""

MASKS: Final = "masks"
"""Rasters of sparse masks: clicks and propagated labels."""

SOURCES: Final = "sources"
"""Rasters of the source of each label: 0 none, 1 clicked, 2 propagated."""

CONFIDENCE: Final = "confidence"
"""Rasters of the confidence of labels, in 1/255: 0 where there is none, 255 at clicks."""


@contextmanager
def open_writers(
    paths: Mapping[str, Path], grid: RasterInfo, block_px: int, classes: ClassTable
) -> Iterator[dict[str, BlockWriter]]:
    """Open the four rasters for writing.

    Args:
        paths: of each raster, by its kind.
        grid: whose height, width, CRS and transform they take.
        block_px: height and width of a block.
        classes: whose colours the rasters of class ids carry.
    """
    with ExitStack() as stack:
        writers = {
            kind: write_mask(paths[kind], like=grid, block_px=block_px, classes=classes)
            for kind in (CLICKS, MASKS)
        }
        for kind, band_name in ((SOURCES, "source"), (CONFIDENCE, "confidence")):
            profile = GeoTiffProfile(
                height=grid.height,
                width=grid.width,
                bands=1,
                crs=grid.crs,
                block_px=block_px,
                transform=grid.transform,
                nodata=0,
                band_names=(band_name,),
            )
            writers[kind] = write_geotiff(paths[kind], profile)
        yield {kind: stack.enter_context(writer) for kind, writer in writers.items()}
