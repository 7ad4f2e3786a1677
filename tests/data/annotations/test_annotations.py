import hashlib
import json
from pathlib import Path

import pytest
from support.paths import DATA

from multispace.data.annotations import CaptionedImage, Collection, Problem, read_collection
from multispace.data.annotations.builder import tidy
from multispace.data.annotations.split_names import split_in_name
from multispace.data.cache.format.keys import safe_key
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
            {"id": 10, "image_id": 1, "caption": "kept "},
            {"id": 11, "image_id": 99, "caption": "of nothing"},
            {"id": 12, "image_id": 5, "caption": " \n\t"},
            {"id": 13, "image_id": 3, "caption": "goes with its image"},
            {"id": 14, "image_id": 1, "caption": "lone \ud800"},
            {"image_id": 1, "caption": "has no id"},
        ],
    )
    collection = read_collection(write(tmp_path / "x.json", document))
    image = CaptionedImage("a.jpg", 1, ("kept", "has no id"), None, other_ids=(2,))
    assert collection.images == (image,)
    assert kinds(collection) == [
        ("duplicate image id", "1"),
        ("unsafe image name", "'../../etc/passwd'"),
        ("duplicate caption", "annotations[1]"),
        ("caption without image", "annotations[2]"),
        ("empty caption", "annotations[3]"),
        ("wrong encoding", "annotations[5]"),
        ("image without captions", "lonely.jpg"),
        ("image without captions", "blank.jpg"),
    ]
    assert collection.notes == (
        "1 captions of images that were skipped were skipped too",
        "1 entries repeat a file name; merged by file name",
    )


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
        ({"annotations": [{"caption": "x"}]}, "annotations[0] has no image_id"),
        ({"annotations": [{"image_id": 7}]}, "annotations[0] has no caption"),
        ({"annotations": [{"image_id": [7], "caption": "x"}]}, "annotations[0].image_id is a list"),
        (
            {"annotations": [{"image_id": 7, "caption": "x"}, {"image_id": 7, "caption": ["x"]}]},
            "annotations[1].caption is a list, expected text",
        ),
        ({"annotations": [{"image_id": 7, "caption": "x", "id": {}}]}, "annotations[0].id is"),
        ({"info": {"split": 5}}, "info.split is 5"),
        ({"info": {"split": "../x"}}, "'../x'"),
        ({"annotations": []}, "no image with captions"),
        ({"annotations": [{"image_id": 7, "caption": 5}]}, "no image with captions"),
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
    again = [{"raw": "x", "sentid": 0}, {"raw": "x", "sentid": 0}, {"raw": "y", "sentid": 0}]
    images = [
        karpathy_image(0, "train"),
        karpathy_image(0, "train", filename="other.jpg"),
        karpathy_image(1, "val", filename="0.jpg"),
        karpathy_image(2, "train", filename="/abs.jpg"),
        karpathy_image(3, "train", sentences=empty),
        karpathy_image(4, "train", sentences=again),
    ]
    collection = read_collection(write(tmp_path / "x.json", {"images": images}))
    assert [image.captions for image in collection.images] == [
        ("Picture 0 .", "Picture 1 ."),
        ("x", "y"),
    ]
    assert kinds(collection) == [
        ("duplicate image id", "0"),
        ("image in two splits", "0.jpg"),
        ("unsafe image name", "'/abs.jpg'"),
        ("empty caption", "images[4].sentences[0]"),
        ("duplicate caption", "images[5].sentences[1]"),
        ("image without captions", "3.jpg"),
    ]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"filename": 5}, "images[1].filename is 5"),
        ({"filepath": 5}, "images[1].filepath is 5"),
        ({"split": None}, "images[1].split is None"),
        ({"split": "a/b"}, "'a/b'"),
        ({"imgid": None}, "images[1].imgid is None"),
        ({"sentences": {}}, "images[1].sentences is an object"),
        ({"sentences": [{"tokens": []}]}, "images[1].sentences[0] has no raw"),
        ({"sentences": [{"raw": ["x"]}]}, "images[1].sentences[0].raw is a list"),
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
    assert collection.notes == (
        "Flickr_8k.trainvalImages.txt lists images, but names several splits; it was not used",
        "split 'train': 1 images, listed in Flickr_8k.trainImages.txt",
        "split 'val': 1 images, listed in Flickr_8k.devImages.txt",
        "split 'test': 1 images, listed in Flickr_8k.testImages.txt",
        "1 captioned images are in no split list and were left out",
    )
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
        b"a.jpg#1\tA canal \nb.jpg#1\tcaf\xe9\n\nb.jpg#2\t \n../x.jpg#0\tout\n"
        b"../x.jpg#1\tout\ne.jpg#0\t\nc.jpg#0\tna\xc3\xafve\n"
    )
    collection = read_collection(write(tmp_path / "x.txt", content))
    assert [len(image.captions) for image in collection.images] == [2, 1, 2]
    assert kinds(collection) == [
        ("duplicate caption", "line 5"),
        ("wrong encoding", "line 6"),
        ("empty caption", "line 8"),
        ("unsafe image name", "'../x.jpg'"),
        ("empty caption", "line 11"),
        ("image without captions", "e.jpg"),
    ]


