"""Whatever is wrong with what a command is given: a line, an exit code, no traceback, no file."""

import numpy as np
import pytest
import torch
from PIL import Image

from learnable_cam_plugin import random_attention

from ..conftest import tiny_network
from .networks import HERE
from .photographs import photographs, run, spoilt

LAST = "model.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs and files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("place")
    photographs(folder / "in", 2)
    (folder / "none").mkdir()
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.jpg").touch()
    Image.open(folder / "in" / "000.jpg").save(folder / "half.jpg")
    spoilt(folder / "half.jpg")
    images = torch.rand(2, 3, 32, 32)
    random_attention(tiny_network(seed=5), ["4"], images).save(folder / "other.safetensors")
    random_attention(tiny_network(7), ["4"], images).save(folder / "seven.safetensors")
    random_attention(tiny_network(), ["4"], images).save(folder / "good.safetensors")
    good = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(good[:-9])
    (folder / "altered.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    torch.save({"a": torch.zeros(2)}, folder / "pickle.pt")
    (folder / "names.txt").write_bytes(b"\xff\xfe caf\xe9")
    (folder / "two.txt").write_text("a\nb")
    (folder / "gap.txt").write_text("a\n\nb\nc\nd")
    return folder


# arguments, the message's part, the exit code; "@" is the folder
WRONG = {
    "a photograph that is not there": ("explain @/gone.jpg", "could not be read: 1"),
    "a text named as one": ("explain @/text.jpg", "could not be read: 1"),
    "an empty file": ("explain @/empty.jpg", "could not be read: 1"),
    "a truncated photograph": ("explain @/half.jpg", "could not be read: 1"),
    "an empty folder": ("explain @/none", "no photograph ("),
    "a pattern of nothing": ("explain @/*.tif", "no photograph matches '"),
    "an unknown class": ("explain @/in --class dgo", "no class 'dgo' (did you mean 'dog'?)"),
    "a class out of range": ("explain @/in --class 5", "no class '5': indices are 0 to 4"),
    "too many classes": ("explain @/in --top 6", "top must be 1 to 5"),
    "names that are no text": ("explain @/in --names @/names.txt", "is no text in UTF-8"),
    "names that are not there": ("explain @/in --names @/gone.txt", "gone.txt"),
    "an empty name": ("explain @/in --names @/gap.txt", "line 2 is empty: write the name of a"),
    "names that are too few": ("explain @/in --names @/two.txt --class a", "2 class names"),
    "names that are too few, unasked": ("explain @/in --names @/two.txt", "2 class names"),
    "names that are too few, on pages": (
        "explain @/in --names @/two.txt --write pages",
        "2 class names",
    ),
    "no CUDA for pages": ("explain @/in --device cuda --write pages", "no CUDA device here"),
    "an attention that is not there": ("explain @/in --attention @/gone", "no attention at"),
    "an attention of other weights": (
        "explain @/in --attention @/other.safetensors",
        "was made for",
    ),
    "an attention of other classes": (
        "explain @/in --attention @/seven.safetensors",
        "was made for",
    ),
    "half an attention": ("explain @/in --attention @/cut.safetensors", "not a whole safetensors"),
    "an altered attention": (
        "explain @/in --attention @/altered.safetensors",
        "altered or damaged",
    ),
    "a pickle": ("explain @/in --attention @/pickle.pt", "never loaded"),
    "an output folder within a file": ("explain @/in --out @/text.jpg/out", "Not a directory"),
    "an output folder that is a file": ("explain @/in --out @/text.jpg", "is a file", 2),
    "no such kind of file": ("explain @/in --write overlay,gif", "'gif' is none of", 2),
    "pages with others": ("explain @/in --write pages,npy", "pages are made alone", 2),
    "pages of a class": ("explain @/in --write pages --class 1", "--class goes with", 2),
    "no CUDA": ("explain @/in --device cuda", "no CUDA device here"),
    "no library of that name": ("explain @/in --model no:resnet18", "no library or module 'no'"),
    "no model of that name": (
        "explain @/in --model torchvision:resnet81",
        "did you mean 'resnet18'",
    ),
    "a name without a source": ("explain @/in --model resnet18", "is named 'source:name'"),
    "no function of that name": (f"explain @/in --model {HERE}:smal", "did you mean 'small'"),
    "a function that fails": (f"explain @/in --model {HERE}:broken", "could not be made: KeyError"),
    "no normalisation": (f"explain @/in --model {HERE}:bare", "nothing records the normalisation"),
    "nothing to map": (f"explain @/in --model {HERE}:without_maps", "nothing to map"),
    "weights of another network": (
        "explain @/in --model torchvision:squeezenet1_1 --weights @/other.safetensors",
        "are not those of this SqueezeNet",
    ),
    "weights that are no file": (
        "explain @/in --model torchvision:squeezenet1_1 --weights @/gone.pth",
        "no weights at",
    ),
    "weights of the default": (
        "explain @/in --model efficientnet-lite0 --weights random",
        "has weights of its own",
    ),
    "train: no folder": ("train @/gone", "no folder of photographs at"),
    "train: no model": ("train @/in", "Missing option '--model'", 2),
    "train: no photograph that can be read": ("train @/bad", "1 of 1 photographs cannot be read"),
    "train: no epochs": ("train @/in --epochs 0", "'--epochs'", 2),
    "benchmark: nothing that can be read": ("benchmark @/half.jpg", "could not be read: 1"),
    "benchmark: an attention of other weights": (
        "benchmark @/in --attention @/other.safetensors",
        "was made for",
    ),
    "info: nothing there": ("info @/gone.safetensors", "no attention at"),
    "info: a photograph": ("info @/in/000.jpg", "not a whole safetensors file"),
    "info: half an attention": ("info @/cut.safetensors", "not a whole safetensors file"),
    "info: no ONNX file": ("info @/gone.onnx", "there is no ONNX file at"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_a_line_and_nothing_is_written(name, place, tmp_path):
    command, message, code = (*WRONG[name], 1)[:3]
    if name.endswith("no photograph that can be read"):
        (place / "bad").mkdir()
        (place / "bad" / "a.jpg").touch()
    arguments = command.replace("@", str(place)).split()
    writes = arguments[0] in ("explain", "train", "benchmark")
    if writes and "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    asked = writes and "--model" not in arguments and name != "train: no model"
    done = run(*arguments, model="small" if asked else None)
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    *before, last = done.stderr.strip().split("\n")
    known = ("Usage: ", "Try ", "left out: ")
    assert all(line.startswith(known) or not line for line in before), before
    assert last.startswith("Error: ")
    assert message in last
    assert done.stdout == ""
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").rglob(".*")) == []
    assert not list(tmp_path.rglob("*.p*"))


def kinds(folder):
    """Photographs that are unusual and none the less photographs."""
    grey = np.linspace(0, 65535, 40 * 36).reshape(36, 40)
    Image.fromarray(grey.astype("<u2")).save(folder / "sixteen.png")
    Image.effect_noise((40, 36), 80).convert("CMYK").save(folder / "inks.jpg")
    frames = [Image.new("RGB", (40, 36), colour) for colour in ("red", "lime")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    Image.new("LA", (40, 36), (90, 120)).save(folder / "clear.png")
    return 4


def test_16_bits_inks_animations_and_transparency_are_explained(tmp_path):
    (tmp_path / "in").mkdir()
    count = kinds(tmp_path / "in")
    done = run("explain", tmp_path / "in", "--write", "overlay", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").glob("*.overlay.png"))) == count
