"""Images at addresses are labelled like files, and read only where they were typed."""

import json

import numpy as np
import pytest
import rasterio

from pointcover.cli.options import raster
from pointcover.labelling.export_maps import map_images, save_model
from pointcover.labelling.export_points import export_points
from pointcover.labelling.project import DESCRIPTION, Project
from pointcover.labelling.session import Session
from tests.imagery import draw_image, write_raster
from tests.labelling.scenes import CLASSES, QUICK
from tests.servers import serve_folder


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    write_raster(tmp_path / "served" / "a.tif", draw_image(192, 160), **options)
    with serve_folder(tmp_path / "served") as state:
        yield state


def open_typed(folder, server):
    return Project(folder, [raster(f"{server.url('a.tif')}?sig=secret")], "anna")


def test_an_image_at_an_address_is_shown_labelled_and_mapped(server, tmp_path):
    project = open_typed(tmp_path / "project", server)
    project.set_classes(CLASSES[:2], {})
    project.set_settings(QUICK)
    session = Session(project, threads=1)
    try:
        shown, _ = session.readers[0].read(0, 0, 0, (192, 160))
        np.testing.assert_array_equal(shown, draw_image(192, 160))
        for row, label in ((10, "water"), (100, "meadow"), (150, "water")):
            project.history.add("a.tif", 30, row, label)
        model = save_model(project, session.readers, session.class_table(), tmp_path / "model")
        (made,) = map_images(model, list(project.paths.values()), tmp_path / "maps", print)
        with rasterio.open(made) as file:
            assert file.shape == (192, 160)
            assert set(np.unique(file.read(1))) <= {0, 1}
        exported = export_points(project, [session.readers[0].info], tmp_path / "export")
        assert "lies on a server" in " ".join(exported.remarks)
    finally:
        session.close()
    texts = [path for path in tmp_path.rglob("*.json") if path.is_file()]
    assert texts
    assert not [path for path in texts if "secret" in path.read_text()]


def test_a_stored_address_is_not_read_unless_it_is_typed(server, tmp_path):
    folder = tmp_path / "project"
    project = open_typed(folder, server)
    project.set_classes(CLASSES[:2], {})
    project.history.add("a.tif", 3, 4, "water")
    project.close()
    stored = json.loads((folder / DESCRIPTION).read_text())
    assert stored["images"][0]["path"] == server.url("a.tif")
    sent = server.sent
    with pytest.raises(FileNotFoundError, match="read only where they are typed"):
        Project(folder, [], "anna")
    assert server.sent == sent
    again = open_typed(folder, server)
    assert [(one.image, one.label) for one in again.history.points] == [("a.tif", "water")]
    assert again.remark_on_closed_images() is None
    again.close()
