"""Shapes are burned into the pixels that they cover. (Areas become shapes: test_polygons.)"""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from pointcover.maps.trace import trace_areas
from pointcover.raster.raster_io import Window
from pointcover.vectors.rasterize import rasterize_shapes
from tests.imagery import ROOT, write_raster


def test_shapes_are_burned_in_pixels_of_the_whole_raster_and_the_last_one_stays():
    def square(left, top, side):
        ring = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
        return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}

    window = Window(10, 20, 4, 3)
    drawn = rasterize_shapes(
        [(square(9, 19, 3), 7), (square(11, 21, 1), 8)], window, all_touched=False
    )
    assert drawn.dtype == np.int32
    assert drawn.tolist() == [[7, 7, 0, 0], [7, 8, 0, 0], [0, 0, 0, 0]]
    rasterize_shapes([(square(13.1, 22.1, 0.2), 9)], window, all_touched=True, onto=drawn)
    assert drawn.tolist() == [[7, 7, 0, 0], [7, 8, 0, 0], [0, 0, 0, 9]]
    assert not rasterize_shapes([(square(13.1, 22.1, 0.2), 9)], window, all_touched=False).any()
    assert not rasterize_shapes([], window, all_touched=True).any()


@pytest.mark.parametrize("reserves", [True, False])
def test_a_full_disk_is_an_error_that_names_the_file_and_not_the_end_of_the_process(
    tmp_path, monkeypatch, reserves
):
    path = write_raster(tmp_path / "a.tif", np.zeros((30, 40), np.uint8))

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if reserves:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        list(trace_areas(path, 1, tmp_path))
    assert (caught.value.errno, caught.value.filename) == (
        errno.ENOSPC,
        str(tmp_path / "trace0.partial"),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_real_full_disk_is_one_message(tmp_path):
    """On a file system of 1 MB, where a mapped file without bytes ends in SIGBUS."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system, and not everywhere")
    code = """if True:
        import sys
        from pathlib import Path
        from pointcover.maps.trace import trace_areas
        from pointcover.runtime.errors import one_message
        with one_message("trace"):
            list(trace_areas(Path(sys.argv[1]), 1, Path(sys.argv[2])))
    """
    try:
        path = write_raster(tmp_path / "a.tif", np.zeros((2000, 3000), np.uint8))
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(small)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"\ntrace: the disk is full while writing {small}/trace0.partial")
