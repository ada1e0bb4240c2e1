"""What the tile stage says of a dataset."""

import numpy as np

from tests.imagery import write_raster


def test_a_class_that_no_mask_has_is_warned_of(project, caplog):
    """Ids that begin with 1 are one too many without a class of 0 (torchgeo#959, #2696)."""
    ids = np.random.default_rng(0).choice([1, 2], (100, 130)).astype(np.uint8)
    for name in "abc":
        write_raster(project.data / "masks" / f"{name}.tif", ids)
    project.run("download", "tile")
    (warning,) = [text for text in caplog.messages if "no mask has a pixel of class" in text]
    assert (
        "no mask has a pixel of class land: check `classes` in the card if some should" in warning
    )
    assert "all labels may be shifted by one" in warning


def test_a_dataset_with_all_classes_is_not(project, caplog):
    project.run("download", "tile")
    assert not [text for text in caplog.messages if "no mask has a pixel" in text]
