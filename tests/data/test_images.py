import hashlib
import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features
from support.paths import ROOT

import multispace.data.images
from multispace.data.images import conversions, decode, digest, read_bytes
from multispace.errors import ImageError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def encoded(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def pixels(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode(content, "x.jpg")
    assert image.mode == "RGB"
    return np.asarray(image)


def alike(grey):
    """Return a grey image as RGB."""
    return np.repeat(grey[..., None], 3, axis=2)


def test_rgb():
    np.testing.assert_array_equal(pixels(encoded(RGB)), RGB)
    np.testing.assert_array_equal(pixels(encoded(RGB, "BMP")), RGB)


def test_grey():
    np.testing.assert_array_equal(pixels(encoded(GREY)), alike(GREY))
    bits = GREY > 127
    np.testing.assert_array_equal(pixels(encoded(bits)), alike(bits * np.uint8(255)))


def test_transparency_is_left_out():
    for alpha in (0, 128, 255):
        opaque = np.full((5, 7, 1), alpha, np.uint8)
        np.testing.assert_array_equal(pixels(encoded(np.concatenate((RGB, opaque), 2))), RGB)
        grey = np.concatenate((GREY[..., None], opaque), 2)
        np.testing.assert_array_equal(pixels(encoded(grey)), alike(GREY))


@pytest.mark.parametrize("options", [{}, {"transparency": 2}, {"transparency": b"\x00\x80\xff"}])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette(kind, options):
    if kind == "GIF" and isinstance(options.get("transparency"), bytes):
        pytest.skip("GIF has one transparent colour")
    colours = np.array([[255, 0, 0], [0, 128, 0], [10, 20, 30]], np.uint8)
    index = np.arange(35, dtype=np.uint8).reshape(5, 7) % 3
    image = Image.fromarray(index).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    np.testing.assert_array_equal(pixels(encoded(image, kind, **options)), colours[index])


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # full magenta and yellow: red
    found = pixels(encoded(image, "JPEG", quality=95)).astype(int)
    assert abs(found - [255, 0, 0]).max() <= 12


def png16(grey, *size):
    """Write a 16-bit grey PNG by hand (PNG specification, section 5), perhaps with a false size."""
    height, width = size or grey.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


@pytest.mark.parametrize("encode", [png16, encoded, lambda grey: encoded(grey, "TIFF")])
def test_sixteen_bits_are_scaled_not_clipped(encode):
    deep = np.array([[0, 256, 257, 32896, 65534, 65535]], np.uint16)
    expected = np.array([[0, 0, 1, 128, 254, 255]], np.uint8)
    np.testing.assert_array_equal(pixels(encode(deep)), alike(expected))


def test_32_bits_are_read_as_16():
    deep = np.array([[-5, 0, 65535, 1 << 30]], np.int32)
    expected = np.array([[0, 0, 255, 255]], np.uint8)
    np.testing.assert_array_equal(pixels(encoded(deep, "TIFF")), alike(expected))


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match=r"^x.tif: not a readable image \(floating-point"):
        decode(encoded(np.ones((2, 2), np.float32), "TIFF"), "x.tif")


@pytest.mark.parametrize(
    ("orientation", "upright"),  # EXIF 2.32, tag 274: where the stored row 0 and column 0 are
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.swapaxes(0, 1)),
        (6, lambda p: np.rot90(p, -1)),  # a quarter clockwise
        (7, lambda p: p[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda p: np.rot90(p)),
        (99, lambda p: p),
    ],
)
def test_exif_orientation_is_applied(orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    np.testing.assert_array_equal(pixels(encoded(RGB, exif=exif)), upright(RGB))


def test_deep_images_are_turned_too():
    exif = Image.Exif()
    exif[274] = 6
    deep = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(pixels(encoded(deep, exif=exif)), alike(np.rot90(GREY, -1)))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    found = pixels(content)
    assert found.shape == (3, 4, 3)
    assert (found == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_an_image_that_is_cut_off_is_refused(kind, tmp_path):
    content = encoded(np.tile(RGB, (20, 20, 1)), kind)
    assert pixels(content).shape == (100, 140, 3)
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(ImageError, match=f"^{tmp_path}/x.jpg: not an? ") as caught:
            decode(content[: int(len(content) * share)], tmp_path / "x.jpg")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"a red bus\n", b"\0" * 100, b"%PDF-1.4", b"<svg></svg>"])
