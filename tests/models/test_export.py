"""An exported file gives what its model gives, says all that maps need, or is not there."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from onnx import numpy_helper
from torch import nn
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.features.settings import EncoderFeatureSettings, FilterBankSettings
from pointcover.maps.scoring import BF16, FP32, make_scoring, need_torch
from pointcover.maps.settings import MapSettings
from pointcover.models import export as exporting
from pointcover.models import load as references
from pointcover.models import onnx_model as onnx_files
from pointcover.models.export import export_model
from pointcover.models.load import NamedModel, load_model
from pointcover.models.onnx_model import ENGINES, OnnxNetwork, read_onnx
from pointcover.models.onnx_proto import each_weight, parse_model
from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.description import Checkpoint
from pointcover.networks.pixel_classifiers.settings import EncoderBlockSettings
from pointcover.networks.segmenter import PixelSegmenter, Segmenter
from pointcover.prediction.settings import DeviceSettings, MeanFieldSettings
from pointcover.training.classifiers.fit import MEAN as AVERAGE
from tests import classifiers
from tests.classifiers import fit
from tests.imagery import ROOT, draw_image, write_raster
from tests.map_models import CLASSES, TILE_SET, make_mapper
from tests.train_settings import NETWORKS, network_settings, small_encoder

MEAN, STD = (100.0,) * 3, (50.0,) * 3
every_engine = pytest.mark.parametrize("engine", ENGINES)


def name_model(network):
    tile_set = replace(TILE_SET, gsds_m=(0.1, 0.25, 0.4))
    fractions = (0.1, 0.2, 0.3, 0.4)
    checkpoint = Checkpoint(
        network_settings("unet", "resnet18", 0.5), tile_set, {"epoch": 3}, fractions
    )
    return NamedModel("here", Segmenter(network, MEAN, STD).eval(), checkpoint, "0" * 64)


@pytest.fixture(scope="module")
def model():
    """Two convolutions, which are often sure of a class."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)
    )
    with torch.no_grad():
        network[-1].weight *= 8
    return name_model(network)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A folder with the model as a file for any size, for Deepness, and in int8."""
    folder = tmp_path_factory.mktemp("exported")
    windows = [draw_image(96, 96, seed=seed) for seed in range(3)]
    traced = exporting._trace("here", model.segmenter)
    with pytest.MonkeyPatch.context() as patch:  # traced once: that takes seconds
        patch.setattr(exporting, "_trace", lambda *_: onnx.ModelProto.FromString(content))
        content = traced.SerializeToString()
        export_model(model, folder / "any.onnx")
        export_model(model, folder / "deepness.onnx", is_for_deepness=True)
        export_model(model, folder / "int8.onnx", calibration=windows)
    return folder


def as_deepness_does(path, images):
    """Return probabilities as the plugin gets them: (B, H, W, bands) uint8 → (B, C, H, W)."""
    session = onnxruntime.InferenceSession(path)
    values = session.get_modelmeta().custom_metadata_map
    mean, std = (np.float32(json.loads(values[f"standardization_{n}"])) for n in ("mean", "std"))
    standard = ((images / 255).astype(np.float32) - mean) / std
    (only,) = session.get_inputs()
    return session.run(None, {only.name: standard.transpose(0, 3, 1, 2)})[0]


def by_torch(model, images):
    with torch.inference_mode():
        return model.segmenter(torch.from_numpy(images)).softmax(dim=1).numpy()


def draw_batch(batch, height, width):
    return np.stack([draw_image(height, width, seed=seed) for seed in range(batch)])


@pytest.mark.parametrize("size", [(1, 64, 64), (3, 32, 160), (2, 256, 64)])
def test_a_file_takes_any_batch_height_and_width(model, folder, size):
    images = draw_batch(*size)
    found = as_deepness_does(folder / "any.onnx", images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, by_torch(model, images), atol=1e-4)


def test_deepness_gets_a_fixed_size_and_the_same_probabilities(model, folder):
    path = folder / "deepness.onnx"
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]
    assert session.get_outputs()[0].shape == ["batch", 4, 64, 64]
    images = draw_batch(2, 64, 64)
    found = as_deepness_does(path, images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, by_torch(model, images), atol=1e-4)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_metadata_is_what_deepness_parses(folder):
    texts = onnxruntime.InferenceSession(folder / "any.onnx").get_modelmeta().custom_metadata_map
    values = {name: json.loads(text) for name, text in texts.items()}
    assert values["model_type"] == "Segmentor"
    assert values["class_names"] == {str(n): name for n, name in enumerate(CLASSES.names)}
    assert values["resolution"] == 25  # cm a pixel, of 0.1, 0.25 and 0.4 m
    assert values["tile_size"] == values["tiles_size"] == 64
    assert values["tiles_overlap"] == 25
    assert (values["seg_thresh"], values["seg_small_segment"]) == (0, 0)
    assert values["standardization_mean"] == [0, 0, 0]
    assert values["standardization_std"] == [1, 1, 1]


def test_a_file_holds_the_whole_model_json(model, folder):
    for name in ("any", "deepness", "int8"):
        named = load_model(str(folder / f"{name}.onnx"), folder)
        assert named.checkpoint == model.checkpoint
        assert named.engine.split()[0] == "openvino"
    assert len({load_model(str(path), folder).sha256 for path in folder.iterdir()}) == 3


def test_a_file_has_no_information_on_the_machine(folder):
    assert str(ROOT).encode() not in (folder / "any.onnx").read_bytes()
    assert b"site-packages" not in (folder / "any.onnx").read_bytes()


@pytest.mark.parametrize("name", ["any", "deepness", "int8"])
def test_files_have_an_ir_version_that_deepness_reads(folder, name):
    # By the releases of ONNX, what ONNX Runtime 1.17 reads: newer ones, as here, read all below.
    proto = onnx.load(folder / f"{name}.onnx")
    assert proto.ir_version <= 9
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] <= 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"bands": (3, 2, 1)}, ["the model needs bands 3, 2, 1: choose them in its panel"]),
        ({"value_range": (0, 2047)}, ["trained on values of 0 to 2047: scale this range"]),
        (
            {"bands": (2, 1, 3), "value_range": (10, 255)},
            ["needs bands 2, 1, 3", "values of 10 to 255"],
        ),
    ],
)
def test_preprocessing_that_deepness_cannot_read_has_remarks(changes, said):
    remarks = exporting.remarks_for_deepness(replace(TILE_SET, **changes))
    assert len(remarks) == len(said)
    assert all(words in remark for words, remark in zip(said, remarks, strict=True))


@every_engine
@pytest.mark.parametrize("name", ["any", "deepness"])
def test_a_map_by_onnx_equals_that_by_torch(model, folder, tmp_path, monkeypatch, engine, name):
    monkeypatch.setattr(onnx_files, "find_engines", lambda: [engine])
    image = write_raster(tmp_path / "a.tif", draw_image(150, 210))
    exported = load_model(str(folder / f"{name}.onnx"), folder)
    assert exported.engine.startswith(engine)
    maps = []
    for number, each in enumerate((model, exported)):
        mapper = make_mapper([each], window_px=96, blend=True)
        (task,) = mapper.prepare([image], tmp_path / str(number), replace=False)
        mapper.make(task, lambda megapixels, was_done: None)
        for what in ("classes", "confidence"):
            with rasterio.open(task.path(f"_{what}.tif")) as file:
                maps.append(file.read().astype(int))
    classes, confidence, classes_found, confidence_found = maps
    assert (classes == classes_found).mean() >= 0.999
    assert abs(confidence - confidence_found).max() <= 1
    assert len(np.unique(classes)) > 1


def map_classes(image, out, models, **settings):
    mapper = make_mapper(models, window_px=96, **settings)
    (task,) = mapper.prepare([image], out, replace=False)
    mapper.make(task, lambda megapixels, was_done: None)
    with rasterio.open(task.path("_classes.tif")) as file:
        return file.read()


@pytest.mark.parametrize("settings", [{}, {"crf": MeanFieldSettings(iterations=2)}])
def test_files_are_mapped_by_torch_where_it_is_needed(model, folder, tmp_path, settings):
    image = write_raster(tmp_path / "a.tif", draw_image(100, 130))
    exported = load_model(str(folder / "any.onnx"), folder)
    models = [exported] if settings else [exported, model]
    assert need_torch(models, make_mapper(models, **settings)._settings)
    assert not need_torch([exported, exported], make_mapper([exported])._settings)
    wanted = map_classes(image, tmp_path / "one", [model], **settings)
    found = map_classes(image, tmp_path / "two", models, **settings)
    assert (found == wanted).mean() > 0.999


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "precision"),
    [("auto", True, BF16), ("auto", False, FP32), ("fp32", True, FP32), ("bf16", True, BF16)],
)
def test_engines_compute_in_bf16_where_they_have_it(
    folder, monkeypatch, wanted, has_bf16, precision
):
    monkeypatch.setattr(OnnxNetwork, "has_bf16", has_bf16)
    models = [load_model(str(folder / "any.onnx"), folder)]
    settings = MapSettings(window_px=64)
    found = make_scoring(DeviceSettings(precision=wanted), models, settings)
    assert found.precision == precision
    score = found.inference.networks[0]
    assert score.keywords == {"in_bf16": precision == BF16}


def test_a_device_or_precision_that_engines_lack_is_refused(folder, monkeypatch):
    monkeypatch.setattr(OnnxNetwork, "has_bf16", False)
    models = [load_model(str(folder / "any.onnx"), folder)]
    settings = MapSettings(window_px=64)
    for device, said in (
        ({"device": "cuda"}, "got cuda, but ONNX files run on the CPU"),
        ({"precision": "bf16"}, "openvino .* does not compute in bf16 on this processor"),
    ):
        with pytest.raises(ValueError, match=said):
            make_scoring(DeviceSettings(**device), models, settings)


def test_onnx_runtime_has_no_bf16(folder):
    network = OnnxNetwork((folder / "any.onnx").read_bytes(), 3, "onnxruntime")
    assert not network.has_bf16


def test_a_map_by_another_engine_or_file_is_not_resumed(folder, tmp_path, monkeypatch):
    image = write_raster(tmp_path / "a.tif", draw_image(64, 64))
    keys = set()
    for name, engine in (("any", ENGINES[0]), ("any", ENGINES[1]), ("int8", ENGINES[0])):
        monkeypatch.setattr(onnx_files, "find_engines", lambda engine=engine: [engine])
        mapper = make_mapper([load_model(str(folder / f"{name}.onnx"), folder)])
        keys.add(mapper.prepare([image], tmp_path / "out", replace=False)[0].key)
    assert len(keys) == 3


def test_int8_computes_in_int8_and_mostly_agrees(model, folder):
    proto = onnx.load(folder / "int8.onnx")
    assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) >= 2
    images = draw_batch(2, 64, 96)
    found = as_deepness_does(folder / "int8.onnx", images.transpose(0, 2, 3, 1))
    same = found.argmax(axis=1) == by_torch(model, images).argmax(axis=1)
    assert same.mean() > 0.95


def test_a_file_that_disagrees_is_not_written_and_the_old_one_kept(
    model, folder, tmp_path, monkeypatch
):
    wrong = onnx.load(folder / "any.onnx")
    kernel = next(weights for weights in wrong.graph.initializer if len(weights.dims) == 4)
    kernel.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(kernel), kernel.name))
    monkeypatch.setattr(exporting, "_trace", lambda *_: wrong)
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"a\.onnx was not written: the exported network differs"):
        export_model(model, path)
    with pytest.raises(ValueError, match=r"not written: in int8 .* of the pixels keep their class"):
        export_model(model, path, calibration=[draw_image(64, 64)])
    assert path.read_text() == "mine"
    assert [made.name for made in tmp_path.iterdir()] == ["a.onnx"]


def test_an_onnx_file_is_not_exported_again(folder, tmp_path):
    with pytest.raises(ValueError, match="is an ONNX file already: name the model"):
        export_model(load_model(str(folder / "any.onnx"), folder), tmp_path / "b.onnx")


@pytest.mark.parametrize("content", [b"", b"no model", "foreign"])
def test_onnx_files_of_other_origin_are_refused(tmp_path, content, folder):
    if content == "foreign":
        proto = onnx.load(folder / "any.onnx")
        del proto.metadata_props[:]
        content = proto.SerializeToString()
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.onnx is not a model of pointcover .* `pointcover"):
        read_onnx(path)


def test_an_onnx_file_with_nan_for_a_weight_is_refused(tmp_path, folder):
    proto = onnx.load(folder / "any.onnx")
    weight = next(one for one in proto.graph.initializer if one.data_type == onnx.TensorProto.FLOAT)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a\.onnx holds weights that are not numbers \("):
        read_onnx(tmp_path / "a.onnx")


def test_a_package_that_export_lacks_is_named_with_how_to_get_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript', .* `pip install 'pointcover\[onnx\]'`"):
        export_model(model, tmp_path / "a.onnx")


def test_a_package_that_reading_lacks_is_named_with_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(ValueError, match=r"protobuf', .* `pip install 'pointcover\[maps\]'`"):
        read_onnx(folder / "any.onnx")


def test_a_file_is_read_without_the_package_onnx(model, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("any", "deepness", "int8"):
        _, checkpoint, _ = read_onnx(folder / f"{name}.onnx")
        assert checkpoint == model.checkpoint


def test_what_is_not_declared_of_a_file_is_kept(folder):
    content = (folder / "deepness.onnx").read_bytes()
    proto = parse_model(content)
    again = onnx.ModelProto.FromString(proto.SerializeToString())
    assert again == onnx.ModelProto.FromString(content)
    weights = dict(each_weight(proto))
    wanted = {one.name: numpy_helper.to_array(one).ravel() for one in again.graph.initializer}
    wanted = {name: values for name, values in wanted.items() if values.dtype.kind == "f"}
    assert weights.keys() == wanted.keys()
    assert all(np.array_equal(weights[name], wanted[name]) for name in wanted)


def test_without_any_engine_the_error_names_one(monkeypatch):
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the package 'onnxruntime', which is not installed"):
        onnx_files.find_engines()


def test_images_that_do_not_fit_are_refused(folder):
    network, _, _ = read_onnx(folder / "any.onnx")
    for shape in ((1, 3, 64, 80), (1, 4, 64, 64)):
        with pytest.raises(ValueError, match=r"wanted 3 band\(s\) and multiples of 32 px"):
            network.probabilities(np.zeros(shape, np.uint8))


@every_engine
def test_a_damaged_network_is_refused_by_its_engine(folder, engine):
    proto = onnx.load(folder / "any.onnx")
    proto.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ValueError, match=f"{engine} .* cannot run the file"):
        OnnxNetwork(proto.SerializeToString(), 3, engine)


# The command


@pytest.fixture
def run(model, folder, tmp_path, monkeypatch):
    """Call `pointcover export` where the model is known by any name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("model.pt", "model.json"):
        (tmp_path / "models" / name).touch()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setattr(references, "load_model", lambda reference, root: model)
    traced = onnx.load(folder / "any.onnx")
    del traced.metadata_props[:]
    content = traced.SerializeToString()
    monkeypatch.setattr(exporting, "_trace", lambda *_: onnx.ModelProto.FromString(content))
    return lambda *args: CliRunner().invoke(app, ["export", "models", *args])