def test_a_flickr_line_of_another_shape_is_refused(tmp_path):
    refused(write(tmp_path / "x.txt", TOKENS + "a.jpg no number\n"), "line 5", "NAME#N<TAB>caption")


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
    content = b'image,caption\na.jpg,caf\xe9\na.jpg,na\xc3\xafve\na.jpg,\nb.jpg,"x\n\xff"\n'
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert [image.captions for image in collection.images] == [("na\xefve",)]
    assert kinds(collection) == [
        ("wrong encoding", "line 2"),
        ("empty caption", "line 4"),
        ("wrong encoding", "line 6"),
    ]


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("a.jpg,x\njust a name\nanother\n", "the first is line 3"),
        ('a.jpg,"open\n', "the first is line 2"),
        ("", "no image with captions"),
    ],
)
def test_faults_of_a_kaggle_file_name_the_line(tmp_path, lines, part):
    refused(write(tmp_path / "c.csv", "image,caption\n" + lines), part)


# Tables, lists and lines

ROWS = [
    ("dog.jpg", "A dog digs in the sand ."),
    ("dog.jpg", "a brown dog, digging"),
    ("boat.png", "Two people row a boat"),
]


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        (
            "results.csv",
            "image_name| comment_number| comment\n"
            + "".join(f"{n}| {i}|  {text}\n" for i, (n, text) in enumerate(ROWS)),
            "table",
        ),
        (
            "results.csv",
            "image_name,comment_number,comment\n"
            + "".join(f"{n},{i}, {text}\n" for i, (n, text) in enumerate(ROWS)),
            "table",
        ),
        (
            "captions.csv",
            ",image,caption\n" + "".join(f'{i},{n},"{text}"\n' for i, (n, text) in enumerate(ROWS)),
            "table",
        ),
        ("c.csv", "image;caption\n" + "".join(f"{n};{text}\n" for n, text in ROWS), "table"),
        ("c.tsv", "image\tcaption\n" + "".join(f"{n}\t{text}\n" for n, text in ROWS), "table"),
        (
            "c.csv",
            "caption,image\n" + "".join(f"{text},{n}\n" for n, text in ROWS),
            "table",
        ),
        (
            "metadata.csv",
            "file_name,text\n" + "".join(f'{n},"{text}"\n' for n, text in ROWS),
            "table",
        ),
        (
            "metadata.jsonl",
            "".join(json.dumps({"file_name": n, "text": text}) + "\n" for n, text in ROWS),
            "records",
        ),
        ("list.json", json.dumps([{"image": n, "caption": text} for n, text in ROWS]), "records"),
        (
            "map.json",
            json.dumps({"dog.jpg": [text for _, text in ROWS[:2]], "boat.png": ROWS[2][1]}),
            "records",
        ),
        ("zh.txt", "".join(f"{n}#zhc#{i} {text}\n" for i, (n, text) in enumerate(ROWS)), "flickr"),
    ],
)
def test_common_tables_and_lists_are_read(tmp_path, name, content, format):
    collection = read_collection(write(tmp_path / name, content), "train")
    assert collection.format == format
    assert collection.problems == ()
    assert collection.images == (
        CaptionedImage("dog.jpg", "dog.jpg", (ROWS[0][1], ROWS[1][1]), "train"),
        CaptionedImage("boat.png", "boat.png", (ROWS[2][1],), "train"),
    )


def test_neuraltalk2_lists_keep_their_ids(tmp_path):
    entries = [
        {"file_path": "val2014/7.jpg", "id": 7, "captions": ["One .", "Two"]},
        {"file_path": "val2014/9.jpg", "id": 9, "captions": ["Three"]},
    ]
    assert read_collection(write(tmp_path / "raw.json", entries), "val").images == (
        CaptionedImage("val2014/7.jpg", 7, ("One .", "Two"), "val"),
        CaptionedImage("val2014/9.jpg", 9, ("Three",), "val"),
    )


