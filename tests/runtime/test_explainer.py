"""The runtime: photographs in, explanations out, without torch."""

import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from learnable_cam_plugin import ExplainedClassifier, Normalization, export_onnx
from learnable_cam_plugin.data import photo_transform
from learnable_cam_plugin.runtime import Explainer, cropped

from ..conftest import tiny_network

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
ROOT = Path(__file__).resolve().parents[2]
NORMALIZATION = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SIDE = 32


def normal(photos):
    transform = photo_transform(NORMALIZATION, SIDE)
    return torch.stack([transform(photo(seed)) for seed in range(photos)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of a classifier: of the top class, of given classes, of photographs as they are."""
    folder = tmp_path_factory.mktemp("files")
    images = torch.rand(4, 3, SIDE, SIDE)
    given = {"normalization": NORMALIZATION, "class_names": ["ant", "bee", "cat", "dog", "eel"]}
    for name, settings in {
        "top": {"top": 2},
        "classes": {"classes": True},
        "pixels": {"pixels": True, "uint8": True, "size": "grid"},
        "second": {"contrast": True},
        "pairs": {"contrast": True, "classes": True},
    }.items():
        model = tiny_network().eval()
        export_onnx(model, folder / f"{name}.onnx", images, **given, **settings)
    export_onnx(tiny_network().eval(), folder / "bare.onnx", images)
    given = {"normalization": NORMALIZATION, "class_names": ["defect"]}
    for name, settings in {"sign": {}, "score": {"classes": True}}.items():
        one = tiny_network(1).eval()
        with torch.no_grad():
            one[-1].bias -= one(normal(photos=4)).median()
        export_onnx(one, folder / f"{name}.onnx", images, **given, **settings)
    return folder


@pytest.fixture(scope="module")
def explainer(folder):
    return Explainer(folder / "top.onnx", threads=1)


def photo(seed=0, size=(60, 50)):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_it_says_what_torch_says(explainer):
    images = photo_transform(NORMALIZATION, SIDE)(photo())[None]
    model = tiny_network().eval()
    logits, maps = ExplainedClassifier(model, torch.rand(4, 3, SIDE, SIDE), top=2)(images)
    found = explainer.explain(photo())
    best = logits.softmax(1).topk(2, 1)
    assert [one.index for one in found] == best.indices[0].tolist()
    assert [one.name for one in found] == [explainer.class_names[one.index] for one in found]
    # Pillow's resize and torch's differ by a level
    assert [one.probability for one in found] == pytest.approx(best.values[0].tolist(), abs=1e-3)
    for one, heat in zip(found, maps[0].numpy(), strict=True):
        assert one.heat.shape == (SIDE, SIDE)
        assert np.abs(one.heat - heat).mean() < 0.02


def test_a_path_an_image_and_an_array_are_the_same(explainer, tmp_path):
    photo().save(tmp_path / "photo.png")
    given = (tmp_path / "photo.png", str(tmp_path / "photo.png"), photo(), np.asarray(photo()))
    first, *others = [explainer.explain(one)[0] for one in given]
    for other in others:
        assert np.array_equal(first.heat, other.heat)
        assert first.probability == other.probability


def test_classes_by_index_and_by_name(folder):
    explainer = Explainer(folder / "classes.onnx")
    by_index, by_name = explainer.explain(photo(), [1, 4]), explainer.explain(photo(), ["bee", 4])
    assert [one.name for one in by_index] == ["bee", "eel"]
    assert np.array_equal(by_index[0].heat, by_name[0].heat)
    assert not np.array_equal(by_index[0].heat, by_index[1].heat)
    top = explainer.explain(photo(), top=3)
    assert [one.probability for one in top] == sorted((o.probability for o in top), reverse=True)
    again = explainer.explain(photo(), [top[2].index])[0]
    assert np.allclose(again.heat, top[2].heat, atol=1e-5)


def test_one_class_rather_than_another(folder):
    images = photo_transform(NORMALIZATION, SIDE)(photo())[None]
    model = tiny_network().eval()
    explained = ExplainedClassifier(model, torch.rand(4, 3, SIDE, SIDE), contrast=True)
    logits, (winner,) = explained(images)
    first, second = logits.topk(2, 1).indices[0].tolist()
    pairs = Explainer(folder / "pairs.onnx")
    for explainer in (Explainer(folder / "second.onnx"), pairs):
        (found,) = explainer.explain(photo())
        assert (found.index, found.against) == (first, second)
        assert np.abs(found.heat - winner.numpy()).mean() < 0.02  # another resize
    _, (wanted,) = explained(images, torch.tensor([[1, 4]]))
    (found,), (turned,) = pairs.explain(photo(), ["bee", 4]), pairs.explain(photo(), [4, 1])
    assert (found.index, found.name, found.against) == (1, "bee", 4)
    assert found.probability == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-3)
    assert np.abs(found.heat - wanted.numpy()).mean() < 0.02
    assert (turned.name, turned.against) == ("eel", 1)
    assert not np.allclose(turned.heat, found.heat, atol=0.05)
    together = [one for _, (one,) in pairs.explain_all([photo(), photo(1)], ["bee", "eel"])]
    assert [one.index for one in together] == [1, 1]
    assert np.allclose(together[0].heat, found.heat, atol=1e-4)
    assert Explainer(folder / "top.onnx").explain(photo())[0].against is None


def test_photographs_as_they_are(folder):
    explainer = Explainer(folder / "pixels.onnx")
    several = [photo(0), photo(1), photo(2, (90, 50))]
    found = [one for _, (one,) in explainer.explain_all(several)]
    for each, one in zip(several, found, strict=True):
        (alone,) = explainer.explain(each)
        assert one.heat.dtype == np.uint8
        assert one.heat.shape == (SIDE // 2, SIDE // 2)
        assert np.abs(one.heat.astype(int) - alone.heat).max() <= 1
        assert explainer.overlay(each, one.heat).size == (SIDE, SIDE)


def test_the_exif_orientation_is_honoured(explainer, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    photo().save(tmp_path / "turned.png", exif=exif)
    turned = photo().transpose(Image.Transpose.ROTATE_270)
    (wanted, *_), (found, *_) = (
        explainer.explain(turned),
        explainer.explain(tmp_path / "turned.png"),
    )
    assert np.array_equal(wanted.heat, found.heat)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(explainer.explain(opened)[0].heat, wanted.heat)
    assert explainer.view(tmp_path / "turned.png").tobytes() == cropped(turned, (32, 32)).tobytes()


def test_the_overlay_is_red_where_the_map_is_bright(explainer):
    heat = np.zeros((4, 4), np.float32)
    heat[:2] = 1
    over = np.asarray(explainer.overlay(Image.new("RGB", (64, 64)), heat, alpha=1.0)).astype(int)
    assert over[2, 2, 0] > over[2, 2, 2]
    assert over[-3, 2, 2] > over[-3, 2, 0]


def test_a_folder_goes_through_in_flat_memory(folder, tmp_path):
    explainer = Explainer(folder / "pixels.onnx", threads=1)
    for number in range(64):
        photo(number, (200, 190)).save(tmp_path / f"{number:02d}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    unread = []
    found = explainer.explain_all(tmp_path, batch=4, unread=unread)
    assert iter(found) is found
    for _ in range(8):
        next(found)
    tracemalloc.start()
    rest = sum(1 for _ in found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rest == 56
    assert peak < 3_000_000  # a photograph takes 114,000, the 56 of them 6,384,000
    assert len(unread) == 1
    assert "broken.jpg is not a readable image" in unread[0]
    assert "\n" not in unread[0]


def test_several_threads_share_it(explainer):
    photos = [photo(seed) for seed in range(24)]
    wanted = [explainer.explain(one) for one in photos]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(explainer.explain, photos))
    for one, other in zip(found, wanted, strict=True):
        assert [e.index for e in one] == [e.index for e in other]
        assert all(np.array_equal(a.heat, b.heat) for a, b in zip(one, other, strict=True))


def test_another_process_reads_the_file_again(explainer):
    other = pickle.loads(pickle.dumps(explainer))
    one, same = explainer.explain(photo(3))[0], other.explain(photo(3))[0]
    assert one.index == same.index
    assert np.array_equal(one.heat, same.heat)


_ALONE = """
import sys
from importlib.abc import MetaPathFinder
allowed = {"learnable_cam_plugin", "numpy", "PIL", "onnxruntime"}
class Only(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and top not in OPTIONAL:
            raise ModuleNotFoundError(f"{top} is not here", name=top)
OPTIONAL = set()
sys.meta_path.insert(0, Only())
sys.path.insert(0, sys.argv[1])
from learnable_cam_plugin.runtime import Explainer
explainer = Explainer(sys.argv[2])
(best, _) = explainer.explain(sys.argv[3])
explainer.overlay(sys.argv[3], best.heat).save(sys.argv[4])
print(best.index, best.name)
assert "torch" not in sys.modules and "lazy_loader" not in sys.modules
"""


def test_onnxruntime_numpy_and_pillow_are_enough(folder, explainer, tmp_path):
    photo().save(tmp_path / "photo.png")
    files = [ROOT, folder / "top.onnx", tmp_path / "photo.png", tmp_path / "overlay.png"]
    command = [sys.executable, "-X", "importtime", "-c", _ALONE, *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    best = explainer.explain(photo())[0]
    assert ran.stdout.split() == [str(best.index), best.name], ran.stderr[-2000:]
    assert "learnable_cam_plugin.runtime" in ran.stderr
    assert " torch" not in ran.stderr
    with Image.open(tmp_path / "overlay.png") as overlay:
        assert overlay.size == (SIDE, SIDE)


class TestRefused:
    def test_files_that_are_none(self, tmp_path):
        import onnx

        with pytest.raises(FileNotFoundError, match="there is no ONNX file at"):
            Explainer(tmp_path / "none.onnx")
        (tmp_path / "bad.onnx").write_bytes(b"no protobuf")
        with pytest.raises(ValueError, match=r"bad.onnx is not a whole ONNX file"):
            Explainer(tmp_path / "bad.onnx")
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        x, y = (onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "xy")
        graph = onnx.helper.make_graph([node], "other", [x], [y])
        model = onnx.helper.make_model(
            graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
        )
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(ValueError, match=r"other.onnx is no file of export_onnx"):
            Explainer(tmp_path / "other.onnx")
        onnx.helper.set_model_props(
            model, {"learnable_cam_plugin": '{"format": 1, "pixels": true}'}
        )
        onnx.save(model, tmp_path / "part.onnx")
        with pytest.raises(ValueError, match=r"part.onnx is .* lacks \['class_names', 'explains'"):
            Explainer(tmp_path / "part.onnx")

    def test_a_missing_onnxruntime(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ModuleNotFoundError, match="pip install onnxruntime"):
            Explainer(folder / "top.onnx")

    def test_photographs_and_classes(self, folder, explainer, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no photograph at"):
            explainer.explain(tmp_path / "none.png")
        with pytest.raises(FileNotFoundError, match="no photograph"):
            next(explainer.explain_all(tmp_path))
        with pytest.raises(ValueError, match="an array must be RGB of 8 bits"):
            explainer.explain(np.zeros((4, 4, 3)))
        with pytest.raises(ValueError, match=r"explains the top 2: to choose classes"):
            explainer.explain(photo(), [1])
        with pytest.raises(ValueError, match=r"explains the top 2, got top=3"):
            explainer.explain(photo(), top=3)
        second, pairs = (Explainer(folder / f"{name}.onnx") for name in ("second", "pairs"))
        with pytest.raises(ValueError, match="class rather than the second: to choose classes"):
            second.explain(photo(), [0, 1])
        for one, of in ((second, "the second"), (pairs, "another")):
            with pytest.raises(ValueError, match=f"class rather than {of}: leave top out"):
                one.explain(photo(), top=1)
        for classes in ([0], [0, 1, 2], [1, "bee"]):
            with pytest.raises(ValueError, match=r"must be two of them, got \["):
                pairs.explain(photo(), classes)
        chosen = Explainer(folder / "classes.onnx")
        with pytest.raises(IndexError, match="class index 5 is out of range"):
            chosen.explain(photo(), [5])
        with pytest.raises(KeyError, match="there is no class 'fox'"):
            chosen.explain(photo(), ["fox"])
        chosen.class_names = tuple("abcde")
        assert [one.index for one in chosen.explain(photo(), "b")] == [1]
        with pytest.raises(KeyError, match="there is no class 'ab'"):  # not the classes a and b
            chosen.explain(photo(), "ab")
        chosen.class_names = ("ant", "bee", "ant", "cat", "dog")
        with pytest.raises(KeyError, match=r"'ant' is the name of the classes \[0, 2\]"):
            chosen.explain(photo(), ["ant"])
        with pytest.raises(ValueError, match="does not say what normalisation"):
            Explainer(folder / "bare.onnx").explain(photo())


def test_what_speaks_against_the_one_class_is_named_so(folder):
    """A single score below 0: the map of its sign is not that of the class."""
    sign, score = Explainer(folder / "sign.onnx"), Explainer(folder / "score.onnx")
    turned = 0
    for seed in range(4):
        (found,), (given,) = sign.explain(photo(seed)), score.explain(photo(seed), 0)
        assert (given.index, given.name, given.against) == (0, "defect", None)
        if given.probability >= 0.5:
            assert (found.name, found.against) == ("defect", None)
            assert found.probability == pytest.approx(given.probability, abs=1e-6)
            np.testing.assert_allclose(found.heat, given.heat, atol=1e-4)
        else:
            turned += 1
            assert (found.index, found.name, found.against) == (0, "not defect", 0)
            assert found.probability == pytest.approx(1 - given.probability, abs=1e-6)
            assert np.abs(found.heat - given.heat).max() > 0.1
    assert 0 < turned < 4


def test_a_class_as_numpy_has_it_and_not_beside_top(folder):
    explainer = Explainer(folder / "classes.onnx")
    (found,) = explainer.explain(photo(), np.int64(2))
    assert found.index == 2
    with pytest.raises(ValueError, match=r"give classes or top, not both: got \[2\] and top=3"):
        explainer.explain(photo(), 2, top=3)


def test_classes_are_read_once_for_all_photographs(folder):
    explainer, photos = Explainer(folder / "classes.onnx"), [photo(seed) for seed in range(5)]
    for _, found in explainer.explain_all(photos, (c for c in ("bee", 3)), batch=2):
        assert [one.index for one in found] == [1, 3]
    with pytest.raises(ValueError, match="classes is empty"):
        explainer.explain(photo(), [])
    for wrong in (1.7, True):
        with pytest.raises(TypeError, match="a class is an index or a name, got"):
            explainer.explain(photo(), [wrong])


def test_a_file_is_no_folder(folder, tmp_path):
    photo().save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo.png is a file: pass a folder, or \["):
        next(Explainer(folder / "top.onnx").explain_all(tmp_path / "photo.png"))


def test_a_classifier_of_grey_images(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), tiny_network()).eval()
    images, norm = torch.rand(4, 1, SIDE, SIDE), Normalization([0.5], [0.25])
    path = export_onnx(net, tmp_path / "grey.onnx", images, normalization=norm)
    (found,) = Explainer(path).explain(photo())
    pixels = torch.from_numpy(np.array(cropped(photo(), (SIDE, SIDE)).convert("L")))[None, None]
    scores, maps = ExplainedClassifier(net, images)(norm.normalize(pixels / 255))
    assert found.index == int(scores.argmax())
    np.testing.assert_allclose(found.heat, maps[0], atol=1e-4)


def test_probabilities_in_half_precision_are_no_scores(tmp_path):
    net = torch.nn.Sequential(tiny_network(3), torch.nn.Softmax(1)).eval()
    images = normal(photos=4)
    found = {}
    for name, kind in {"single": torch.float32, "half": torch.float16}.items():
        explained = ExplainedClassifier(net, images).to(kind)
        path = tmp_path / f"{name}.onnx"
        export_onnx(explained, path, images.to(kind), normalization=NORMALIZATION)
        explainer = Explainer(path)
        found[name] = [explainer.explain(photo(seed))[0].probability for seed in range(20)]
    np.testing.assert_allclose(found["half"], found["single"], atol=0.005)