def test_export_writes_a_file_and_prints_its_agreement(run, tmp_path):
    done = run("--out", "a.onnx", "--deepness")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith("a.onnx: 100.00% of the pixels of noise have the same class")
    assert done.stderr.rstrip().endswith(")")
    assert done.stderr.count("\n") == 1
    assert onnxruntime.InferenceSession("a.onnx").get_inputs()[0].shape == ["batch", 3, 64, 64]


def test_export_calibrates_int8_on_windows_of_images(run, tmp_path):
    place = rasterio.transform.from_origin(5e5, 6e5, 0.25, 0.25)
    write_raster(tmp_path / "a.tif", draw_image(150, 210), transform=place)
    done = run("--out", "a.onnx", "--int8", "a.tif")
    assert done.exit_code == 0, done.stderr
    assert "of the pixels of 6 windows have the same class" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--out", "a.pt"], "--out: got a.pt, wanted a name that ends in .onnx"),
        (["--out", "there.onnx"], "there.onnx exists: choose another name, or add --force"),
        (["--out", "a.onnx", "--int8", "none.tif"], "none.tif"),
    ],
)
def test_export_errors_are_one_message(run, tmp_path, args, said):
    (tmp_path / "there.onnx").write_text("mine")
    done = run(*args)
    assert done.exit_code == 1
    assert done.stderr.startswith("\npointcover export: ")
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "models", "there.onnx"]