@pytest.mark.parametrize("suffix", ["jp2", "TIF", "jfif", "webp", "tga"])
def test_all_image_suffixes_are_known(tmp_path, suffix):
    collection = read_collection(write(tmp_path / "x.txt", f"a.{suffix}#0\tA cat\n"))
    assert [image.key for image in collection.images] == [f"a.{suffix}"]


def test_a_split_column_is_used(tmp_path):
    content = (
        'image,caption,split\na.jpg,"one, two",train\nb.jpg,three, four,Validation\n'
        "c.jpg,five,test\na.jpg,six,test\n"
    )
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert collection.images == (
        CaptionedImage("a.jpg", "a.jpg", ("one, two", "six"), "train"),
        CaptionedImage("b.jpg", "b.jpg", ("three, four",), "val"),
        CaptionedImage("c.jpg", "c.jpg", ("five",), "test"),
    )
    assert kinds(collection) == [("image in two splits", "a.jpg")]
    assert read_collection(tmp_path / "c.csv", "test").images == collection.images[2:]


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ('b.jpg,"Stop" says the sign', '"Stop" says the sign'),
        ('b.jpg,"Stop", says the sign', '"Stop", says the sign'),
        ('b.jpg,the sign says "stop', 'the sign says "stop'),
        ('b.jpg,"two\nlines, ""quoted"""', 'two lines, "quoted"'),
    ],
)
def test_quotation_marks_in_captions_are_kept(tmp_path, line, caption):
    content = f"image,caption\na.jpg,One .\n{line}\nc.jpg,Three\n"
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert [image.captions for image in collection.images] == [("One .",), (caption,), ("Three",)]
    assert collection.problems == ()


def test_a_mark_without_its_partner_costs_its_own_line(tmp_path):
    content = 'image,caption\na.jpg,One\na.jpg,"open\nb.jpg,"Two"\n\nb.jpg,Three\nno caption\n'
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert [image.captions for image in collection.images] == [("One",), ("Two", "Three")]
    assert kinds(collection) == [("malformed line", "line 3"), ("malformed line", "line 7")]


def test_a_latin_1_file_is_read_with_a_note(tmp_path):
    content = "image,caption\na.jpg,caf\xe9\nb.jpg,\x93na\xefve\x94\n".encode("latin-1")
    collection = read_collection(write(tmp_path / "c.csv", content))
    assert [image.captions for image in collection.images] == [
        ("caf\xe9",),
        ("\u201cna\xefve\u201d",),
    ]
    assert "Latin-1" in collection.notes[0]


# Ids are not identities


@pytest.mark.parametrize("ids", [lambda n, k: k, lambda n, k: n, lambda n, k: 0])
def test_captions_with_repeated_ids_are_kept(tmp_path, ids):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (11, 12)]
    annotations = [
        {"id": ids(n, k), "image_id": n, "caption": f"caption {k} of {n}"}
        for n in (11, 12)
        for k in range(3)
    ]
    path = write(tmp_path / "x.json", {"images": images, "annotations": annotations})
    collection = read_collection(path)
    assert [len(image.captions) for image in collection.images] == [3, 3]
    assert collection.problems == ()
    sentences = {n: [{"raw": f"{k} of {n}", "sentid": ids(n, k)} for k in range(3)] for n in (0, 1)}
    images = [karpathy_image(n, "train", sentences=sentences[n]) for n in (0, 1)]
    collection = read_collection(write(tmp_path / "k.json", {"images": images}))
    assert [len(image.captions) for image in collection.images] == [3, 3]
    assert collection.problems == ()


def test_equal_entries_are_one_and_equal_texts_of_other_ids_are_two(tmp_path):
    annotations = [
        {"id": 1, "image_id": 7, "caption": "a dog"},
        {"id": 1, "image_id": 7, "caption": "a dog"},
        {"id": 2, "image_id": 7, "caption": "a dog"},
        {"id": 1, "image_id": 3, "caption": "a dog"},
    ]
    collection = read_collection(write(tmp_path / "x.json", coco(annotations=annotations)))
    assert [image.captions for image in collection.images] == [("a dog", "a dog"), ("a dog",)]
    assert kinds(collection) == [("duplicate caption", "annotations[1]")]


