import contextlib
import http.server
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multispace.data import image_inputs
from multispace.data.image_inputs import image_source, open_source, read_source
from multispace.data.remote import image_download as image_url
from multispace.data.remote.image_download import fetch_image
from multispace.errors import ImageError

PIXELS = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)


def png(pixels=PIXELS):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves an image, and the ways in which a server can fail."""

    def do_GET(self):
        if self.path.startswith("/image.png"):
            return self.answer(png())
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/image.png?size=large")
            return self.end_headers()
        if self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            return self.end_headers()
        if self.path == "/text":
            return self.answer(b"this is text")
        if self.path == "/empty":
            return self.answer(b"")
        if self.path == "/short":
            return self.answer(png()[:100], length=1000)
        if self.path == "/large":
            return self.answer(b"x" * 3000)
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client gives up first
                while not self.server.done.wait(0.01):
                    self.wfile.write(b"x")
            return None
        return self.send_error(404)

    def answer(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.done = threading.Event()
        served.daemon_threads = True
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.done.set()
        served.shutdown()


def opened(image):
    source = image_source(image, "images[0]")
    return np.asarray(open_source(read_source(source), source))


def test_all_kinds_of_input_give_the_same_pixels(server, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(png())
    with Image.open(file) as pillow:
        for image in (file, str(file), f"{server}/image.png", f"{server}/moved", pillow, PIXELS):
            np.testing.assert_array_equal(opened(image), PIXELS)


def test_an_image_in_memory_is_converted_as_a_file_is(tmp_path):
    file = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    grey = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    grey.save(file, exif=exif)
    with Image.open(file) as pillow:
        assert pillow.mode == "I;16"
        np.testing.assert_array_equal(opened(pillow), opened(file))
    assert opened(file).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS[..., 0], r"images\[0\]: array of shape \(30, 20\); give height x width x 3"),
        (PIXELS[:0], "array of shape"),
        (PIXELS / 255, r"type float64; give uint8 .*255 \* array"),
        ("s3://bucket/image.png", "only http:// and https://"),
        ("file:///etc/hostname", "only http:// and https://"),
        (3, "'int' is not an image; give a path, a URL"),
        (None, "'NoneType' is not an image"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        image_source(image, "images[0]")


def test_an_image_in_memory_keeps_to_the_limits_of_files(monkeypatch):
    for image, message in (
        (Image.new("RGB", (1, 200)), "longer than 100:1"),
        (Image.new("RGB", (0, 0)), "0 x 0 pixels"),
        (Image.new("F", (5, 5)), "floating-point"),
    ):
        with pytest.raises(ImageError, match=message):
            opened(image)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "the server answers 404"),
        ("empty", "empty file"),
        ("short", "ended 900 bytes early"),
        ("file", "not allowed"),
    ],
)
def test_a_failed_fetch_names_the_address(server, path, message):
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(f"{server}/{path}")
    assert str(caught.value).startswith(f"{server}/{path}: ")


def test_what_is_fetched_is_checked_as_a_file_is(server):
    with pytest.raises(ImageError, match="not an image"):
        opened(f"{server}/text")


def test_size_and_time_are_limited(server, monkeypatch):
    monkeypatch.setattr(image_url, "MAX_BYTES", 2999)
    with pytest.raises(ImageError, match="more than 2999 bytes"):
        fetch_image(f"{server}/large")
    monkeypatch.setattr(image_url, "MAX_SECONDS", 0.2)
    with pytest.raises(ImageError, match="not complete after 0.2 seconds"):
        fetch_image(f"{server}/slow")


def test_addresses_that_lead_nowhere_are_refused():
    for url in (
        "http://127.0.0.1:1/a.png",
        "http://[/a.png",
        "http://:0/",
        "https://user:pw@a.org/b.png",
    ):
        with pytest.raises(ImageError) as caught:
            fetch_image(url)
        assert "pw" not in str(caught.value)


def test_a_path_is_not_fetched():
    assert image_source("httpx.png", "images[0]") == Path("httpx.png")
    assert image_inputs.WEB == ("http://", "https://")
