import hashlib
import json
from pathlib import Path

import pytest
from support.paths import DATA

from multispace.data.annotations import CaptionedImage, Collection, Problem, read_collection
from multispace.data.annotations.collection import split_in_name, tidy
from multispace.data.cache.keys import safe_key
from multispace.errors import AnnotationError


def write(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_bytes(content.encode())
    else:
        path.write_text(json.dumps(content))
    return path


def coco(**changes: object) -> dict:
    return {
        "info": {},
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "sub/b.png"}],
        "annotations": [
            {"id": 1, "image_id": 3, "caption": "  A red bus.\n"},
            {"id": 2, "image_id": 7, "caption": "one\r\n two"},
            {"id": 3, "image_id": 3, "caption": "A bus"},
        ],
        **changes,
    }


def kinds(collection: Collection) -> list[tuple[str, str]]:
    return [(problem.kind, problem.subject) for problem in collection.problems]


def refused(path: Path, *parts: str, split: str | None = None) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_collection(path, split)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


# COCO


def test_coco(tmp_path):
    path = write(tmp_path / "captions_train2014.json", coco())
    collection = read_collection(path)
    assert collection.format == "coco"
    assert collection.source == path
    assert collection.images == (
        CaptionedImage("a.jpg", 7, ("one two",), "train"),
        CaptionedImage("sub/b.png", 3, ("A red bus.", "A bus"), "train"),
    )
    assert collection.problems == ()
    assert collection.splits == ("train",)
    assert collection.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_coco_factors_pass_through(tmp_path):
    factors = [{"shape": "circle", "size": 0.5}]
    document = coco()
    document["images"][0]["factors"] = factors
    images = read_collection(write(tmp_path / "x.json", document)).images
    assert [image.factors for image in images] == [factors, None]


@pytest.mark.parametrize(
    ("name", "info", "asked", "expected"),
    [
        ("captions_train2014.json", {}, None, "train"),
        ("captions_val2014.json", {}, None, "val"),
        ("devCaptions.json", {}, None, "val"),
        ("my-validation.json", {}, None, "val"),
        ("TEST.json", {}, None, "test"),
        ("captions_trainval2014.json", {}, None, None),
        ("train_and_val.json", {}, None, None),
        ("latest.json", {}, None, None),
        ("captions_train2014.json", {"split": "held-out"}, None, "held-out"),
        ("captions_train2014.json", {"split": "dev"}, "test", "test"),
        ("x.json", {"split": "dev"}, None, "val"),
        ("x.json", {}, "dev", "val"),
    ],
)
def test_the_split_of_a_coco_file(tmp_path, name, info, asked, expected):
    collection = read_collection(write(tmp_path / name, coco(info=info)), asked)
    assert {image.split for image in collection.images} == {expected}
    assert collection.splits == (() if expected is None else (expected,))


def test_coco_says_when_the_split_asked_for_is_not_its_own(tmp_path):
    path = write(tmp_path / "x.json", coco(info={"split": "val"}))
    assert "val" in read_collection(path, "test").notes[0]
    assert read_collection(path, "val").notes == ()


def test_single_bad_coco_entries_are_skipped_and_named(tmp_path):
    document = coco(
        images=[
            {"id": 1, "file_name": "a.jpg"},
            {"id": 1, "file_name": "other.jpg"},
            {"id": 2, "file_name": "./a.jpg"},
            {"id": 3, "file_name": "../../etc/passwd"},
            {"id": 4, "file_name": "lonely.jpg"},
            {"id": 5, "file_name": "blank.jpg"},
        ],
        annotations=[
            {"id": 10, "image_id": 1, "caption": "kept"},
            {"id": 10, "image_id": 1, "caption": "same id again"},
            {"id": 11, "image_id": 99, "caption": "of nothing"},
            {"id": 12, "image_id": 5, "caption": " \n\t"},
            {"id": 13, "image_id": 3, "caption": "goes with its image"},
            {"id": 14, "image_id": 1, "caption": "lone \ud800"},
            {"image_id": 1, "caption": "has no id"},
        ],
    )
    collection = read_collection(write(tmp_path / "x.json", document))
    assert collection.images == (CaptionedImage("a.jpg", 1, ("kept", "has no id"), None),)
    assert kinds(collection) == [
        ("duplicate image id", "1"),
        ("duplicate image name", "a.jpg"),
        ("unsafe image name", "'../../etc/passwd'"),
        ("duplicate caption id", "10"),
        ("caption without image", "annotations[2]"),
        ("empty caption", "annotations[3]"),
        ("wrong encoding", "annotations[5]"),
        ("image without captions", "lonely.jpg"),
        ("image without captions", "blank.jpg"),
    ]
    assert collection.notes == ("1 captions went with the images that were skipped",)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"images": {}}, "images is an object, expected a list"),
        ({"annotations": None}, "annotations is None, expected a list"),
        ({"images": [5]}, "images[0] is 5, expected an object"),
        ({"images": [{"file_name": "a.jpg"}]}, "images[0] has no id"),
        ({"images": [{"id": 1}]}, "images[0] has no file_name"),
        ({"images": [{"id": 1.5, "file_name": "a"}]}, "images[0].id is 1.5"),
        ({"images": [{"id": True, "file_name": "a"}]}, "images[0].id is True"),
        ({"images": [{"id": "", "file_name": "a"}]}, "images[0].id is ''"),
        ({"images": [{"id": 1, "file_name": ["a"]}]}, "images[0].file_name is a list"),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": "2", "file_name": "b"}]},
            "images[1].id is '2'",
        ),
        ({"annotations": [{"caption": "x"}]}, "annotations[0] has no image_id"),
        ({"annotations": [{"image_id": 7}]}, "annotations[0] has no caption"),
        ({"annotations": [{"image_id": [7], "caption": "x"}]}, "annotations[0].image_id is a list"),
        (
            {"annotations": [{"image_id": 7, "caption": "x"}, {"image_id": 7, "caption": 5}]},
            "annotations[1].caption is 5, expected text",
        ),
        ({"annotations": [{"image_id": 7, "caption": "x", "id": {}}]}, "annotations[0].id is"),
        ({"info": {"split": 5}}, "info.split is 5"),
        ({"info": {"split": "../x"}}, "'../x'"),
        ({"annotations": []}, "no image with captions"),
    ],
)
def test_faults_of_a_coco_file_name_the_place(tmp_path, changes, part):
    refused(write(tmp_path / "x.json", coco(**changes)), part)