@pytest.mark.parametrize("count", [3, 31, 32, 33, 100])
def test_duplicates_are_found_among_any_number_of_captions(tmp_path, count):
    once = [{"id": n, "image_id": 7, "caption": f"caption {n}"} for n in range(count)]
    unnamed = [{"image_id": 7, "caption": f"caption {n}"} for n in (0, count - 1)]
    other = [{"id": count, "image_id": 7, "caption": "caption 0"}]
    again = [{"id": str(n), "image_id": 7, "caption": f"caption {n}"} for n in (0, count - 1)]
    annotations = [*once, *unnamed, *other, *again]
    collection = read_collection(write(tmp_path / "x.json", coco(annotations=annotations)))
    assert len(collection.images[0].captions) == count + 3
    places = (f"annotations[{place}]" for place in (count + 3, count + 4))
    assert kinds(collection)[:2] == [("duplicate caption", place) for place in places]


@pytest.mark.parametrize("value", ["null", "NaN", "5", "true"])
def test_captions_that_are_not_text_are_skipped_and_named(tmp_path, value):
    text = json.dumps(coco()).replace('"A bus"', value)
    collection = read_collection(write(tmp_path / "x.json", text))
    assert kinds(collection) == [("caption that is not text", "annotations[2]")]
    assert len(collection.images[1].captions) == 1


def test_one_images_entry_a_caption_is_merged_by_file_name(tmp_path):
    images = [{"id": n, "file_name": f"{n // 2}.jpg"} for n in range(4)]
    annotations = [{"id": n, "image_id": n, "caption": f"caption {n}"} for n in range(4)]
    path = write(tmp_path / "x.json", {"images": images, "annotations": annotations})
    collection = read_collection(path, "train")
    assert collection.images == (
        CaptionedImage("0.jpg", 0, ("caption 0", "caption 1"), "train", other_ids=(1,)),
        CaptionedImage("1.jpg", 2, ("caption 2", "caption 3"), "train", other_ids=(3,)),
    )
    assert collection.notes == ("2 entries repeat a file name; merged by file name",)


def test_text_ids_beside_whole_numbers_compare_as_text(tmp_path):
    document = coco(images=[{"id": 7, "file_name": "a.jpg"}, {"id": "3", "file_name": "b.jpg"}])
    document["annotations"][1]["image_id"] = "7"
    collection = read_collection(write(tmp_path / "x.json", document))
    assert [(image.image_id, len(image.captions)) for image in collection.images] == [
        ("7", 1),
        ("3", 2),
    ]


# Splits


@pytest.mark.parametrize(
    "name", ["festival_pictures.txt", "latest.txt", "devices.lst", "restrained_dogs.txt"]
)
def test_split_lists_are_recognised_by_whole_words(tmp_path, name):
    path = write(tmp_path / "captions.txt", TOKENS)
    write(tmp_path / name, "a.jpg\nb.jpg\n")
    assert read_collection(path).splits == ()
    assert len(read_collection(path).images) == 3


@pytest.mark.parametrize(
    ("own", "split"),
    [("training", "train"), ("TRAIN", "train"), ("Validation", "val"), ("testing", "test")],
)
def test_other_names_of_splits_are_known(tmp_path, own, split):
    path = write(tmp_path / "x.json", {"images": [karpathy_image(0, own)]})
    collection = read_collection(path)
    assert collection.splits == (split,)
    assert collection.notes == (f"split {own!r} was read as {split!r}",)
    assert read_collection(path, own).splits == (split,)


@pytest.mark.parametrize("content", [TOKENS, coco()])
def test_given_split_lists_replace_all_others(tmp_path, content):
    folder = tmp_path / "lists"
    folder.mkdir()
    path = write(tmp_path / "captions_val2014.json", content)
    write(tmp_path / "trainImages.txt", "c.jpg\n")
    first = write(folder / "first", "a.jpg\n")
    second = write(folder / "second", "b\n")  # the name without folder and suffix
    collection = read_collection(path, split_lists={"dev": first, "extra": second})
    assert [(p.key.rpartition("/")[2][0], p.split) for p in collection.images] == [
        ("a", "val"),
        ("b", "extra"),
    ]
    assert collection.notes[:2] == (
        "split 'val': 1 images, listed in first",
        "split 'extra': 1 images, listed in second",
    )
    data = path.read_bytes() + first.read_bytes() + second.read_bytes()
    assert collection.digest == hashlib.sha256(data).hexdigest()
    with pytest.raises(AnnotationError, match="none: no such file"):
        read_collection(path, split_lists={"train": tmp_path / "none"})


