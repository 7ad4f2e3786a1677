import io
import os

import numpy as np
import pytest
from PIL import Image

from multispace.data.survey import survey
from multispace.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """One file of each kind of dirt, some in a folder below."""
    image = Image.fromarray(PIXELS)
    (tmp_path / "sub").mkdir()
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "sub" / "plain.png")
    image.save(tmp_path / "plain.webp")
    image.convert("L").save(tmp_path / "grey.jpg")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(PIXELS[..., 0].astype(np.uint16)).save(tmp_path / "deep.png")
    image.save(tmp_path / "named.jpg", "PNG")
    turned = Image.Exif()
    turned[274] = 8
    image.save(tmp_path / "turned.jpg", exif=turned)
    memory = io.BytesIO()
    image.save(memory, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(memory.getvalue()[:-200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("a red bus")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_every_file_is_counted_by_what_becomes_of_it(folder):
    found = survey(folder)
    assert (found.files, found.decoded, found.plain) == (14, 14, 3)
    conversions = ("grey to RGB", "CMYK to RGB", "palette to RGB", "16 bits to 8",
                   "extension of another format", "turned upright by EXIF")  # fmt: skip
    assert found.converted == dict.fromkeys(conversions, 1)
    assert found.failures.pop("cut.jpg").startswith("not a readable image (")
    assert found.failures == {
        "empty.jpg": "empty file",
        "text.jpg": "not an image of a known format",
        "gone.jpg": "no such file",
        "pipe.jpg": "not a plain file",
    }


def test_of_those_beyond_the_sample_only_the_header_is_read(folder):
    found = survey(folder, sample=1)  # the first by name is cmyk.jpg
    assert (found.files, found.decoded, found.plain) == (14, 1, 4)
    assert "cut.jpg" not in found.failures
    assert len(found.failures) == 4
    assert found.render().splitlines()[0] == (
        f"14 files under {folder}: 1 decoded, 13 checked only by their headers"
    )
    assert found.exit_status == 3


def test_an_empty_folder_and_none(tmp_path):
    assert survey(tmp_path).to_json() == {
        "images": str(tmp_path), "files": 0, "decoded": 0, "plain": 0, "converted": {},
        "failures": {},
    }  # fmt: skip
    with pytest.raises(ImageError, match=f"^{tmp_path}/x: not a folder; give the folder"):
        survey(tmp_path / "x")