# Karpathy


def karpathy_image(number: int, split: str, **changes: object) -> dict:
    sentences = [{"raw": f"Picture {number} .", "tokens": ["picture"], "sentid": number}]
    image = {"filename": f"{number}.jpg", "imgid": number, "split": split, "sentences": sentences}
    return {**image, **changes}


def test_karpathy(tmp_path):
    images = [
        karpathy_image(0, "test"),
        karpathy_image(1, "train", filepath="train2014", cocoid=42),
        karpathy_image(2, "restval"),
        karpathy_image(3, "val"),
    ]
    path = write(tmp_path / "dataset.json", {"images": images, "dataset": "x"})
    collection = read_collection(path)
    assert collection.format == "karpathy"
    assert collection.images == (
        CaptionedImage("0.jpg", 0, ("Picture 0 .",), "test"),
        CaptionedImage("train2014/1.jpg", 42, ("Picture 1 .",), "train"),
        CaptionedImage("2.jpg", 2, ("Picture 2 .",), "train"),
        CaptionedImage("3.jpg", 3, ("Picture 3 .",), "val"),
    )
    assert collection.splits == ("test", "train", "val")
    assert [image.image_id for image in collection.split("train")] == [42, 2]
    assert collection.notes == ("1 restval images joined train",)
    assert read_collection(path, "dev").splits == ("val",)
    refused(path, "no split 'restval'", "test, train, val", split="restval")


def test_single_bad_karpathy_entries_are_skipped_and_named(tmp_path):
    empty = [{"raw": " "}]
    again = [{"raw": "x", "sentid": 0}, {"raw": "y", "sentid": 9}]
    images = [
        karpathy_image(0, "train"),
        karpathy_image(0, "train"),
        karpathy_image(1, "train", filename="0.jpg"),
        karpathy_image(2, "train", filename="/abs.jpg"),
        karpathy_image(3, "train", sentences=empty),
        karpathy_image(4, "train", sentences=again),
    ]
    collection = read_collection(write(tmp_path / "x.json", {"images": images}))
    assert [image.captions for image in collection.images] == [("Picture 0 .",), ("y",)]
    assert kinds(collection) == [
        ("duplicate image id", "0"),
        ("duplicate image name", "0.jpg"),
        ("unsafe image name", "'/abs.jpg'"),
        ("empty caption", "images[4].sentences[0]"),
        ("image without captions", "3.jpg"),
        ("duplicate caption id", "0"),
    ]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"filename": 5}, "images[1].filename is 5"),
        ({"filepath": 5}, "images[1].filepath is 5"),
        ({"split": None}, "images[1].split is None"),
        ({"split": "a/b"}, "'a/b'"),
        ({"imgid": None}, "images[1].imgid is None"),
        ({"cocoid": "x"}, "images[1].cocoid is 'x'"),
        ({"sentences": {}}, "images[1].sentences is an object"),
        ({"sentences": [{"tokens": []}]}, "images[1].sentences[0] has no raw"),
        ({"sentences": [{"raw": None}]}, "images[1].sentences[0].raw is None"),
    ],
)
def test_faults_of_a_karpathy_file_name_the_place(tmp_path, changes, part):
    images = [karpathy_image(0, "train"), {**karpathy_image(1, "train"), **changes}]
    refused(write(tmp_path / "x.json", {"images": images}), part)