def test_what_is_no_image_is_refused(content, tmp_path):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        decode(read_bytes(tmp_path / "x.jpg"), tmp_path / "x.jpg")
    assert str(caught.value) == f"{tmp_path}/x.jpg: not an image of a known format"


def test_an_image_too_large_to_be_meant_is_refused(monkeypatch):
    monkeypatch.setattr(multispace.data.images, "MAX_PIXELS", 34)
    with pytest.raises(ImageError, match="7 x 5 pixels exceeds limit 34"):
        decode(encoded(RGB), "x.png")
    monkeypatch.setattr(multispace.data.images, "MAX_PIXELS", 35)
    assert decode(encoded(RGB), "x.png").size == (7, 5)
    with pytest.raises(ImageError, match="exceeds limit"):  # Pillow's own word
        decode(png16(GREY, 30_000, 30_000), "x.png")


def test_a_bomb_is_refused_by_its_header_without_a_warning():
    script = (
        "import sys; from multispace.data.images import decode; "
        "decode(sys.stdin.buffer.read(), 'x.png')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=png16(GREY, 10_000, 10_000), cwd=ROOT,
        capture_output=True, check=False,
    )  # fmt: skip
    assert b"10000 x 10000 pixels exceeds limit" in done.stderr.splitlines()[-1]
    assert b"Warning" not in done.stderr


def test_a_strip_is_refused():
    assert decode(encoded(np.zeros((1, 100, 3), np.uint8)), "x.png").size == (100, 1)
    with pytest.raises(ImageError, match="101 x 1 pixels, longer than 100:1"):
        decode(encoded(np.zeros((1, 101, 3), np.uint8)), "x.png")


def test_postscript_is_not_run():
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageError, match="PostScript"):
        decode(head, "x.eps")


@pytest.mark.parametrize(
    ("image", "kind", "name", "expected"),
    [
        (RGB, "PNG", "x.png", []),
        (RGB, "WEBP", "x.webp", []),
        (RGB, "JPEG", "x.JPG", []),
        (GREY, "JPEG", "x.jpg", ["grey to RGB"]),
        (RGB, "PNG", "x.jpg", ["extension of another format"]),
        (RGB, "PNG", "x", ["extension of another format"]),
        (GREY.astype(np.uint16), "PNG", "x.png", ["16 bits to 8"]),
        (Image.new("CMYK", (8, 8)), "JPEG", "x.jpg", ["CMYK to RGB"]),
        (Image.new("P", (8, 8)), "GIF", "x.gif", ["palette to RGB"]),
        (Image.new("RGBA", (8, 8)), "PNG", "x.png", ["transparency left out"]),
        (Image.new("LAB", (8, 8)), "TIFF", "x.tif", ["mode LAB to RGB"]),
    ],
)
def test_conversions_are_named_from_the_header(image, kind, name, expected):
    assert conversions(encoded(image, kind), Path(name)) == expected


def test_conversions_of_rotated_and_animated_images():
    exif = Image.Exif()
    exif[274] = 6
    assert conversions(encoded(RGB, "JPEG", exif=exif), Path("x.jpg")) == ["turned upright by EXIF"]
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert "first frame of several" in conversions(moving, Path("x.webp"))
    assert (pixels(moving) == [255, 0, 0]).all()
    with pytest.raises(ImageError, match="not an image of a known format"):
        conversions(b"no image", Path("x.jpg"))


KINDS = ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "DDS"]


