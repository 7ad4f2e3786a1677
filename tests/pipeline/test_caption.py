"""`caption`: captions of new images, on a terminal, in a file, on a page."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from multispace.cli import main
from multispace.data.annotations import read_collection
from multispace.errors import OptionError
from multispace.pipeline import caption as module
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.score import score_results

EMPTY_TAGS = {"meta", "img"}


@pytest.fixture(scope="module")
def photos(tiny_collection, tmp_path_factory):
    """A folder with four images, one that is damaged, and a text."""
    folder = tmp_path_factory.mktemp("photos")
    for file in sorted((tiny_collection / "images").glob("test-*.png")):
        shutil.copy(file, folder)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "captions.csv").write_text("image,caption")
    return folder


def ask(run: Path, *images: object, **other) -> CaptionOptions:
    return CaptionOptions(run, [str(image) for image in images], device="cpu", **other)


class Page(HTMLParser):
    """Text, tags and attributes of a page; refuses tags that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self._open = "", [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data


def test_folders_and_patterns_are_captioned_and_what_is_broken_is_listed(tiny_run, photos):
    found = caption(ask(tiny_run, photos))
    assert [Path(name).name for name in found.captions] == [
        f"test-0{n}.png" for n in (17, 18, 19, 20)
    ]
    (message,) = found.messages()
    assert message.startswith(f"skipped: {photos / 'broken.png'}: not an image")
    assert found.exit_status == 3
    again = caption(ask(tiny_run, f"{photos}/test-*.png", f"{photos}/*.gif"))
    assert again.captions == found.captions
    assert again.messages() == (f"skipped: {photos}/*.gif: no file fits it",)


def test_without_any_image_nothing_is_written(tiny_run, photos, tmp_path):
    asked = ask(tiny_run, photos / "broken.png", f"{photos}/*.gif",
                out=tmp_path / "r.json", html=tmp_path / "p.html")  # fmt: skip
    found = caption(asked)
    assert (found.exit_status, found.written, len(found.failures)) == (1, (), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 3])
def test_parts_of_any_size_give_the_same_captions(tiny_run, photos, tmp_path, monkeypatch, size):
    asked = ask(tiny_run, photos, samples=2, html=tmp_path / "page.html")
    whole = caption(asked)
    monkeypatch.setattr(module, "PART", size)
    assert caption(asked) == whole


def test_results_are_scored_by_their_names(tiny_run, tiny_collection, photos, tmp_path):
    out = tmp_path / "results.json"
    found = caption(ask(tiny_run, photos, out=out))
    assert found.written == (out,)
    assert found.render() == f"4 images: {out}"
    entries = json.loads(out.read_text())
    assert entries[0] == {
        "image_id": str(photos / "test-017.png"),
        "caption": found.captions[str(photos / "test-017.png")],
        "file_name": str(photos / "test-017.png"),
    }
    scores = score_results(out, tiny_collection / "test.json", ("rouge",))
    assert len(scores.per_image) == len(read_collection(tiny_collection / "test.json").images) == 4


def test_names_of_coco_give_the_ids_of_coco(tiny_run, photos, tmp_path):
    names = ("COCO_val2014_000000000042.png", "000000000139.png")
    for name in names:
        shutil.copy(photos / "test-017.png", tmp_path / name)
    out = tmp_path / "results.json"
    files = [tmp_path / name for name in names]
    caption(ask(tiny_run, *files, out=out))
    assert [entry["image_id"] for entry in json.loads(out.read_text())] == [42, 139]
    caption(ask(tiny_run, *files, photos / "test-017.png", out=out))
    assert json.loads(out.read_text())[0]["image_id"] == str(files[0])
    (tmp_path / "again").mkdir()
    shutil.copy(files[0], tmp_path / "again")
    caption(ask(tiny_run, *files, tmp_path / "again", out=out))
    assert len({entry["image_id"] for entry in json.loads(out.read_text())}) == 3


def test_a_page_holds_images_and_captions_and_asks_for_nothing(tiny_run, photos, tmp_path):
    hostile = tmp_path / "<script>alert(1)</script>" / 'a"onload="x.png'
    hostile.parent.mkdir(parents=True)
    Image.new("RGB", (900, 600), "red").save(hostile)
    html = tmp_path / "page.html"
    found = caption(ask(tiny_run, photos, hostile, html=html, samples=3))
    assert (found.written, len(found.samples)) == ((html,), 5)
    page = Page(html)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    links = [value for name, value in page.attributes if name not in ("src", "content")]
    assert "//" not in "".join(links)
    assert page.tags.count("li") == 5 * 3 + 1
    assert str(hostile) in page.text
    assert f"{photos / 'broken.png'}: not an image" in page.text
    policy = next(value for name, value in page.attributes if "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "color-scheme: light dark" in html.read_text()
    assert "@media print" in html.read_text()
    start = "data:image/jpeg;base64,"
    sources = [value for name, value in page.attributes if name == "src"]
    assert [source[: len(start)] for source in sources] == [start] * 5
    image = Image.open(io.BytesIO(base64.b64decode(sources[-1][len(start) :])))
    assert (image.format, image.size) == ("JPEG", (320, 213))
    alternatives = [value for name, value in page.attributes if name == "alt"]
    assert alternatives == [texts[0] for texts in found.samples.values()]


def test_a_failure_leaves_the_old_page(tiny_run, photos, tmp_path, monkeypatch):
    html = tmp_path / "page.html"
    html.write_text("old")

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "single_captions", fail)
    with pytest.raises(KeyboardInterrupt):
        caption(ask(tiny_run, photos, html=html))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_consensus_is_chosen_among_the_samples(tiny_run, photos):
    short = caption(ask(tiny_run, photos, consensus=True))
    assert short == caption(ask(tiny_run, photos, single_caption="consensus"))
    some = caption(ask(tiny_run, photos, consensus=True, samples=3))
    drawn = caption(ask(tiny_run, photos, samples=3))
    assert some.samples == {}
    assert all(text in drawn.samples[name] for name, text in some.captions.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consensus": True, "single_caption": "mode"}, "--consensus and --single-caption mode"),
        ({"samples": 2, "single_caption": "mode"}, "give one of them; --consensus chooses among"),
        ({"samples": 2, "out": Path("x")}, "--out x and --samples 2: the format has one caption"),
        ({"out": Path("x"), "html": Path("x")}, "--out and --html x: they are the same file"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tiny_run, options, message):
    with pytest.raises(OptionError, match=message):
        ask(tiny_run, "a.jpg", **options)


def test_the_command_writes_files_and_prints_json(tiny_run, photos, tmp_path):
    words = ["caption", str(tiny_run), str(photos), "--device", "cpu"]
    words += ["--html", str(tmp_path / "p.html"), "--out", str(tmp_path / "r.json")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3, result.output
    assert result.stdout == f"4 images: {tmp_path / 'r.json'}\n4 images: {tmp_path / 'p.html'}\n"
    printed = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert len(printed) == len(json.loads((tmp_path / "r.json").read_text())) == 4