# Every model


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_model_is_exported(tmp_path, name):
    network = network_settings(name, small_encoder(name), 0.25)
    segmenter = build_model(network, BandStatistics(MEAN, STD), 4, seed=1)
    checkpoint = Checkpoint(network, TILE_SET, {})
    found = export_model(NamedModel(name, segmenter, checkpoint, ""), tmp_path / "a.onnx")
    assert found.largest < 1e-4
    assert [engine.split()[0] for engine in found.engines] == list(ENGINES)


CLASSIFIERS = [name for name, each in MODELS.items() if each.fitted_by == PIXEL_CLASSIFIER]


def check_classifier(heads, tmp_path, **changes):
    """Export a classifier of filters, and compare classes with those of the file as it is read."""
    inputs = {f"{head}.inputs": ("filter_bank",) for head in heads}
    classifier = fit(*heads, **{**SMALL_TREES, **inputs, **changes})
    network = network_settings("classifier_mean", "none")
    segmenter = PixelSegmenter(classifier, MEAN, STD).eval()
    checkpoint = Checkpoint(network, TILE_SET, {}, classifier=classifier.settings)
    model = NamedModel("classifier", segmenter, checkpoint, "")
    found = export_model(model, tmp_path / "a.onnx")
    assert found.same > 0.999
    again = load_model(str(tmp_path / "a.onnx"), tmp_path)
    assert again.window_needs == model.window_needs
    assert again.window_needs.margin_px > 0
    images = torch.from_numpy(classifiers.draw_image(9, size=128)[None, :, :96])
    with torch.inference_mode():
        wanted, got = (each(images).softmax(1) for each in (segmenter, again.segmenter))
    assert (got.argmax(1) == wanted.argmax(1)).float().mean() > 0.9999
    assert len(wanted.argmax(1).unique()) > 1


