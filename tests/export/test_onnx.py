"""The file gives what the module gives, with the classifier in it once."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    ExplainedClassifier,
    LearnableCAM,
    Normalization,
    calibrate,
    condition,
    export_onnx,
    load_attention,
)
from learnable_cam_plugin.data import photo_transform
from learnable_cam_plugin.export import FromPixels, quantize_onnx

from ..conftest import tiny_network
from ..networks import pictures
from .networks import (
    IN_EVERY_RUN,
    deployed,
    differences,
    exported,
    opened,
    operations,
    run,
    started,
)
from .test_explained import MECHANISMS

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("name", IN_EVERY_RUN)
def test_a_network_and_its_file_agree_in_onnxruntime_and_in_openvino(name, tmp_path):
    path, explained = exported(name, tmp_path)
    found = differences({"onnxruntime": started(path)}, explained)
    assert np.max(list(found.values())) < 1e-4
    # the backbone is there once: every layer of it is a node, and the mechanism has four of its own
    modules = list(deployed(name).modules())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in modules)
    assert operations(path, ("Conv",)) == convolutions + 4
    blocks = sum(isinstance(module, nn.GELU) for module in modules)
    assert operations(path, ("Erf", "Gelu")) == blocks
    numbers = sum(tensor.nbytes for tensor in deployed(name).state_dict().values())
    assert path.stat().st_size < numbers + 800_000
    pytest.importorskip("openvino", reason="the extra `bench`")
    found = differences({"OpenVINO": opened(path)}, explained)
    assert np.max(list(found.values())) < 1e-3


def _axes(path):
    """Of the inputs and outputs: lengths, or the names of what may have any."""
    session = onnxruntime.InferenceSession(path)
    return [value.shape for value in (*session.get_inputs(), *session.get_outputs())]


@pytest.mark.parametrize("mechanism", ["shipped", "conditioned", "rows of two layers"])
def test_every_mechanism(mechanism, tiny, images, tmp_path):
    explained = ExplainedClassifier(tiny.eval(), images, **MECHANISMS[mechanism](tiny, images))
    path = export_onnx(explained, tmp_path / "explained.onnx", images, classes=True)
    several = ["batch", "classes", 20, 24]
    assert _axes(path) == [["batch", 3, 20, 24], ["batch", "classes"], ["batch", 5], several]
    for batch, each in ((1, 1), (3, 5)):
        given = torch.rand(batch, 3, 20, 24)
        classes = torch.randint(5, (batch, each))
        logits, maps = explained(given, classes)
        found = run(path, images=given, classes=classes)
        assert found[1].shape == (batch, each, 20, 24)
        assert np.abs(found[0] - logits.numpy()).max() < 1e-5
        assert np.abs(found[1] - maps.numpy()).max() < 1e-4


@pytest.mark.parametrize("attention", [None, "head"])
def test_a_class_that_there_is_not_is_refused_on_either_side(tiny, images, tmp_path, attention):
    layers = ["4"] if attention else None
    explained = ExplainedClassifier(tiny.eval(), images, layers, attention=attention)
    path = export_onnx(explained, tmp_path / "explained.onnx", images, classes=True)
    last, fifth = (run(path, images=images, classes=torch.full((4, 1), c)) for c in (-1, -5))
    for found, label in ((last, 4), (fifth, 0)):
        expected = explained(images, torch.full((4, 1), label))[1]
        assert np.abs(found[1] - expected.numpy()).max() < 1e-4
    for label in (5, -6, -10):
        with pytest.raises(Exception, match=r"(?i)out of data bounds|invalid index"):
            run(path, images=images, classes=torch.full((4, 1), label))


@pytest.mark.filterwarnings("ignore:the feature maps at:UserWarning")
def test_of_an_image_that_is_the_same_everywhere_a_file_gives_no_map_either(tmp_path):
    """What varies there is rounding, which each runtime does otherwise, and scaled to [0, 1] it
    would look like a map."""
    torch.manual_seed(0)
    sizes, head = ((3, 16), (16, 32), (32, 64)), [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    body = [part for size in sizes for part in (nn.Conv2d(*size, 3, 2), nn.ReLU())]
    model = nn.Sequential(*body, *head, nn.Linear(64, 10)).eval()
    path = export_onnx(model, tmp_path / "plain.onnx", pictures(2, 96))
    for shade in (0.1, 0.5, 0.9):
        plain = torch.full((1, 3, 96, 96), shade)
        assert not LearnableCAM(model)(plain).any()
        assert not run(path, images=plain)[1].any()


@pytest.mark.parametrize("channels", [64, 6])  # more than columns, and fewer
def test_images_of_any_height_and_width(tmp_path, channels):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)),
    ).eval()
    images = torch.rand(4, 3, 24, 32)
    explained = ExplainedClassifier(model, images)
    path = export_onnx(explained, tmp_path / "explained.onnx", images, dynamic_size=True)
    sizes = ["batch", 3, "height", "width"], ["batch", 5], ["batch", "height", "width"]
    assert _axes(path) == list(sizes)
    for size in ((24, 32), (32, 24), (48, 33), (31, 64)):
        given = torch.rand(2, 3, *size)
        assert np.abs(run(path, images=given)[1] - explained(given)[1].numpy()).max() < 1e-4


@pytest.mark.parametrize("given", [{}, {"attention": "head", "target_layers": ["4"]}])
def test_on_the_mechanisms_own_grid_too(tiny, tmp_path, given):
    images = torch.rand(2, 3, 48, 48)
    explained = ExplainedClassifier(tiny.eval(), images, size="grid", **given)
    path = export_onnx(explained, tmp_path / "a.onnx", images, dynamic_size=True)
    for size in ((48, 48), (40, 72)):
        given = torch.rand(3, 3, *size)
        found, wanted = run(path, images=given)[1], explained(given)[1].numpy()
        assert found.shape == wanted.shape == (3, size[0] // 2, size[1] // 2)
        assert np.abs(found - wanted).max() < 1e-4


def test_of_a_head_with_a_size_they_are_refused(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(720, 5))
    images = torch.rand(4, 3, 20, 24)
    attention = calibrate(model.eval(), ["1"], images)
    with pytest.raises(
        ValueError, match="takes no images of any height and width, of 20 x 24 only"
    ):
        export_onnx(model, tmp_path / "a.onnx", images, attention=attention, dynamic_size=True)
    assert not list(tmp_path.iterdir())


def test_photographs_as_a_camera_gives_them(tiny, tmp_path):
    images = IMAGENET.normalize(torch.rand(4, 3, 64, 64))
    explained = ExplainedClassifier(tiny.eval(), images, top=2)
    path = export_onnx(explained, tmp_path / "a.onnx", images, pixels=True, normalization=IMAGENET)
    assert _axes(path) == [["batch", "height", "width", 3], ["batch", 5], ["batch", 2, 64, 64]]
    graph, transform = FromPixels(explained, IMAGENET, 64), photo_transform(IMAGENET, 64)
    for size in ((90, 120), (200, 101), (64, 64)):
        smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9) * 255, size, mode="bicubic")
        photos = smooth.clamp(0, 255).to(torch.uint8)
        wanted = graph(photos.permute(0, 2, 3, 1))
        found = run(path, images=photos.permute(0, 2, 3, 1))
        assert np.abs(found[0] - wanted[0].detach().numpy()).max() < 1e-4
        assert np.abs(found[1] - wanted[1].numpy()).max() < 1e-4
        # what is made of files for training and for LearnableCAM is nearly the same
        prepared = torch.stack([transform(photo) for photo in photos])
        assert (explained(prepared)[0] - wanted[0]).abs().max() < 0.02


@pytest.mark.parametrize("side", [224, 299, 300, 384])
def test_photographs_are_cropped_as_torchvision_crops_them(tiny, side):
    """To the pixel, at sides whose margin is odd, too."""
    explained = ExplainedClassifier(tiny.eval(), torch.rand(2, 3, side, side))
    graph, given = FromPixels(explained, IMAGENET, side), []
    explained.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 40, 40), (600, 600), mode="bicubic")
    photo = (smooth[0] * 255).clamp(0, 255).to(torch.uint8)
    graph(photo.permute(1, 2, 0)[None])
    wanted = photo_transform(IMAGENET, side)(photo)
    assert (given[0][0] - wanted).abs().max() < 0.03  # a step or two of 8 bits
    assert (given[0][0] - wanted.roll(1, 1)).abs().max() > 0.3  # a pixel beside


def test_what_the_file_says_of_itself(tiny, images, tmp_path):
    import onnx

    images = IMAGENET.normalize(images)
    attention = condition(tiny.eval(), ["2", "4"], images)
    attention.save(tmp_path / "mine.safetensors")
    path = export_onnx(
        tiny,
        tmp_path / "explained.onnx",
        images,
        attention=load_attention(tmp_path / "mine.safetensors"),
        normalization=IMAGENET,
        class_names=list("abcde"),
        top=2,
        size="grid",
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (record,) = (p.value for p in model.metadata_props if p.key == "learnable_cam_plugin")
    record = json.loads(record)
    assert record["layers"] == ["2", "4"]
    assert record["class_names"] == list("abcde")
    assert record["explains"] == "top 2"
    assert record["input_size"] == [3, 20, 24]
    assert record["normalization"]["mean"] == pytest.approx(IMAGENET.mean)
    assert record["attention"]["mechanism"] == "ConditionedAttention"
    assert record["attention"]["source"] == "mine.safetensors"
    assert len(record["attention"]["sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    for folder in (str(tmp_path), str(Path(__file__).parents[2]), "site-packages"):
        assert folder.encode() not in path.read_bytes()
    assert [o.name for o in model.graph.output] == ["logits", "saliency_map"]
    assert [p.name for p in tmp_path.iterdir()].count("explained.onnx") == 1
    assert len(list(tmp_path.iterdir())) == 2  # nothing beside the file


class Branching(nn.Module):
    def __init__(self, tiny: nn.Module) -> None:
        super().__init__()
        self.tiny = tiny

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.tiny(images)
        return scores if float(scores.mean()) > 0 else scores * 2


class TestRefused:
    def test_a_model_that_branches_on_values_and_the_old_file_stays(self, images, tmp_path):
        path = tmp_path / "explained.onnx"
        path.write_bytes(b"old")
        model = Branching(tiny_network()).eval()
        with pytest.raises(ValueError, match=r"cannot trace the model .+data-dependent"):
            export_onnx(model, path, images)
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_missing_extra(self, tiny, images, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'learnable-cam-plugin\[export"):
            export_onnx(tiny.eval(), tmp_path / "a.onnx", images)

    def test_arguments_that_do_not_fit(self, tiny, images, tmp_path):
        path, explained = tmp_path / "a.onnx", ExplainedClassifier(tiny.eval(), images, top=2)
        with pytest.raises(ValueError, match="classes=True takes the place of top"):
            export_onnx(explained, path, images, classes=True)
        with pytest.raises(ValueError, match=r"\['top'\] were decided"):
            export_onnx(explained, path, images, top=3)
        with pytest.raises(ValueError, match="has 5 classes, got 2 names"):
            export_onnx(explained, path, images, class_names=["a", "b"])
        with pytest.raises(ValueError, match="the normalisation has 2 channels, the images 3"):
            export_onnx(explained, path, images, normalization=Normalization([0, 0], [1, 1]))
        for opset in (9, 99):
            with pytest.raises(ValueError, match=rf"writes opset \d+ where {opset} is asked for"):
                export_onnx(explained, path, images, opset=opset)
        for names in (dict(enumerate("abcde")), "abcde", [*"abcd", 4]):
            with pytest.raises(TypeError, match="must be a sequence of 5 names, one a class"):
                export_onnx(explained, path, images, class_names=names)
        with pytest.raises(ValueError, match="takes a normalization and square images"):
            export_onnx(explained, path, images, pixels=True)
        with pytest.raises(
            ValueError, match=r"weights are torch.float16, the images torch.float32"
        ):
            export_onnx(explained.half(), path, images)
        assert not path.exists()

    def test_a_folder_that_cannot_be_written(self, tiny, images, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="cannot write"):
            export_onnx(tiny.eval(), tmp_path / "file" / "a.onnx", images)


def test_eight_bits(images, tmp_path):
    """The classifier in integers, the record kept, and maps that rank the places alike."""
    onnx = pytest.importorskip("onnx")
    model = tiny_network().eval()
    images = IMAGENET.normalize(images)
    path = export_onnx(model, tmp_path / "a.onnx", images, normalization=IMAGENET)
    given = torch.rand(16, 3, 20, 24, generator=torch.Generator().manual_seed(2))
    small = quantize_onnx(path, tmp_path / "b.onnx", given.split(4))
    assert operations(small, ("QuantizeLinear",)) > 2
    whole = quantize_onnx(path, tmp_path / "d.onnx", given.split(4), mechanism=True)
    assert operations(whole, ("QuantizeLinear",)) > operations(small, ("QuantizeLinear",))
    records = [onnx.load(one).metadata_props for one in (path, small)]
    assert records[0] == records[1]
    before, after = run(path, images=given), run(small, images=given)
    assert np.abs(before[0] - after[0]).max() < 0.05
    ranks = [np.argsort(np.argsort(maps.reshape(16, -1), 1), 1) for maps in (before[1], after[1])]
    alike = [np.corrcoef(one, other)[0, 1] for one, other in zip(*ranks, strict=True)]
    assert np.median(alike) > 0.9
    with pytest.raises(ValueError, match="cannot be quantised"):
        quantize_onnx(path, tmp_path / "c.onnx", [])
    assert not (tmp_path / "c.onnx").exists()
    half = export_onnx(
        ExplainedClassifier(tiny_network().eval(), images).half(),
        tmp_path / "h.onnx",
        images.half(),
    )
    (tmp_path / "text.onnx").write_text("no file of ONNX")
    for wrong, why in ((half, "in half precision"), (small, "quantised"), ("text", "no ONNX file")):
        given_path = tmp_path / "text.onnx" if wrong == "text" else wrong
        with pytest.raises(ValueError, match=why):
            quantize_onnx(given_path, tmp_path / "c.onnx", [images])
    with pytest.raises(FileNotFoundError):
        quantize_onnx(tmp_path / "none.onnx", tmp_path / "c.onnx", [images])
    assert not (tmp_path / "c.onnx").exists()


def test_images_that_were_not_normalised_so_are_told_of(tiny, images, tmp_path):
    with pytest.warns(UserWarning, match=r"how its images are normalised, and those given are not"):
        export_onnx(tiny.eval(), tmp_path / "a.onnx", 4 * images, normalization=IMAGENET)
