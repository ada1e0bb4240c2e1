"""A landscape made by a program: an orthophoto and its exact dense mask, without a download.

The images have the five classes of LandCover.ai (https://landcover.ai.linuxpolska.com) at 0.25 m
and are difficult in the same way as real ones: colours overlap between classes (dark water and
shadow, green water and meadow, grey roof and asphalt, tan track and bare soil), every image has its
own season, sun and exposure, and classes differ in shape, texture and neighbourhood.

`draw_orthophoto` is the place to start reading: each part of the landscape has a module beside this
one. In them colours are float32 fractions of full brightness, positions and lengths are pixels
unless a name says metres, and heights are metres above the ground.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pointcover.datasets.synthetic.fields import lay_fields
from pointcover.datasets.synthetic.houses import draw_houses, draw_yards, plan_houses
from pointcover.datasets.synthetic.light import cast_shadows, expose, place_sun
from pointcover.datasets.synthetic.roads import draw_roads, measure_road_distance, plan_roads
from pointcover.datasets.synthetic.sheet import BACKGROUND, Sheet
from pointcover.datasets.synthetic.water import RIVER_ODDS, draw_water, find_river, stop_at_river
from pointcover.datasets.synthetic.woodland import Settlement, draw_woodland


def draw_orthophoto(
    size_px: int, generator: Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a square orthophoto of a random landscape and its dense mask.

    From 512 px on every class occurs. The result depends on the arguments alone.

    Args:
        size_px: height and width; one pixel is GSD_M on the ground.
        generator: advanced by the draws.

    Returns:
        image: (3, size_px, size_px) uint8, red, green, blue.
        mask: (size_px, size_px) uint8, 0 background, 1 building, 2 woodland, 3 water, 4 road;
            exact for what was drawn, before the camera's blur.

    Raises:
        ValueError: ``size_px`` is below 64, where no road or house fits.
    """
    if size_px < 64:
        raise ValueError(f"size_px is {size_px}, but a landscape needs 64 or more: use 512")
    sun = place_sun(generator)
    ways = plan_roads(size_px, generator)
    river = np.zeros((size_px, size_px), bool)
    if generator.random() < RIVER_ODDS:
        river = find_river(ways[0], size_px, generator)
        ways = stop_at_river(ways, river)
    sheet = Sheet(
        colour=lay_fields(size_px, generator),
        mask=np.full((size_px, size_px), BACKGROUND, np.uint8),
        height_m=np.zeros((size_px, size_px), np.float32),
        road_distance=measure_road_distance(ways, size_px),
    )
    draw_water(sheet, river, generator)
    draw_roads(sheet, ways, generator)
    houses = plan_houses(sheet, ways, generator)
    settlement = Settlement(ways, houses, yards=draw_yards(sheet, houses, generator))
    draw_houses(sheet, houses, sun, generator)
    draw_woodland(sheet, settlement, sun, generator)
    cast_shadows(sheet, sun)
    return expose(sheet.colour, generator), sheet.mask
