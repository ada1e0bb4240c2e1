"""Keep the environment from changing what GDAL reads: the same files give the same results."""

import logging
import os
from typing import Final

logger = logging.getLogger(__name__)

OPTIONS: Final = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "files beside a raster, such as world files, are not found",
    "GDAL_GEOREF_SOURCES": "what places a raster is left out",
    "GDAL_JPEG_TO_RGB": "JPEG is read in another colour space",
    "GDAL_PAM_ENABLED": "nodata and CRSs in .aux.xml files are not read",
    "GDAL_SKIP": "formats are not read",
    "GTIFF_IGNORE_READ_ERRORS": "damaged blocks are read without an error",
    "GTIFF_POINT_GEO_IGNORE": "rasters whose places are those of points shift by half a pixel",
}
"""Options of GDAL that change the pixels, the place or the validity of a raster, and how."""


def drop_options() -> None:
    """Remove OPTIONS from the environment of this process, with a warning for each.

    They are set for reading from the cloud, or for another program.
    """
    for name, effect in OPTIONS.items():
        value = os.environ.pop(name, None)
        if value is not None:
            logger.warning(
                "%s=%s of the environment is left out, since by it %s", name, value, effect
            )
