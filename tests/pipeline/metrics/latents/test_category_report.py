"""What categories mean, on captions whose categories are planted."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from support import rows

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.errors import PipelineError
from multispace.model.latent.distributions import Categoricals
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.metrics.latents.category_report import (
    category_labels,
    category_lines,
    category_report,
    category_table,
)
from multispace.pipeline.metrics.latents.concept_information import ConceptInformation
from multispace.pipeline.runs.evaluation_formats import evaluation_format

# Each image has a caption about one dog and one about two cats, in one of two colours.
COLOURS = ("red", "blue")
TEXTS = [(f"a {colour} dog runs", f"two {colour} cats sit") for colour in COLOURS] * 20


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("planted") / "cache"
    images = {f"{n:02}.jpg": texts for n, texts in enumerate(TEXTS)}
    with write_cache(root) as writer:
        rows.put_text(writer, {"test": images})
        rows.append(writer, list(images))
    cache = Cache.open(root)
    return load_pairs(cache, "test"), cache.vocabulary()


class Reader:
    """A system whose q(c) is certain of the word of each variable that the caption has."""

    reads_captions = True
    feature_mean = torch.zeros(6)

    def __init__(self, vocabulary, *variables):
        self.sizes = tuple(len(words) for words in variables)
        self.table = torch.zeros(len(vocabulary), sum(self.sizes))
        for place, word in enumerate(word for words in variables for word in words):
            if word:
                self.table[vocabulary.encode(word)[0], place] = 9.0

    def posterior(self, features, words):
        logits = torch.zeros(len(features), sum(self.sizes))
        logits = logits.index_add(0, words.captions(), self.table[words.inputs])
        return Posterior(c=Categoricals.from_parameters(logits, self.sizes))


class Viewer:
    """A system whose q(c) is certain of the image's number modulo a size."""

    reads_captions = False
    feature_mean = torch.zeros(6)

    def __init__(self, size):
        self.size = size

    def posterior(self, features):
        categories = torch.arange(len(features)) % self.size
        logits = 9 * torch.nn.functional.one_hot(categories, self.size).float()
        return Posterior(c=Categoricals.from_parameters(logits, (self.size,)))


def words_of(entry):
    return [word["word"] for word in entry["words"]]


def test_a_c_about_the_noun(split):
    pairs, vocabulary = split
    report = category_report(Reader(vocabulary, ("", "cats", "", "dog")), pairs, vocabulary)
    assert (report["assigned"], report["count"], report["captions"]) == ("captions", 80, 80)
    (variable,) = report["variables"]
    assert (variable["size"], variable["in_use"], variable["fraction_in_use"]) == (4, 2, 0.5)
    cats, dogs = variable["categories"]
    assert [(e["category"], e["count"], e["share"]) for e in (cats, dogs)] == [
        (1, 40, 0.5), (3, 40, 0.5)]  # fmt: skip
    assert words_of(cats) == ["cats", "sit", "two"]
    assert words_of(dogs) == ["a", "dog", "runs"]
    assert [word["count"] for word in dogs["words"]] == [40, 40, 40]
    assert dogs["examples"] == [
        {"image": key, "caption": f"a {colour} dog runs"}
        for key, colour in (("06.jpg", "red"), ("20.jpg", "red"), ("33.jpg", "blue"))
    ]

    concepts = variable["concepts"]
    assert list(concepts) == ["noun", "colour", "number"]  # no caption names a size
    for kind in ("noun", "number"):  # the number follows from the noun
        assert concepts[kind]["nmi"] == pytest.approx(1)
        assert concepts[kind]["explained"] == pytest.approx(1)
        assert concepts[kind]["mutual_information"] == pytest.approx(math.log(2))
    assert concepts["colour"]["nmi"] == pytest.approx(0, abs=1e-9)
    assert report["sentence"] == (
        "c is about nouns first: beyond chance, it explains 100% of the entropy of the nouns that "
        "captions name, 100% of counts, 0% of colours"
    )
    chance = f"{concepts['noun']['nmi_by_chance']:.2f}"[1:]
    assert category_lines(report)[0].startswith(
        f"c: captions are assigned to 2 of 4 categories; NMI with nouns 1.00 (chance {chance}), "
        "counts 1.00 ("
    )
    assert category_labels(report) == [
        ["category 0: not in use", "category 1: cats, sit, two", "category 2: not in use",
         "category 3: a, dog, runs"]]  # fmt: skip
    assert category_labels(report, words=1)[0][3] == "category 3: a"
    assert category_table(report) == (
        ["category", "captions", "words", "example"],
        [["c0=1", "40 (50.0%)", "cats, sit, two", "two red cats sit (06.jpg)"],
         ["c0=3", "40 (50.0%)", "a, dog, runs", "a red dog runs (06.jpg)"]],
    )  # fmt: skip
    assert len(category_table(report, 1)[1]) == 1


def test_several_variables_are_reported_apart_and_together(split):
    pairs, vocabulary = split
    system = Reader(vocabulary, ("cats", "dog", ""), ("blue", "red"))
    report = category_report(system, pairs, vocabulary)
    first, second = report["variables"]
    assert first["concepts"]["noun"]["nmi"] == pytest.approx(1)
    assert first["concepts"]["colour"]["nmi"] == pytest.approx(0, abs=1e-9)
    assert second["concepts"]["noun"]["nmi"] == pytest.approx(0, abs=1e-9)
    assert second["concepts"]["colour"]["nmi"] == pytest.approx(1)
    assert report["together"]["in_use"] == 4
    for concept in report["together"]["concepts"].values():  # four codes of a binary concept
        assert concept["nmi"] == pytest.approx(2 * math.log(2) / (math.log(4) + math.log(2)))
        assert concept["explained"] == pytest.approx(1)
    assert "it explains 100% of the entropy of the nouns" in report["sentence"]
    line = category_lines(report)[0]
    assert line.startswith("c: captions are assigned to 4 of 5 categories; highest NMI of a variab")
    assert "nouns 1.00 (c0, chance " in line
    assert "colours 1.00 (c1, chance " in line
    labels = category_labels(report)
    assert labels[1] == ["category 1.0: blue", "category 1.1: red"]
    assert labels[0][2] == "category 0.2: not in use"


