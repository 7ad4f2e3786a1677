import json
from pathlib import Path
from typing import Any

import pytest
from support.paths import DATA

from multispace.errors import AnnotationError, OptionError, PipelineError
from multispace.pipeline.metrics.captions.coco_metrics import score_captions
from multispace.pipeline.score import read_results, score_results

FLICKR8K = DATA / "flickr8k" / "dataset_flickr8k.json"
CAPTIONS = {
    4: ["A dog runs.", "the dog is running"],
    9: ["Two women ride horses", "ladies on horses"],
    2: ["A red bus", "the bus stops at a corner"],
}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    images = [{"id": image_id, "file_name": f"{image_id}.jpg"} for image_id in CAPTIONS]
    pairs = [(image_id, text) for image_id, texts in CAPTIONS.items() for text in texts]
    entries = [
        {"id": number, "image_id": image_id, "caption": text}
        for number, (image_id, text) in enumerate(pairs)
    ]
    # An image that nobody described
    images.append({"id": 5, "file_name": "5.jpg"})
    return write(tmp_path / "captions_val.json", {"images": images, "annotations": entries})


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def results(folder: Path, captions: dict[Any, str]) -> Path:
    entries = [{"image_id": image_id, "caption": text} for image_id, text in captions.items()]
    return write(folder / "results.json", entries)


def test_only_the_results_images_are_scored_in_the_annotations_order(annotations, tmp_path):
    hypotheses = {4: "a dog runs", 2: "a blue bus"}
    path = results(tmp_path, {2: hypotheses[2], 4: hypotheses[4]})
    scores = score_results(path, annotations, ("bleu", "rouge", "cider"))
    assert list(scores.per_image) == [4, 2]
    assert scores == score_captions(CAPTIONS, hypotheses, ("bleu", "rouge", "cider"))


def test_ids_are_compared_as_text(annotations, tmp_path):
    scores = score_results(results(tmp_path, {"9": "ladies on horses"}), annotations, ("bleu",))
    assert list(scores.per_image) == [9]


def test_file_names_are_ids_where_the_annotations_have_no_other(tmp_path):
    annotations = tmp_path / "captions.txt"
    annotations.write_text("image,caption\nb.jpg,A dog runs .\nb.jpg,the dog\na.jpg,Two cats\n")
    path = results(tmp_path, {"a.jpg": "two cats", "b.jpg": "a dog runs"})
    scores = score_results(path, annotations, ("rouge",))
    assert scores.corpus == {"ROUGE_L": pytest.approx(1)}
    assert set(scores.per_image) == {"a.jpg", "b.jpg"}


def test_more_than_the_two_fields_is_allowed(tmp_path):
    path = write(tmp_path / "r.json", [{"image_id": 1, "caption": "", "id": 3, "score": 0.5}])
    assert read_results(path) == {1: ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('[{"image_id": 1,', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe[\x00", "is not JSON"),
        ("[]", "holds no captions"),
        ('{"images": []}', "holds an object"),
        ("[3]", "entry 0 is 3"),
        ('[{"image_id": 1}]', "entry 0 has no 'caption'"),
        ('[{"caption": "a"}]', "entry 0 has no 'image_id'"),
        ('[{"image_id": 1.0, "caption": "a"}]', r"image_id 1\.0 of entry 0"),
        ('[{"image_id": true, "caption": "a"}]', "image_id True of entry 0"),
        ('[{"image_id": 1, "caption": ["a"]}]', "caption a list of entry 0 is not text"),
        ('[{"image_id": 1, "caption": null}]', "caption None of entry 0 is not text"),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            "entry 1 is a second caption of image_id 1",
        ),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}]',
            "entry 1 is a second caption of image_id '1'",
        ),
    ],
)
def test_a_bad_results_file_is_refused_in_one_line(annotations, tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError, match=message) as caught:
        score_results(path, annotations)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_results_file_that_cannot_be_read(annotations, tmp_path, name):
    with pytest.raises(PipelineError, match="cannot be read"):
        score_results(tmp_path / name, annotations)


def test_unknown_images_are_counted_and_the_first_named(annotations, tmp_path):
    unknown = {100 + number: "a" for number in range(5)}
    path = results(tmp_path, {4: "a dog", **unknown})
    with pytest.raises(PipelineError, match=r"5 of its 6 images.* 100, 101, 102, have") as caught:
        score_results(path, annotations)
    assert str(path) in str(caught.value)
    assert str(annotations) in str(caught.value)


def test_an_image_that_nobody_described_is_refused(annotations, tmp_path):
    with pytest.raises(PipelineError, match="1 of its 2 images, such as image_id 5, have no"):
        score_results(results(tmp_path, {4: "a dog", 5: "a cat"}), annotations)


def test_an_unknown_metric_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match="'spice'"):
        score_results(tmp_path / "none.json", tmp_path / "none.json", ("spice",))


def test_missing_annotations_are_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.json"):
        score_results(results(tmp_path, {4: "a dog"}), tmp_path / "none.json")


@pytest.mark.skipif(not FLICKR8K.is_file(), reason="Flickr8k is not at hand")
def test_captions_by_people_score_perfectly_on_flickr8k(tmp_path):
    images = json.loads(FLICKR8K.read_text())["images"][:50]
    captions = {image["imgid"]: image["sentences"][2]["raw"] for image in images}
    scores = score_results(results(tmp_path, captions), FLICKR8K, ("bleu", "rouge", "cider"))
    assert scores.corpus["Bleu_4"] == pytest.approx(1)
    assert scores.corpus["ROUGE_L"] == pytest.approx(1)
    assert 2 < scores.corpus["CIDEr"] < 10