def test_a_split_list_may_name_images_by_id(tmp_path):
    lists = {"test": write(tmp_path / "ids", "3\n")}
    collection = read_collection(write(tmp_path / "x.json", coco()), split_lists=lists)
    assert [(image.image_id, image.split) for image in collection.images] == [(3, "test")]


@pytest.mark.parametrize("form", ["{}", "val2014/{}", "/data/coco/images/val2014/{}", "{}\r"])
def test_split_lists_of_m_rnn_divide_the_images_of_coco(tmp_path, form):
    """m-RNN divides val2014 by lists of file names: coco_val_mRNN.txt, coco_test_mRNN.txt."""
    names = {number: f"COCO_val2014_{number:012d}.jpg" for number in (42, 73, 74, 133, 196)}
    content = {
        "images": [{"id": number, "file_name": name} for number, name in names.items()],
        "annotations": [
            {"id": number, "image_id": number, "caption": f"a caption of {number}"}
            for number in names
        ],
    }
    path = write(tmp_path / "captions_val2014.json", content)
    lists = {}
    for split, numbers in {"val": (42, 133), "test": (73, 196)}.items():
        lines = [form.format(names[number]) + "\n" for number in numbers]
        lists[split] = write(tmp_path / f"coco_{split}_mRNN.txt", "".join(lines))
    collection = read_collection(path, split_lists=lists)
    assert {image.image_id: image.split for image in collection.images} == {
        42: "val", 73: "test", 133: "val", 196: "test",
    }  # fmt: skip
    assert collection.problems == ()
    assert collection.notes == (
        "split 'val': 2 images, listed in coco_val_mRNN.txt",
        "split 'test': 2 images, listed in coco_test_mRNN.txt",
        "1 captioned images are in no split list and were left out",
    )


def test_random_splits_are_of_images_and_depend_on_the_seed_alone(tmp_path):
    lines = [f"{n}.jpg,caption {k} of {n}\n" for n in range(50) for k in range(2)]
    path = write(tmp_path / "captions.txt", "image,caption\n" + "".join(lines))
    shuffled = write(tmp_path / "other.txt", "image,caption\n" + "".join(reversed(lines)))
    made = read_collection(path, random_splits=(80, 10, 10), seed=3)
    assert {name: len(made.split(name)) for name in made.splits} == {
        "train": 40, "val": 5, "test": 5,
    }  # fmt: skip
    assert all(len(image.captions) == 2 for image in made.images)
    other = read_collection(shuffled, random_splits=(80, 10, 10), seed=3)
    assert {p.key: p.split for p in other.images} == {p.key: p.split for p in made.images}
    again = read_collection(path, random_splits=(80, 10, 10), seed=4)
    assert {p.key: p.split for p in again.images} != {p.key: p.split for p in made.images}
    assert made.notes == ("random splits 80,10,10 with seed 3: 40 train, 5 val, 5 test images",)
    assert read_collection(path, "val", random_splits=(80, 10, 10), seed=3).images == made.split(
        "val"
    )


def test_random_splits_are_refused_where_there_are_splits_or_too_few_images(tmp_path):
    images = [karpathy_image(0, "train"), karpathy_image(1, "test")]
    path = write(tmp_path / "x.json", {"images": images})
    with pytest.raises(AnnotationError, match="has splits already: train, test"):
        read_collection(path, random_splits=(80, 10, 10))
    path = write(tmp_path / "captions.txt", TOKENS)
    with pytest.raises(AnnotationError, match="3 images leave the split 'val' empty"):
        read_collection(path, random_splits=(80, 10, 10))


# Any file


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty file"),
        (b"hello\n", "unknown format"),
        (b"\x89PNG\r\n\x1a\n\0\0", "unknown format"),
        (json.dumps(coco()).encode()[:-30], "the file may be truncated"),
        (b"[1, 2]", "unknown JSON layout"),
        (b'[{"image_id": 1, "caption": "a result"}]', "unknown JSON layout"),
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
    with pytest.raises(AnnotationError, match=r"^--split: split name '\.\./x' cannot be"):
        read_collection(write(tmp_path / "x.json", coco()), "../x")


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
    assert tokens.notes[-1] == "91 captioned images are in no split list and were left out"
    assert "split 'train': 6000 images, listed in Flickr_8k.trainImages.txt" in tokens.notes
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