# Flickr and Kaggle

TOKENS = "a.jpg#0\tA man , a plan .\na.jpg#1\tA canal\nb.jpg#0\tDogs\nc.jpg#0\tCats\n"


def test_flickr_without_lists(tmp_path):
    path = write(tmp_path / "anything.dat", b"\xef\xbb\xbf" + TOKENS.replace("\n", "\r\n").encode())
    collection = read_collection(path)
    assert collection.format == "flickr"
    assert collection.images == (
        CaptionedImage("a.jpg", "a.jpg", ("A man , a plan .", "A canal"), None),
        CaptionedImage("b.jpg", "b.jpg", ("Dogs",), None),
        CaptionedImage("c.jpg", "c.jpg", ("Cats",), None),
    )
    assert read_collection(path, "train").splits == ("train",)


def test_flickr_with_lists(tmp_path):
    path = write(tmp_path / "x.token.txt", TOKENS + "d.jpg#0\tUnlisted\nd.jpg.1#0\tNo image\n")
    train = write(tmp_path / "Flickr_8k.trainImages.txt", "b.jpg\n")
    dev = write(tmp_path / "Flickr_8k.devImages.txt", "c.jpg\nb.jpg\n")
    test = write(tmp_path / "Flickr_8k.testImages.txt", "a.jpg\nmissing.jpg\n")
    write(tmp_path / "Flickr_8k.trainvalImages.txt", "a.jpg\nb.jpg\n")
    write(tmp_path / "test_readme.txt", "This folder holds\nthe test images.\n")
    write(tmp_path / "test.jpg", b"\xff\xd8")
    collection = read_collection(path)
    assert [(image.key, image.split) for image in collection.images] == [
        ("a.jpg", "test"),
        ("b.jpg", "train"),
        ("c.jpg", "val"),
    ]
    assert kinds(collection) == [
        ("image in two splits", "b.jpg"),
        ("image without captions", "'missing.jpg'"),
        ("caption without image", "d.jpg.1"),
    ]
    assert len(collection.notes) == 2
    assert "trainval" in collection.notes[0]
    assert collection.notes[1].startswith("1 captioned images are in no split list")
    content = b"".join(file.read_bytes() for file in (path, train, dev, test))
    assert collection.digest == hashlib.sha256(content).hexdigest()
    assert [image.key for image in read_collection(path, "val").images] == ["c.jpg"]
    refused(path, "no split 'held-out'", "test, train, val", split="held-out")


def test_flickr_lists_may_leave_the_extension_out(tmp_path):
    path = write(tmp_path / "results.token", TOKENS)
    write(tmp_path / "train.txt", "a\nb\n")
    write(tmp_path / "test.txt", "c\n")
    assert [p.split for p in read_collection(path).images] == ["train", "train", "test"]


def test_single_bad_flickr_lines_are_skipped_and_named(tmp_path):
    content = TOKENS.encode() + (
        b"a.jpg#0\tagain\nb.jpg#1\tcaf\xe9\n\nb.jpg#2\t \n../x.jpg#0\tout\n../x.jpg#1\tout\n"
        b"e.jpg#0\t\n"
    )
    collection = read_collection(write(tmp_path / "x.txt", content))
    assert [len(image.captions) for image in collection.images] == [2, 1, 1]
    assert kinds(collection) == [
        ("duplicate caption id", "a.jpg#0"),
        ("wrong encoding", "line 6"),
        ("empty caption", "line 8"),
        ("unsafe image name", "'../x.jpg'"),
        ("empty caption", "line 11"),
        ("image without captions", "e.jpg"),
    ]


def test_a_flickr_line_of_another_shape_is_refused(tmp_path):
    refused(write(tmp_path / "x.txt", TOKENS + "a.jpg#9 no tab\n"), "line 5", "NAME#N<TAB>caption")


def test_kaggle(tmp_path):
    content = (
        "image,caption\r\n"
        'a.jpg,"A man, a ""plan"" ."\n'
        "a.jpg,A canal\n"
        'b.jpg,"two\nlines"\n'
        'b.jpg,the "b" dog, unquoted\n'
    )
    path = write(tmp_path / "captions.txt", content)
    collection = read_collection(path, "train")
    assert collection.format == "kaggle"
    assert collection.images == (
        CaptionedImage("a.jpg", "a.jpg", ('A man, a "plan" .', "A canal"), "train"),
        CaptionedImage("b.jpg", "b.jpg", ("two lines", 'the "b" dog, unquoted'), "train"),
    )
    write(tmp_path / "trainImages.txt", "b.jpg\n")
    write(tmp_path / "valImages.txt", "a.jpg\n")
    assert read_collection(path).splits == ("val", "train")