@pytest.mark.parametrize("kind", KINDS + ["AVIF"] * features.check("avif"))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_image_is_read_or_refused(kind):
    chance = random.Random(1)
    content = encoded(np.tile(RGB, (4, 4, 1)), kind)
    refused = 0
    for _ in range(150):
        other = bytearray(content)
        for _ in range(chance.choice((1, 2, 4))):
            other[chance.randrange(min(len(other), 300))] = chance.randrange(256)
        try:
            decode(bytes(other), "x.jpg")
        except ImageError as error:
            refused += 1
            assert str(error).startswith(("x.jpg: not a readable image (", "x.jpg: not an image "))  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert refused


def test_files_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "x.jpg"
    with pytest.raises(ImageError, match=f"^{path}: no such file$"):
        read_bytes(path)
    with pytest.raises(ImageError, match=f"^{path}/y: Not a directory$|^{path}/y: no such"):
        read_bytes(path / "y")
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=f"^{path}: empty file$"):
        read_bytes(path)
    with pytest.raises(ImageError, match=f"^{tmp_path}: not a plain file$"):
        read_bytes(tmp_path)
    path.write_bytes(b"abc")
    assert read_bytes(path) == b"abc"


@pytest.mark.parametrize("name", ["comment", "profile"])
def test_a_png_with_megabytes_of_text_or_profile_is_decoded(name):
    if name == "comment":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", "x" * 3_000_000, zip=True)
        content = encoded(RGB, pnginfo=info)
    else:
        content = encoded(RGB, icc_profile=b"x" * 3_000_000)
    np.testing.assert_array_equal(pixels(content), RGB)
    assert conversions(content, Path("x.png")) == []
    with pytest.raises(ImageError, match="not a readable image"):
        decode(content[:-40], "x.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_data_leave_the_pixels(kind):
    content = encoded(RGB, kind, exif=b"Exif\x00\x00no TIFF file at all")
    assert pixels(content).shape == RGB.shape
    assert conversions(content, Path("x." + kind.lower())) == []


def test_any_exception_of_a_decoder_is_the_failure_of_that_image(monkeypatch):
    def fail(self):
        raise AttributeError("no attribute 'stkoffset'")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"^x.png: not a readable image \(no attribute"):
        decode(encoded(RGB), "x.png")
    head = np.zeros(27, "<f4")
    head[[0, 1, 4, 11, 12, 21, 22, 23]] = 1, 8, 1, 8, 27, 864, 32, 1
    with pytest.raises(ImageError):
        decode(head.tobytes() + bytes(756), "x.spider")


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(ImageError, match=f"^{tmp_path}/{name}: not a plain file$"):
            read_bytes(tmp_path / name)


def test_an_endless_file_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(multispace.data.images, "MAX_BYTES", 1000)
    (tmp_path / "x.jpg").write_bytes(bytes(1001))
    with pytest.raises(ImageError, match="larger than 1000 bytes"):
        read_bytes(tmp_path / "x.jpg")


def test_heic_images_name_the_package_that_reads_them():
    head = struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(12)
    with pytest.raises(ImageError, match="^x.heic: HEIC image; pip install pillow-heif$"):
        decode(head, "x.heic")


def test_decoders_write_nothing_to_the_terminal():
    script = """
import io, random, sys
from PIL import Image
from multispace.data.images import decode
from multispace.errors import ImageError
memory = io.BytesIO()
Image.effect_noise((64, 64), 50).convert("1").save(memory, "TIFF", compression="group4")
chance = random.Random(1)
for _ in range(100):
    damaged = bytearray(memory.getvalue())
    for _ in range(5):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    try:
        decode(bytes(damaged), "x.tif")
    except ImageError:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert done.stderr == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"abc")
    path.chmod(0)
    with pytest.raises(ImageError, match=f"^{path}: Permission denied$"):
        read_bytes(path)


def test_the_digest_is_that_of_the_file(tmp_path):
    assert digest(b"abc") == hashlib.sha256(b"abc").digest()
    assert len(digest(b"")) == 32