SMALL_TREES = {
    "random_forest.trees": 5,
    "random_forest.max_depth": 4,
    "extra_trees.trees": 5,
    "extra_trees.max_depth": 4,
    "gradient_boosting.rounds": 3,
}


@pytest.fixture
def few_filters(monkeypatch):
    """Fit on three filters: the time of an export is that of tracing and compiling all of them."""
    few = FilterBankSettings(sigmas_px=(1.6,), filters=("gaussian",), excess_green_sigmas_px=())
    monkeypatch.setattr(classifiers, "FILTERS", few)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_pixel_classifier_is_exported_with_equal_classes(few_filters, tmp_path, name):
    heads = ("logistic_regression", "random_forest") if name == AVERAGE else (name,)
    check_classifier(heads, tmp_path, smoothing_px=3 if name == AVERAGE else 0)


@pytest.mark.slow
def test_a_classifier_on_all_kinds_of_filters_is_exported(tmp_path):
    check_classifier(("logistic_regression",), tmp_path)


@pytest.mark.slow
def test_a_classifier_on_an_encoder_at_twice_the_size_is_exported(
    few_filters, tmp_path, monkeypatch
):
    encoder = EncoderBlockSettings(features=EncoderFeatureSettings(scales=(2,)))
    monkeypatch.setattr(classifiers, "ENCODER", encoder)
    inputs = {"logistic_regression.inputs": ("filter_bank", "encoder")}
    check_classifier(("logistic_regression", "random_forest"), tmp_path, **inputs)
