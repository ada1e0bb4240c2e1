"""Grids: alignment of rasters, and the area on the ground of a pixel."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as transform_places

from pointcover.raster.raster_io import RasterInfo

GRID_TOLERANCE_PX: Final = 0.01
"""The greatest distance of the corners of an image and its mask."""

WGS84_M: Final = (6_378_137.0, 6_356_752.314245)
"""Semi-major and semi-minor axis of the WGS 84 ellipsoid."""

PLANE_TOLERANCE: Final = 0.01
"""The relative distortion of areas up to which the plane of a CRS is used as the ground: in UTM it
is below 0.2 % within a zone; in web maps (EPSG:3857) areas at 52° north are 2.6 times as large."""

Place = tuple[float, float]
"""x and y in a CRS."""


def north_up(x: float, y: float, gsd_m: float) -> Affine:
    """Return the transform of a raster whose upper left corner lies at x, y."""
    return Affine(gsd_m, 0.0, x, 0.0, -gsd_m, y)


def check_same_grid(image: RasterInfo, mask: RasterInfo) -> None:
    """Check that an image and its mask cover the same pixels.

    CRSs are compared by the positions of the raster's corners, not by their texts: the masks of
    LandCover.ai have PL-1992 written out as a "custom" projection, their images EPSG:2180. A CRS
    that is not on the Earth (`is_local`), as the masks of FLAIR have, counts as none.

    Raises:
        ValueError: size, CRS or transform differ; the message shows both.
    """
    pair = f"{image.path} and its mask {mask.path}"
    if (image.height, image.width) != (mask.height, mask.width):
        raise ValueError(
            f"{pair} differ in size: {image.height}×{image.width} against "
            f"{mask.height}×{mask.width} px. Pair the right files, or cut both to the same pixels"
        )
    corners = [(0, 0), (image.width, 0), (0, image.height), (image.width, image.height)]
    is_known = not any(info.crs is None or is_local(info.crs) for info in (image, mask))
    if is_known and image.crs != mask.crs:
        assert image.crs is not None
        assert mask.crs is not None
        places = [mask.transform @ corner for corner in corners]
        if not _apart_px(image.transform, places, project(places, mask.crs, image.crs)) <= (
            GRID_TOLERANCE_PX
        ):
            raise ValueError(
                f"{pair} differ in CRS: {image.crs.to_string()} against {mask.crs.to_string()}. "
                f"Reproject one of them"
            )
    if image.is_georeferenced and mask.is_georeferenced:
        apart = _apart_px(
            image.transform,
            [image.transform @ corner for corner in corners],
            [mask.transform @ corner for corner in corners],
        )
        if apart > GRID_TOLERANCE_PX:
            raise ValueError(
                f"{pair} lie {apart:.2f} px apart: transform {tuple(image.transform)[:6]} against "
                f"{tuple(mask.transform)[:6]}. Warp one onto the grid of the other"
            )


def is_local(crs: CRS) -> bool:
    """Return whether a CRS has no place on the Earth, as one that is known by its name alone."""
    return str(crs.to_wkt()).startswith(("LOCAL_CS[", "ENGCRS[", "ENGINEERINGCRS["))


def name_local(crs: CRS) -> str:
    """Return the name of a CRS, from its WKT."""
    return str(crs.to_wkt()).split('"')[1]


def project(places: Sequence[Place], source: CRS, target: CRS) -> list[Place]:
    """Transform places from one CRS to another; NaN where there is no transformation."""
    try:
        xs, ys = transform_places(source, target, *zip(*places, strict=True))
    except Exception:  # PROJ's errors have no public class in rasterio
        return [(math.nan, math.nan)] * len(places)
    return list(zip(xs, ys, strict=True))


def _apart_px(grid: Affine, places: Sequence[Place], others: Sequence[Place]) -> float:
    """Return the greatest distance of places, along one side of the grid's pixels."""
    pixels = [(~grid @ place, ~grid @ other) for place, other in zip(places, others, strict=True)]
    return float(np.max(np.abs(np.subtract(*np.moveaxis(np.asarray(pixels), 1, 0)))))