def test_single_bad_kaggle_lines_are_skipped_and_named(tmp_path):
    content = b'image,caption\na.jpg,caf\xe9\na.jpg,ok\na.jpg,\nb.jpg,"x\n\xff"\n'
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert [image.captions for image in collection.images] == [("ok",)]
    assert kinds(collection) == [
        ("wrong encoding", "line 2"),
        ("empty caption", "line 4"),
        ("wrong encoding", "line 6"),
    ]


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("a.jpg,x\njust a name\n", "line 3"),
        ('a.jpg,"open\n', "not CSV"),
        ('a.jpg,"open\nb.jpg,"y"\n', "line 3 is not CSV"),
        ("", "no image with captions"),
    ],
)
def test_faults_of_a_kaggle_file_name_the_line(tmp_path, lines, part):
    refused(write(tmp_path / "c.csv", "image,caption\n" + lines), part)


# Any file


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty file"),
        (b"hello\n", "unknown format"),
        (b"\x89PNG\r\n\x1a\n\0\0", "unknown format"),
        (json.dumps(coco()).encode()[:-30], "not whole JSON"),
        (b"[1, 2]", "unknown JSON layout"),
        (b'{"images": []}', "unknown JSON layout"),
        (b'{"annotations": [], "info": 1}', "'annotations, info'"),
        (b'{"images": "\xff"}', "byte 12 is not UTF-8"),
        (json.dumps(coco()).encode("utf-16"), "UTF-16"),
        (b"[" * 100_000, "too deeply"),
    ],
)
def test_a_file_of_no_known_format_is_refused(tmp_path, content, part):
    refused(write(tmp_path / "x", content), part)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "none.json", "no such file")
    refused(tmp_path, "is a folder")


def test_a_byte_order_mark_is_no_matter(tmp_path):
    content = b"\xef\xbb\xbf" + json.dumps(coco()).encode()
    assert len(read_collection(write(tmp_path / "x.json", content)).images) == 2


def test_a_split_name_that_could_leave_the_folder_is_refused(tmp_path):
    refused(write(tmp_path / "x.json", coco()), "'../x'", split="../x")


def test_safe_keys():
    assert safe_key("a.jpg") == "a.jpg"
    assert safe_key("./a//b.jpg") == "a/b.jpg"
    assert safe_key("é ü.jpg") == "é ü.jpg"
    for name in ("", ".", "/a", "a/../b", "..", "a\\b", "C:a", "a\0", "a\nb", "\ud800"):
        with pytest.raises(ValueError, match=r"\w"):
            safe_key(name)
    with pytest.raises(ValueError, match=r"should be written 'a\.jpg'"):
        CaptionedImage("./a.jpg", 1, ("x",), None)


def test_captions_keep_all_but_outer_space_and_line_breaks():
    assert tidy("  A  dog ,\n\n Two  cats\t") == "A  dog , Two  cats"


def test_split_in_name_looks_at_the_file_name_alone():
    assert split_in_name(Path("train/captions.json")) is None


def test_a_problem_reads_as_a_line():
    assert str(Problem("empty caption", "line 3", "of a.jpg")) == "empty caption: line 3: of a.jpg"


# Real data


@pytest.fixture(scope="module")
def flickr8k() -> Path:
    folder = DATA / "flickr8k"
    if not folder.is_dir():
        pytest.skip("Flickr8k is not here")
    return folder


def test_flickr8k_in_both_forms(flickr8k):
    tokens = read_collection(flickr8k / "Flickr8k.token.txt")
    karpathy = read_collection(flickr8k / "dataset_flickr8k.json")
    assert (tokens.format, karpathy.format) == ("flickr", "karpathy")
    assert len((flickr8k / "Flickr8k.token.txt").read_bytes().splitlines()) == 40_460
    for split, count in (("train", 6000), ("val", 1000), ("test", 1000)):
        names = [image.key for image in tokens.split(split)]
        assert len(names) == count
        assert set(names) == {image.key for image in karpathy.split(split)}
    for collection in (tokens, karpathy):
        assert len(collection.images) == 8000
        assert sum(len(image.captions) for image in collection.images) == 40_000
    assert kinds(tokens) == [("caption without image", "2258277193_586949ec62.jpg.1")]
    assert tokens.notes == ("91 captioned images are in no split list and were left out",)
    assert karpathy.problems == ()


def test_coco_val2014():
    path = DATA / "coco" / "captions_val2014.json"
    if not path.is_file():
        pytest.skip("COCO's val2014 captions are not here")
    collection = read_collection(path)
    assert collection.splits == ("val",)
    assert len(collection.images) == 40_504
    assert sum(len(image.captions) for image in collection.images) == 202_654
    assert collection.problems == ()
