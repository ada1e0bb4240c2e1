"""Nearest-click propagation: pixels near a click get the class of the nearest one."""

import numpy as np

from pointcover.annotation.classes import class_id
from pointcover.annotation.distances import squared_distances
from pointcover.annotation.propagation.base import ClickedTile, Proposal
from pointcover.annotation.propagation.linking import square_reach
from pointcover.annotation.propagation.settings import NearestSettings
from pointcover.labels import IGNORE_INDEX


def nearest(tile: ClickedTile, settings: NearestSettings) -> Proposal:
    """Label each pixel with the class of the nearest click whose radius it lies in.

    One radius for all classes fits few: at 50 cm roads are correct up to 2.5 px and water up to 32.

    - A click labels the pixels whose centres are at most its class's radius away.
    - A pixel at equal distance from the nearest clicks of two or more classes stays unlabelled.
      Equality is exact: distances are square roots of integers.
    - The confidence falls linearly from 1 at a click to ½ at the radius of its class.
    """
    clicks = tile.clicks
    ids = np.full(clicks.shape, IGNORE_INDEX, np.uint8)
    least = np.full(clicks.shape, np.inf, np.float32)
    radii_px = np.full(IGNORE_INDEX, settings.radius_px)
    for name, radius_px in settings.class_radius_px.items():
        radii_px[class_id(name, tile.classes, "nearest.class_radius_px")] = radius_px
    for clicked_id in np.unique(clicks[clicks != IGNORE_INDEX]).tolist():
        if radii_px[clicked_id] == 0:
            continue
        squared = squared_distances(clicks == clicked_id)
        near = squared <= square_reach(float(radii_px[clicked_id]))
        near &= squared <= least
        np.copyto(ids, np.uint8(IGNORE_INDEX), where=near & (squared == least))
        np.copyto(ids, np.uint8(clicked_id), where=near & (squared < least))
        np.copyto(least, squared, where=near)
    confidence = np.zeros(clicks.shape, np.float32)
    labelled = np.flatnonzero(ids != IGNORE_INDEX)
    distances = np.sqrt(least.ravel()[labelled])
    confidence.ravel()[labelled] = 1 - distances / (2 * radii_px[ids.ravel()[labelled]])
    return Proposal(ids, confidence)