def test_too_many_combinations_are_not_reported_together(split, monkeypatch):
    pairs, vocabulary = split
    path = "multispace.pipeline.metrics.latents.category_report.MIN_UNITS"
    monkeypatch.setattr(path, 21)
    system = Reader(vocabulary, ("cats", "dog"), ("blue", "red"))
    report = category_report(system, pairs, vocabulary)
    assert "together" not in report
    assert "its best variable explains 100% of the entropy of the nouns" in report["sentence"]


def test_images_are_assigned_where_q_reads_only_the_image(split):
    pairs, vocabulary = split
    report = category_report(Viewer(2), pairs, vocabulary)  # as the colours alternate
    assert (report["assigned"], report["count"], report["captions"]) == ("images", 40, 80)
    (variable,) = report["variables"]
    red, blue = variable["categories"]
    assert [(e["category"], e["count"], e["share"]) for e in (red, blue)] == [
        (0, 20, 0.5), (1, 20, 0.5)]  # fmt: skip
    assert (words_of(red), words_of(blue)) == (["red"], ["blue"])
    assert red["examples"][0] == {"image": "06.jpg", "caption": "a red dog runs"}
    assert variable["concepts"]["colour"]["nmi"] == pytest.approx(1)
    assert report["sentence"].startswith("c is about colours first")
    assert category_table(report)[0][1] == "images"


def test_an_idle_c_is_about_nothing(split):
    pairs, vocabulary = split
    report = category_report(Viewer(1), pairs, vocabulary)
    (variable,) = report["variables"]
    assert variable["in_use"] == 1
    assert variable["categories"][0]["words"] == []
    assert category_labels(report) == [["category 0: no word stands out"]]
    assert {concept["nmi"] for concept in variable["concepts"].values()} == {0}
    assert report["sentence"] == (
        "c is not about the nouns, counts or attributes that captions name: beyond chance, it "
        "explains less than 5% of the entropy of each"
    )


def test_images_without_a_vector_do_not_shift_captions(tmp_path):
    images = {f"{n:02}.jpg": texts for n, texts in enumerate(TEXTS)}
    kept = [key for key in images if key not in ("00.jpg", "03.jpg")]
    with write_cache(tmp_path / "cache") as writer:
        rows.put_text(writer, {"test": images})
        rows.append(writer, kept, {"00.jpg": "unreadable", "03.jpg": "unreadable"})
    cache = Cache.open(tmp_path / "cache")
    vocabulary = cache.vocabulary()
    system = Reader(vocabulary, ("cats", "dog"))
    (variable,) = category_report(system, load_pairs(cache, "test"), vocabulary)["variables"]
    assert variable["concepts"]["noun"]["nmi"] == pytest.approx(1)
    for entry, noun in zip(variable["categories"], ("cats", "dog"), strict=True):
        assert entry["count"] == 38
        for example in entry["examples"]:
            assert example["caption"] in images[example["image"]]
            assert noun in example["caption"]


def test_a_system_without_c_has_no_report(split):
    pairs, vocabulary = split
    system = SimpleNamespace(
        reads_captions=False, feature_mean=torch.zeros(6), posterior=lambda _: Posterior()
    )
    assert category_report(system, pairs, vocabulary) is None


def test_it_depends_on_its_seed_alone(split):
    pairs, vocabulary = split
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = category_report(Viewer(7), pairs, vocabulary, seed=1)
    assert category_report(Viewer(7), pairs, vocabulary, seed=1) == first
    assert category_report(Viewer(7), pairs, vocabulary, seed=2) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_read_back_from_latents_json_and_checked(split, tmp_path):
    pairs, vocabulary = split
    meaning = category_report(Reader(vocabulary, ("cats", "dog"), ("red", "")), pairs, vocabulary)
    c = {"sizes": [2, 2], "kl": 1.0, "usage_perplexity": [2.0, 2.0], "information": []}
    known = evaluation_format("latents.json", "evaluate again")

    def read(c):
        content = json.dumps({"verdict": "used", "c": c}, allow_nan=False).encode()
        return known.parse_json(content, tmp_path)["c"]

    assert read({**c, "meaning": meaning})["meaning"] == meaning
    assert read(c) == c  # as earlier versions wrote it
    huge = {**meaning["variables"][0], "size": 1 << 40}
    for damaged in ({**meaning, "variables": []}, {**meaning, "variables": [huge]}):
        with pytest.raises(PipelineError, match=r"c\.meaning\.variables"):
            read({**c, "meaning": damaged})


def test_examples_are_printed_on_one_line():
    examples = [{"image": "a\x1b.jpg", "caption": "two\nlines" + " more" * 40}]
    entry = {"category": 0, "count": 1, "share": 1.0, "words": [], "examples": examples}
    report = {"assigned": "captions", "variables": [{"categories": [entry]}]}
    example = category_table(report)[1][0][3]
    assert example == "two lines" + " more" * 17 + " mo" + "... (a .jpg)"


def test_explained_is_adjusted_for_chance():
    found = ConceptInformation(
        nmi=0.5, nmi_by_chance=0.2, mutual_information=0.6, by_chance=0.2, entropy=1.0
    )
    assert found.to_json()["explained"] == pytest.approx(0.4 / 0.8)
