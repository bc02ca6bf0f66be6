"""Whatever photograph is given: the pixels that a viewer shows, or an error that names the file."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.data import PhotoFolder, photo_transform, read_photo

from .processes import python

UNIT = Normalization([0.0], [1.0])
T = Image.Transpose
# EXIF orientation -> how a camera stores an upright picture under it
STORED = {
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def scene(width=48, height=32):
    """Smooth, with no symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, x * (1 - y)], -1) * 255).astype(np.uint8))


def difference(a, b):
    """The largest of a pixel, in levels of 255."""
    assert a.size == b.size
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_a_rotated_photograph_is_read_upright(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = STORED[orientation]
    stored = scene() if how is None else scene().transpose(how)
    stored.save(tmp_path / f"a.{kind}", exif=exif.tobytes(), quality=100)
    assert difference(read_photo(tmp_path / f"a.{kind}"), scene()) < 16


def test_orientation_is_honoured_where_a_jpeg_is_decoded_by_parts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(480, 320).transpose(T.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = read_photo(tmp_path / "a.jpg", size=28)
    assert read.size < (480, 320)
    assert difference(read, scene(480, 320).resize(read.size)) < 16


LEVELS = np.linspace(0, 65535, 32 * 48).reshape(32, 48)


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("png", LEVELS.astype("<u2")),
        ("tiff", LEVELS.astype("<u2")),
        ("tiff", LEVELS.astype(">u2")),
        ("tiff", LEVELS.astype(np.int32)),
        ("tiff", (LEVELS / 65535).astype(np.float32)),
    ],
    ids=["png", "tiff", "big-endian", "32 bits", "float"],
)
def test_deep_grey_levels_are_scaled_not_clipped(tmp_path, kind, levels):
    Image.fromarray(levels).save(tmp_path / f"a.{kind}")
    read = np.asarray(read_photo(tmp_path / f"a.{kind}"))
    assert read.shape == (32, 48, 3)
    assert np.abs(read[..., 0] - LEVELS / 257).max() < 1.01


@pytest.mark.parametrize("value", [255.0, -1.0, np.nan], ids=str)
def test_grey_levels_of_unknown_range_are_refused(tmp_path, value):
    levels = np.full((4, 4), 0.5, np.float32)
    levels[0, 0] = value
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff .* grey levels are .*, not 0 to 1"):
        read_photo(tmp_path / "a.tiff")


