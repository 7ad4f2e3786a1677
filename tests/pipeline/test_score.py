import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.paths import DATA

from multispace.cli import main
from multispace.data.caption_results import read_results, results_format
from multispace.errors import AnnotationError, DataError, OptionError, PipelineError
from multispace.pipeline.metrics.captions.coco_metrics import score_captions
from multispace.pipeline.score import score_results

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
    assert "|metrics:bleu+rouge+cider|tok:ptb-lower-nopunct|images:2|refs:" in scores.signature
    assert scores.render().splitlines()[-1] == f"signature: {scores.signature}"
    assert scores.to_json()["signature"] == scores.signature
    expected = score_captions(CAPTIONS, hypotheses, ("bleu", "rouge", "cider"))
    assert (scores.corpus, scores.per_image) == (expected.corpus, expected.per_image)
    assert scores.statistics == expected.statistics


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
    assert [(result.image_id, result.caption) for result in read_results(path)] == [(1, "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ('[{"image_id": 1,', "not JSON"),
        ("[" * 100_000, "too deeply nested"),
        (b"\xff\xfe[\x00", "not JSON"),
        ("[]", "holds no captions"),
        ('{"images": []}', "holds an object"),
        ("[3]", "entry 0 is 3"),
        ('[{"image_id": 1}]', "entry 0 has no 'caption'"),
        ('[{"caption": "a"}]', "entry 0 has no 'image_id'"),
        ('[{"image_id": 1.5, "caption": "a"}]', r"image_id 1\.5 of entry 0"),
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
    with pytest.raises(DataError, match=message) as caught:
        score_results(path, annotations)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "what"), [("missing.json", "not found"), (".", "not a plain")])
def test_a_results_file_that_cannot_be_read(annotations, tmp_path, name, what):
    with pytest.raises(DataError, match=what):
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


REFERENCES = {
    11: ["a cat sleeps on the sofa", "a grey cat is asleep", "the cat naps on a couch"],
    12: ["three boys play football", "kids kick a ball in a park", "children on the grass"],
}
OURS = {11: "the cat naps on a couch", 12: "kids kick a ball in a park"}


def document(ids, names="{}.jpg"):
    return {
        "images": [{"id": n, "file_name": names.format(n)} for n in REFERENCES],
        "annotations": [
            {"id": ids(n, k), "image_id": n, "caption": text}
            for n, texts in REFERENCES.items()
            for k, text in enumerate(texts)
        ],
    }


@pytest.mark.parametrize("ids", [lambda n, k: 10 * n + k, lambda n, k: k, lambda n, k: n])
def test_repeated_caption_ids_do_not_change_the_scores(tmp_path, ids):
    path = write(tmp_path / "captions.json", document(ids))
    scores = score_results(results(tmp_path, OURS), path, ("bleu",))
    assert scores.corpus["Bleu_1"] == pytest.approx(1)
    assert scores.exit_status == 0


def test_what_the_reader_reports_is_in_the_result(tmp_path):
    content = document(lambda n, k: k)
    content["annotations"].append({"id": 9, "image_id": 12, "caption": None})
    content["annotations"].append({"id": 9, "image_id": 99, "caption": "of nothing"})
    path = write(tmp_path / "captions.json", content)
    scores = score_results(results(tmp_path, OURS), path, ("bleu",))
    assert scores.exit_status == 3
    assert scores.messages() == [
        "skipped: caption that is not text: annotations[6]: None, of image 12.jpg",
        "skipped: caption without image: annotations[7]: no image has the id 99",
    ]
    called = CliRunner().invoke(
        main, ["score", str(tmp_path / "results.json"), "--annotations", str(path), "--metrics",
               "bleu"]
    )  # fmt: skip
    assert called.exit_code == 3
    assert called.stderr.count("skipped: ") == 2


def test_images_that_were_not_scored_are_counted(tmp_path):
    path = write(tmp_path / "captions.json", document(lambda n, k: k))
    file = results(tmp_path, {11: OURS[11]})
    assert f"1 annotated images have no caption in {file} and were not scored" in (
        score_results(file, path, ("bleu",)).notes
    )


@pytest.mark.parametrize("reference", ["...", "!"])
def test_references_without_a_word_do_not_refuse_the_set(tmp_path, reference):
    content = document(lambda n, k: k)
    for annotation in content["annotations"][3:]:
        annotation["caption"] = reference
    path = write(tmp_path / "captions.json", content)
    scores = score_results(results(tmp_path, OURS), path, ("bleu", "rouge", "cider"))
    assert scores.per_image[11]["Bleu_1"] == pytest.approx(1)
    assert scores.per_image[12]["ROUGE_L"] == 0


@pytest.mark.parametrize(
    "form",
    [
        str,
        float,
        "{:012d}".format,
        "COCO_val2014_{:012d}".format,
        "COCO_val2014_{:012d}.jpg".format,
        "val2014/COCO_val2014_{:012d}.jpg".format,
    ],
)
def test_ids_of_other_programs_are_understood(tmp_path, form):
    content = document(lambda n, k: k, "COCO_val2014_{:012d}.jpg")
    path = write(tmp_path / "captions.json", content)
    entries = [{"image_id": form(n), "caption": text} for n, text in OURS.items()]
    for document_ in (entries, {"annotations": entries}):
        file = write(tmp_path / "results.json", document_)
        assert list(score_results(file, path, ("rouge",)).per_image) == [11, 12]


def test_file_names_identify_images_of_other_annotations(tmp_path):
    lines = "".join(f"{n}.jpg#{k}\t{t}\n" for n in REFERENCES for k, t in enumerate(REFERENCES[n]))
    (tmp_path / "tokens.txt").write_text(lines)
    named = results_format(dict(enumerate(OURS.values())), {0: "val2014/11.jpg", 1: "12.jpg"})
    scores = score_results(
        write(tmp_path / "results.json", named), tmp_path / "tokens.txt", ("rouge",)
    )
    assert list(scores.per_image) == ["11.jpg", "12.jpg"]
    assert scores.corpus["ROUGE_L"] == pytest.approx(1)


def test_files_of_the_same_name_in_two_folders_are_two_images(tmp_path):
    content = document(lambda n, k: k, "a{}/1.jpg")
    path = write(tmp_path / "captions.json", content)
    good = [{"image_id": f"a{n}/1.jpg", "caption": text} for n, text in OURS.items()]
    file = write(tmp_path / "results.json", good)
    assert score_results(file, path, ("rouge",)).corpus["ROUGE_L"] == pytest.approx(1)
    for wrong in ("1.jpg", "b/1.jpg"):
        file = write(tmp_path / "results.json", [{"image_id": wrong, "caption": "a"}])
        with pytest.raises(PipelineError, match="1 of its 1 images"):
            score_results(file, path, ("rouge",))


@pytest.mark.skipif(not FLICKR8K.is_file(), reason="Flickr8k is not at hand")
def test_captions_by_people_score_perfectly_on_flickr8k(tmp_path):
    images = json.loads(FLICKR8K.read_text())["images"][:50]
    captions = {image["imgid"]: image["sentences"][2]["raw"] for image in images}
    scores = score_results(results(tmp_path, captions), FLICKR8K, ("bleu", "rouge", "cider"))
    assert scores.corpus["Bleu_4"] == pytest.approx(1)
    assert scores.corpus["ROUGE_L"] == pytest.approx(1)
    assert 2 < scores.corpus["CIDEr"] < 10
