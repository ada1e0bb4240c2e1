"""Discs: every pixel near a click takes the class of the nearest one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pointcover.annotation.distances import squared_distances
from pointcover.annotation.propagation.base import Flags, Proposal, require_positive
from pointcover.annotation.propagation.linking import square_reach
from pointcover.labels import IGNORE_INDEX, Image, Mask


@dataclass(frozen=True)
class NearestSettings:
    """How far around a click its class is taken for granted.

    One radius for all classes is wrong for most: at 50 cm roads bear 2.5 px and water 32.

    Attributes:
        radius_px: of all classes that are not named below, in pixels, above 0; a pixel has
            neighbours from 1 px on.
        class_radius_px: class id → radius in pixels instead; 0 lets a class not grow at all.
    """

    radius_px: float = 8.0
    class_radius_px: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a radius that is negative or not finite, and an id that is no class's."""
        require_positive("radius_px", self.radius_px)
        for class_id, radius_px in self.class_radius_px.items():
            if not 0 <= class_id < IGNORE_INDEX:
                raise ValueError(
                    f"got class id {class_id} in class_radius_px, wanted 0 to {IGNORE_INDEX - 1}: "
                    f"name classes by their ids"
                )
            if radius_px != 0:
                require_positive(f"class_radius_px[{class_id}]", radius_px)


def nearest(clicks: Mask, image: Image, valid: Flags, settings: NearestSettings) -> Proposal:
    """Return each pixel the class of the nearest click whose class reaches it.

    - A click reaches the pixels whose centres are at most its class's radius away.
    - A pixel that the nearest clicks of two or more classes reach at equal distance stays
      unlabelled. Equal is exact: distances are square roots of whole numbers.
    - Discs do not stop at pixels without data: what lies beyond is as near as it is.
    - The trust falls in a straight line from 1 at a click to ½ at the radius of its class.

    Args:
        clicks: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        image: has no say here.
        valid: has none either.
        settings: the radii.
    """
    ids = np.full(clicks.shape, IGNORE_INDEX, np.uint8)
    least = np.full(clicks.shape, np.inf, np.float32)
    radii_px = np.full(IGNORE_INDEX, settings.radius_px)
    for class_id, radius_px in settings.class_radius_px.items():
        radii_px[class_id] = radius_px
    for class_id in np.unique(clicks[clicks != IGNORE_INDEX]).tolist():
        if radii_px[class_id] == 0:
            continue
        squared = squared_distances(clicks == class_id)
        near = squared <= square_reach(float(radii_px[class_id]))
        near &= squared <= least
        np.copyto(ids, np.uint8(IGNORE_INDEX), where=near & (squared == least))
        np.copyto(ids, np.uint8(class_id), where=near & (squared < least))
        np.copyto(least, squared, where=near)
    trust = np.zeros(clicks.shape, np.float32)
    grown = np.flatnonzero(ids != IGNORE_INDEX)
    distances = np.sqrt(least.ravel()[grown])
    trust.ravel()[grown] = 1 - distances / (2 * radii_px[ids.ravel()[grown]])
    return Proposal(ids, trust)