def half_transparent(mode):
    """Left half red (grey in LA), right half transparent over what is black."""
    rgba = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    rgba.paste((0, 0, 0, 0), (4, 0, 8, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([255, 0, 0, 0, 0, 0])
        palette.paste(1, (4, 0, 8, 8))
        palette.info["transparency"] = 1
        return palette
    if mode == "RGB":
        rgb = Image.new("RGB", (8, 8), (255, 0, 0))
        rgb.paste((0, 0, 0), (4, 0, 8, 8))
        rgb.info["transparency"] = (0, 0, 0)
        return rgb
    return rgba.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_is_white(tmp_path, mode):
    picture = half_transparent(mode)
    picture.save(tmp_path / "a.png", transparency=picture.info.get("transparency"))
    read = read_photo(tmp_path / "a.png")
    assert read.mode == "RGB"
    assert read.getpixel((6, 4)) == (255, 255, 255)
    assert read.getpixel((1, 4)) == ((76, 76, 76) if mode == "LA" else (255, 0, 0))


def test_a_cmyk_jpeg_with_adobes_inverted_inks_has_its_colours(tmp_path):
    scene().convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert difference(read_photo(tmp_path / "a.jpg"), scene()) < 8


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert read_photo(path).getpixel((4, 4)) == (255, 0, 0)


def claiming(width, height):
    """A small PNG file that claims to be of another size."""
    content = io.BytesIO()
    Image.new("L", (4, 4)).save(content, "PNG")
    png = bytearray(content.getvalue())
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 9_000), (50_000, 40_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(claiming(*size))
    with pytest.raises(ValueError, match=r"bomb\.png is not a readable image: .*pixels") as refused:
        read_photo(tmp_path / "bomb.png")
    told = str(refused.value).replace(",", "")
    assert str(size[0] * size[1]) in told
    assert any(limit in told for limit in ("89478485", "178956970"))  # Pillow's


def test_a_strip_that_the_resize_would_blow_up_is_refused(tmp_path):
    Image.new("RGB", (20_000, 10)).save(tmp_path / "strip.png")
    assert read_photo(tmp_path / "strip.png").size == (20_000, 10)
    with pytest.raises(ValueError, match=r"strip\.png .* 131,072,000 when its shorter side is"):
        PhotoFolder(tmp_path, UNIT)[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_a_damaged_file_is_an_error_that_names_it_or_is_read(tmp_path, kind):
    """Cut, or with bytes changed, anywhere: nothing but a ValueError, whatever a decoder raises."""
    content = io.BytesIO()
    scene().save(content, {"jpg": "jpeg"}.get(kind, kind))
    whole, path = content.getvalue(), tmp_path / f"a.{kind}"
    chance, refused = random.Random(0), []
    for trial in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if trial % 3 == 0 else whole)
        for _ in range(chance.randrange(1, 8) if damaged and trial % 3 else 0):
            damaged[chance.randrange(min(len(damaged), 400))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            assert read_photo(path, size=8).mode == "RGB"
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(error.startswith(f"{path} is not a readable image: ") for error in refused)


def test_what_is_no_image_at_all_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("empty.jpg", "text.jpg", "folder.jpg"):
        with pytest.raises(ValueError, match=name):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        read_photo(tmp_path / "gone.jpg")
    assert [p.name for p in PhotoFolder(tmp_path, UNIT).files] == ["empty.jpg", "text.jpg"]


@pytest.mark.parametrize("size", [(500, 375), (1535, 1700)])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_ordinary_photograph_has_the_pixels_it_always_had(tmp_path, kind, size):
    scene(*size).save(tmp_path / f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as image:
        plain = photo_transform(UNIT)(image.convert("RGB"))
    assert torch.equal(PhotoFolder(tmp_path, UNIT)[0], plain)
    assert torch.equal(photo_transform(UNIT)(read_photo(tmp_path / f"a.{kind}")), plain)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_far_larger_one_is_reduced_first_and_looks_the_same(tmp_path, kind):
    noise = Image.effect_noise((2400, 1600), 60).convert("RGB")
    Image.blend(scene(2400, 1600), noise, 0.3).save(tmp_path / f"a.{kind}", quality=95)
    whole = read_photo(tmp_path / f"a.{kind}")
    read = read_photo(tmp_path / f"a.{kind}", size=224)
    assert whole.size == (2400, 1600)
    assert read.size == (1200, 800)
    apart = (photo_transform(UNIT)(read) - photo_transform(UNIT)(whole)).abs() * 255
    assert apart.mean() < 1
    assert apart.max() < 8


@pytest.mark.parametrize(("kind", "limit"), [("jpg", 200), ("png", 400)])
def test_48_megapixels_are_read_in_bounded_memory(tmp_path, kind, limit):
    """Whole it is 144 MB in RGB, and 576 MB in float32."""
    scene(80, 60).save(tmp_path / f"a.{kind}")
    scene(8000, 6000).save(tmp_path / f"b.{kind}", compress_level=1)
    code = """
import sys
from learnable_cam_plugin import Normalization
from learnable_cam_plugin.data import PhotoFolder
photos = PhotoFolder(sys.argv[1], Normalization([0.0], [1.0]))
small = photos[0]
before = peak()
assert photos[1].shape == small.shape
print(peak() - before)
"""
    assert float(python(code, tmp_path)) < limit
