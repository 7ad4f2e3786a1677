"""Annotation files of any content: read as a whole collection, or refused in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.hostile import altered, edited, edits

from multispace.data.annotations import read_collection
from multispace.data.annotations.collection import Collection
from multispace.data.cache.format.keys import check_key
from multispace.data.held_out import read_split_file
from multispace.errors import AnnotationError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=120)
COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "sub/b.png"}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "A red bus."},
        {"id": 2, "image_id": 7, "caption": "one two"},
    ],
}
KARPATHY = {
    "images": [
        {
            "filename": f"{number}.jpg", "imgid": number, "split": split,
            "sentences": [{"raw": "a dog", "sentid": number}],
        }
        for number, split in enumerate(("train", "val", "restval"))
    ],
    "dataset": "coco",
}  # fmt: skip
DOCUMENTS = {
    "coco": COCO,
    "karpathy": KARPATHY,
    "list": [{"file_path": "a.jpg", "id": 1, "captions": ["a dog", "two dogs"]}],
    "names": {"a.jpg": ["a dog"], "b.jpg": "a cat"},
}
TEXTS = {
    "tokens": "a.jpg#0\tA dog .\nb.jpg#0\tA cat .\nb.jpg#1\tA black cat .\n",
    "csv": 'image,caption,split\na.jpg,"A dog, sitting",train\nb.jpg,A cat,val\n',
    "pipe": "image_name| comment_number| comment\na.jpg| 0| A dog\nb.jpg| 0| A cat\n",
    "index": ",image,caption\n0,a.jpg,A dog\n1,b.jpg,A cat\n",
    "tabs": "file_name\ttext\na.jpg\tA dog\nb.jpg\tA cat\n",
    "lines": '{"file_name": "a.jpg", "text": "A dog"}\n{"file_name": "b.jpg", "text": "A cat"}\n',
}
SPLIT = {"heldout_pairs": ["red_bus"], "val_images_split": ["3"], "test_images_split": [14]}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("any") / "captions"


def assert_read_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        collection = read_collection(path)
    except AnnotationError as error:
        event("refused")
        assert_one_line(str(error), path)
        return
    event("read")
    assert_whole(collection)


def assert_one_line(message: str, path: Path) -> None:
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 1000


def assert_whole(collection: Collection) -> None:
    """Check that the collection can be stored: safe keys, one each, and captions of text."""
    assert collection.images
    assert len({image.key for image in collection.images}) == len(collection.images)
    for image in collection.images:
        check_key(image.key)
        assert image.captions
        for caption in image.captions:
            caption.encode()
            assert caption.strip()
    for problem in collection.problems:
        assert "\n" not in str(problem)


@pytest.mark.parametrize("name", [*DOCUMENTS, *TEXTS])
def test_what_nobody_changed_is_read(path, name):
    content = TEXTS[name] if name in TEXTS else json.dumps(DOCUMENTS[name])
    path.write_text(content)
    assert_whole(read_collection(path))


@SETTINGS
@given(data=st.data())
def test_any_change_of_json_is_read_or_refused(path, data):
    document = json.loads(json.dumps(DOCUMENTS[data.draw(st.sampled_from(sorted(DOCUMENTS)))]))
    text = data.draw(altered(document))
    assert_read_or_refused(path, text.encode("utf-8", "surrogatepass"))


@SETTINGS
@given(data=st.data())
def test_any_change_of_bytes_is_read_or_refused(path, data):
    names = sorted((*TEXTS, *DOCUMENTS))
    name = data.draw(st.sampled_from(names))
    content = TEXTS[name] if name in TEXTS else json.dumps(DOCUMENTS[name])
    assert_read_or_refused(path, edited(content.encode(), data.draw(edits)))


@SETTINGS
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(path, content):
    assert_read_or_refused(path, content)


@SETTINGS
@given(data=st.data())
def test_any_published_split_is_read_or_refused(path, data):
    path.write_bytes(data.draw(altered(json.loads(json.dumps(SPLIT)))).encode(errors="replace"))
    try:
        held, ids = read_split_file(path)
    except AnnotationError as error:
        assert_one_line(str(error), path)
        return
    assert held.pairs
    assert all(isinstance(image, str) for image in ids)
