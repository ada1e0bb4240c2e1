"""Shapes are burned into the pixels that they cover. (Areas become shapes: test_polygons.)"""

import numpy as np

from pointcover.outlines import burn
from pointcover.raster import Window


def test_shapes_are_burned_in_pixels_of_the_whole_raster_and_the_last_one_stays():
    def square(left, top, side):
        ring = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
        return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}

    window = Window(10, 20, 4, 3)
    drawn = burn([(square(9, 19, 3), 7), (square(11, 21, 1), 8)], window, all_touched=False)
    assert drawn.dtype == np.int32
    assert drawn.tolist() == [[7, 7, 0, 0], [7, 8, 0, 0], [0, 0, 0, 0]]
    burn([(square(13.1, 22.1, 0.2), 9)], window, all_touched=True, onto=drawn)
    assert drawn.tolist() == [[7, 7, 0, 0], [7, 8, 0, 0], [0, 0, 0, 9]]
    assert not burn([(square(13.1, 22.1, 0.2), 9)], window, all_touched=False).any()
    assert not burn([], window, all_touched=True).any()