def ground_m2(grid: RasterInfo, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Return the area on the ground of a pixel in each of some rows.

    Areas are computed in the plane of the CRS where its distortion is small, else on the ellipsoid
    at the middle of each row (exact for geographic CRSs and web maps, whose scale depends on the
    row alone).

    Args:
        grid: of the raster.
        rows: (n,) row numbers.

    Returns:
        (n,) m², or None where there is no CRS, it is not on the Earth, or nothing places the raster
        in it.
    """
    if grid.crs is None or not grid.is_georeferenced:
        return None
    if grid.pixel_m2 is not None:
        middle = _on_ellipsoid_m2(grid, np.array([grid.height // 2]))
        if middle is None or abs(grid.pixel_m2 / middle[0] - 1) <= PLANE_TOLERANCE:
            return np.full(len(rows), grid.pixel_m2)
    return _on_ellipsoid_m2(grid, rows)


def middle_pixel_m2(grid: RasterInfo) -> float | None:
    """Return the ground area of the pixel in the middle of a raster; None as for `ground_m2`."""
    area_m2 = ground_m2(grid, np.array([grid.height // 2]))
    return None if area_m2 is None else float(area_m2[0])


def gsd_of(grid: RasterInfo) -> float | None:
    """Return the ground sample distance, the side of a square as large as the pixel in the middle.

    Measured on the ground: a pixel of 0.4 m of a web map covers 0.25 m at 52° north.

    Returns:
        metres, or None as for `ground_m2`.
    """
    area_m2 = middle_pixel_m2(grid)
    return None if area_m2 is None else math.sqrt(area_m2)


def pixel_sides_m(grid: RasterInfo) -> tuple[float, float] | None:
    """Return the two sides of the pixel in the middle of a raster, along a column and along a row.

    Their product is the area of `ground_m2`, unless the grid is skewed; degrees along a parallel
    are shorter than along a meridian, and equal-area projections distort shapes.

    Returns:
        metres, or None as for `ground_m2`.
    """
    area_m2 = middle_pixel_m2(grid)
    if area_m2 is None or not area_m2 > 0:
        return None
    steps = _steps(grid, np.array([grid.height // 2]))
    if steps is None:
        return None
    across, down = (float(np.hypot(*(step[0] * steps[2][0]))) for step in steps[:2])
    scale = math.sqrt(area_m2 / (down * across))
    return down * scale, across * scale


def _on_ellipsoid_m2(
    grid: RasterInfo, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Return the area of the middle pixel of rows, by the ellipsoid's radii of curvature."""
    steps = _steps(grid, rows)
    if steps is None:
        return None
    along_row, along_col, metres = steps
    cross = along_row[:, 0] * along_col[:, 1] - along_row[:, 1] * along_col[:, 0]
    return np.asarray(np.abs(cross) * metres[:, 1] * metres[:, 0], np.float64)


def _steps(
    grid: RasterInfo, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the steps over pixels in the middle of rows.

    Returns:
        along the row and along the column, twice (n, 2) radians east and north, and the metres per
        radian, (n, 2) east and north; None where the CRS is not on the Earth.
    """
    col, row = np.full(len(rows), grid.width // 2) + 0.5, rows + 0.5
    corners = [(col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5)]
    places = [place for corner in corners for place in zip(*(grid.transform @ corner), strict=True)]
    degrees = np.radians(project(places, grid.crs, CRS.from_epsg(4326))).reshape(4, len(rows), 2)
    if not np.isfinite(degrees).all():
        return None
    along_row, along_col = degrees[1] - degrees[0], degrees[3] - degrees[2]
    latitude = degrees[..., 1].mean(axis=0)
    a, b = WGS84_M
    squared = 1 - b**2 / a**2
    curvature = 1 - squared * np.sin(latitude) ** 2
    north_m, east_m = a * (1 - squared) / curvature**1.5, a * np.cos(latitude) / np.sqrt(curvature)
    return along_row, along_col, np.stack([east_m, north_m], axis=1)
