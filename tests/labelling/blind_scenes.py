"""Two images, their maps with errors, and a sample of these."""

import numpy as np
from rasterio.transform import Affine

from pointcover.assessment.class_maps import open_class_maps
from pointcover.assessment.sample import Size, draw_sample
from pointcover.assessment.sample_file import write_sample
from pointcover.assessment.settings import SampleSettings
from tests.assessment.maps import write_map
from tests.imagery import PLACE
from tests.labelling.scenes import draw_truth, write_scene

NAMES = ("meadow", "water", "road")


def draw_sample_of_scenes(folder, points=12):
    """Return the images, their maps, and the sample."""
    images, maps = [], []
    for number, name in enumerate("ab"):
        place = PLACE @ Affine.translation(1000 * number, 0)
        images.append(write_scene(folder / "images" / f"{name}.tif", seed=number, transform=place))
        ids = draw_truth()
        ids[:40] = (ids[:40] + 1) % 3
        path = folder / "maps" / f"{name}_classes.tif"
        maps.append(write_map(path, ids, transform=place, names=NAMES))
    sample = folder / "sample.gpkg"
    opened = open_class_maps(maps, None, 1)
    write_sample(sample, draw_sample(opened, SampleSettings(minimum=2), Size(points)), opened)
    return images, maps, sample


def truth_at(x):
    """Return the class at a column of an image."""
    return NAMES[int(draw_truth()[0, int(x)])]


def truth_ids():
    """Return the true ids."""
    return np.asarray(draw_truth())
