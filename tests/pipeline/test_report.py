"""`report`: one page over evaluated runs. No networks: the evaluations are written by hand."""

import base64
import io
import json
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from support import evaluations, tiny
from support.evaluations import IMAGES, add, place, write

from multispace.cli import main
from multispace.data.cache.reader import Cache
from multispace.data.files import write_json
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.train_options import TrainOptions, resolve
from multispace.pipeline.compare import CompareOptions, compare
from multispace.pipeline.metrics.content.attributes import attribute_scores
from multispace.pipeline.preprocess import preprocess
from multispace.pipeline.report import ReportOptions, report
from multispace.pipeline.reporting.reproduction import evaluate_command, train_command
from multispace.pipeline.runs.evaluation_folder import digest_references
from multispace.pipeline.runs.groups import read_run

EMPTY_TAGS = {"meta", "img", "br", "link", "input"}
VERDICT = "4.0 of 8 categories in use, shuffling c costs 2.0 nats: the decoder uses it"
COSTS = {"c": {"nats": 2.0, "cider": -0.25}}
LATENTS = {
    "c": {
        "sizes": [8], "kl": 1.5, "kl_by_variable": [1.5], "usage_perplexity": [4.0],
        "information": [{"mutual_information": 1.25, "aggregate_kl": 0.25, "sum": 1.5}],
    },
    "ablation": {"captions": 80, "nll": 30.5, "cider": 0.5, "shuffled": COSTS, "prior": COSTS},
    "verdict": VERDICT,
}  # fmt: skip


def meaning(*words: str, count: int = 1) -> dict:
    """Return what ``count`` categories mean that have the same words."""
    entry = {
        "count": 5, "share": 0.125, "words": [{"word": w, "z": 2.5, "count": 5} for w in words],
        "examples": [{"image": "a.jpg", "caption": f"a {words[0]} runs"}],
    }  # fmt: skip
    concept = {"nmi": 0.31, "nmi_by_chance": 0.1, "explained": 0.2}
    return {
        "assigned": "captions", "count": 40, "captions": 40,
        "variables": [{
            "size": 1000, "in_use": count, "fraction_in_use": count / 1000,
            "concepts": {"noun": concept},
            "categories": [{"category": k, **entry} for k in range(count)],
        }],
        "sentence": "c is about nouns first",
    }  # fmt: skip


class Page(HTMLParser):
    """Tables as rows of text, all text, and attributes; refuses tags that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.text, self.attributes, self.tags, self._open = "", [], set(), []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in EMPTY_TAGS:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("style", "script"):
            return
        self.text += data
        if self._open and self._open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data.replace("\n", " ")

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def say(run: Path, text: str = "a dog of {}", **files) -> Path:
    """Add captions, and other files, to an evaluation of 40 images."""
    said = {image: text.format(image) for image in range(IMAGES)}
    captions = [{"image_id": image, "caption": said[image]} for image in said]
    attributes = attribute_scores({image: ["a red bus"] for image in said}, said)
    for folder in (run / "evaluation").iterdir():
        if folder.is_dir():
            add(folder, **{"captions": captions, "attributes": attributes, **files})
    return run


def log(run: Path, system: str, steps: int = 4) -> Path:
    """Write a log as training does: a base has no KL, a multispace has capacities."""
    kl = 0.0 if system == "base" else 12.5
    targets = {"capacity_z": 30.0, "capacity_c": 1.0} if system == "multispace" else {}
    lines = []
    for step in range(10, 10 * steps + 1, 10):
        numbers = {"step": step, "recon": 50 - step / 10, "kl_z": kl, "kl_c": kl / 5}
        lines.append({**numbers, "split": "train", **targets})
        lines.append({**numbers, "split": "val", "cider": step / 100})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def ask(out: Path, *runs: Path, **other) -> ReportOptions:
    return ReportOptions(runs, out / "out" / "page.html", **{"resamples": 50, **other})


def test_one_page_holds_all_of_it_and_asks_for_nothing(tmp_path):
    base = [log(say(write(tmp_path / f"b{n}", seed=n, noise=n)), "base") for n in (1, 0)]
    drawn = [{"image_id": i, "captions": ["a cat", "a cow", "a cat"]} for i in range(IMAGES)]
    multi = write(tmp_path / "m", system="multispace", noise=9, record={"samples": 3})
    log(say(multi, "a bus of {}", samples=drawn, latents=LATENTS), "multispace")
    made = report(ask(tmp_path, *base, multi, image_count=4))
    page = Page(made.out)
    assert made.bytes == len(page.source.encode())
    assert made.render().startswith(f"written to {made.out}, {made.bytes / 1e3:.0f} kB: scores, ")
    assert made.notes[0] == f"left out: {made.left_out[0]}"
    assert (made.messages(), made.exit_status) == ((), 0)

    assert page.source.count("<script>") == page.source.count("<script") == 1
    assert not page.tags & {"link", "iframe", "object", "image", "base"}
    assert all(link.startswith("#") for link in page.values("href") + page.values("xlink:href"))
    assert page.values("src") == []
    policy = next(value for value in page.values("content") if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; img-src data:; ")
    source = page.source.replace("http-equiv", "")
    assert not [word for word in ("http", "//", "url(//", "@import") if word in source]

    found = compare(CompareOptions((*base, multi), resamples=50))
    for shown, table in zip(page.tables, found.tables(), strict=False):
        rows = [[cell.replace("\n", " ") for cell in row] for row in table.rows]
        assert shown == [list(table.head), *rows]
    # Scores, samples, contents and single captions; differences of scores and of contents.
    assert len(found.tables()) == 6
    assert all(note in page.text for note in found.notes)

    assert VERDICT in page.text
    assert ["c", "4.0 of 8", "1.50", "1.25", "0.25", "+2.00", "+2.00", "-0.250", "-0.250"] in (
        row for table in page.tables for row in table
    )
    assert [text for text in ("a dog of 0", "a dog of 10", "a dog of 30", "a bus of 20")
            if text not in page.text] == []  # fmt: skip
    assert "a dog of 1\n" not in page.text
    assert "2 different samples" in page.text
    assert "<li>a cat</li><li>a cow</li>" in page.source
    assert f"{tmp_path / 'b0'}, seed 0" in page.text  # the first seed speaks for its group
    assert "multispace train multispace --run" in page.text
    assert made.groups == {"base": [str(run) for run in base], "multispace": [str(multi)]}
    assert {"scores", "latent space", "learning curves", "examples"} < set(made.included)
    assert "references" not in made.included
    assert [line.split(":")[0] for line in made.left_out] == [
        "latent space", "unseen combinations", "disentanglement",
        "references of the examples", "images of the examples",
    ]  # fmt: skip
    assert made.left_out[0] == "latent space: no latents.json of base"
    assert all(line in page.text for line in made.left_out)
    again = report(ask(tmp_path / "again", *base, multi, image_count=4))
    assert again.out.read_bytes() == made.out.read_bytes()


def test_quality_against_diversity_is_drawn(tmp_path):
    record = {"samples": 4}
    points = {0.2: [0.3, 4, 4, 4], 0.4: [0.7, 6, 2, 3], 0.8765: [0.9, 6, 1, 2]}
    base = write(tmp_path / "b", curve=points, record={**record, "temperature": 0.4})
    better = {t: [x, *(value + 1 for value in values)] for t, (x, *values) in points.items()}
    joint = write(tmp_path / "j", system="joint", curve=better, record=record)
    made = report(ask(tmp_path, base, joint))
    page = Page(made.out)
    assert "quality against diversity" in made.included
    # Of each curve: a label in six panels, a row of a table, and an option of a command.
    assert page.text.count("0.8765") == 2 * (6 + 1 + 1)
    figure = page.source.split("<figure>")[1].split("</figure>")[0]
    assert figure.count(">oracle CIDEr</text>") == 2
    assert "joint beats temperature sampling: at the self-CIDEr of base sampled" in page.text
    assert "--reference base --reference-temperature 0.4" in page.text
    ids = page.values("id")
    assert {name for name in ids if name.startswith("m") and ids.count(name) > 1} == set()
    other = report(ask(tmp_path, base, joint, reference="joint", reference_temperature=0.2))
    assert "base does not beat joint: at the self-CIDEr of joint" in Page(other.out).text


def test_what_comes_from_data_is_escaped(tmp_path):
    hostile = "<script>alert('x')</script> & <b title=\"y\">"
    run = log(say(write(tmp_path / "a<i>&\"'b", train_split="<u>"), hostile), "base")
    page = Page(report(ask(tmp_path, run)).out)
    assert page.source.count("<script") == 1
    assert not page.tags & {"b", "i", "u"}
    assert page.text.count(hostile) == IMAGES
    assert f"{run}, seed 0" in page.text


def test_what_is_missing_is_said_in_a_line_each(tmp_path):
    runs = write(tmp_path / "b"), write(tmp_path / "l", system="latent")
    made = report(ask(tmp_path, *runs))
    page = Page(made.out)
    assert made.included == ("scores", "how it was made")
    assert [line for line in made.left_out if line not in page.text] == []
    assert "objects and attributes: no attributes.json of any group" in made.left_out
    assert f"learning curve: {runs[1] / 'metrics.jsonl'} is not there, or empty" in made.left_out
    assert "figure" not in page.tags


def test_all_seeds_have_their_verdict(tmp_path):
    other = {"verdict": "nothing is left of it"}
    first = say(write(tmp_path / "0", system="latent", seed=0), latents=LATENTS)
    second = say(write(tmp_path / "1", system="latent", seed=1), latents=other)
    page = Page(report(ask(tmp_path, second, first)).out)
    assert VERDICT in page.text
    assert "seed 1: nothing is left of it" in page.text


def test_the_categories_of_c_are_a_table(tmp_path):
    told = {**LATENTS, "c": {**LATENTS["c"], "meaning": meaning("<i>dog", "grass", count=300)}}
    runs = [
        say(write(tmp_path / system, system=system), latents=latents)
        for system, latents in (("joint", told), ("multispace", LATENTS))  # of an earlier version
    ]
    page = Page(report(ask(tmp_path, *runs)).out)
    (table,) = [table for table in page.tables if table[0][0] == "category"]
    assert table[0] == ["category", "captions", "words", "example"]
    assert table[-1] == ["c0=255", "5 (12.5%)", "<i>dog, grass", "a <i>dog runs (a.jpg)"]
    assert len(table) == 257
    assert "i" not in page.tags
    assert "256 of 300 categories in use" in page.text
    assert (
        "c: captions are assigned to 300 of 1000 categories; NMI with nouns .31 (chance .10)"
        in page.text
    )
    assert "c is about nouns first" in page.text
    assert page.text.count(VERDICT) == 2


def test_a_damaged_file_is_named_and_the_old_page_stays(tmp_path):
    run = say(write(tmp_path / "b"), latents={"c": {}, "ablation": {"shuffled": {"c": {}}}})
    out = ask(tmp_path, run).out
    out.parent.mkdir()
    out.write_text("old")
    with pytest.raises(
        PipelineError, match=r"latents\.json: lacks 'verdict'.*; run `multispace eval"
    ):
        report(ask(tmp_path, run))
    add(place(run), latents=LATENTS, samples=[{"image_id": 3}])
    with pytest.raises(PipelineError, match=r"samples\.json: \[0\] lacks 'captions'"):
        report(ask(tmp_path, run))
    (run / "metrics.jsonl").write_text("3\n")
    with pytest.raises(PipelineError, match=r"metrics\.jsonl, line 1: it is 3, expected an object"):
        report(ask(tmp_path, run))
    assert [file.read_text() for file in out.parent.iterdir()] == ["old"]


def test_runs_are_refused_as_compare_refuses_them(tmp_path):
    run = write(tmp_path / "b")
    messages = []
    for ask_for in (lambda: report(ask(tmp_path, run, split="val")),
                    lambda: compare(CompareOptions((run,), split="val"))):  # fmt: skip
        with pytest.raises(PipelineError, match="is not there; run `multispace evaluate") as error:
            ask_for()
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_both_checkpoints_share_one_curve(tmp_path):
    run = log(say(write(tmp_path / "m", system="multispace")), "multispace")
    write(run, system="multispace", record={"checkpoint": "last"})
    made = report(ask(tmp_path, run, checkpoint="both"))
    page = Page(made.out)
    assert list(made.groups) == ["multispace --checkpoint best", "multispace --checkpoint last"]
    assert page.text.count("multispace train") == 1
    assert page.text.count("multispace evaluate") == 2
    # The capacities of z and of c, once each, with linear and with logarithmic axes.
    assert page.source.count("stroke-dasharray") == 4
    assert "no caption was kept" in page.text  # of the last one


@pytest.fixture
def with_cache(tmp_path, monkeypatch):
    """A run evaluated on the four test images of a cache of captions."""
    monkeypatch.setattr(evaluations, "IMAGES", 4)
    collection = tiny.make_collection(tmp_path / "tiny")
    for split in ("train", "test"):
        preprocess(
            tiny.options(tmp_path / "cache", collection, split, images=None, captions_only=True)
        )
    captions = Cache.open(tmp_path / "cache").captions("test")
    digests = digest_references(captions.references())
    names = ("pictures_digest", "references_digest")
    record = {"images": 4, **dict(zip(names, digests, strict=True))}
    run = write(tmp_path / "run", record=record)
    said = [{"image_id": i, "caption": "a thing"} for i in captions.image_ids]
    add(place(run), captions=said)
    return run, tmp_path / "cache", collection / "images", captions.keys


def test_references_and_images_are_shown_where_they_are_given(tmp_path, with_cache):
    run, cache, images, keys = with_cache
    Image.new("RGB", (900, 600), "red").save(images / keys[0])
    (images / keys[1]).write_bytes(b"no image")
    made = report(ask(tmp_path, run, cache=cache, images=images))
    page = Page(made.out)
    assert page.text.count("this is all") == 4
    assert [key in page.text for key in keys] == [True] * 4
    assert [line.split(": ")[0] for line in made.skipped] == [str(images / keys[1])]
    assert made.skipped[0] in page.text
    start = "data:image/jpeg;base64,"
    sources = page.values("src")
    assert [source[: len(start)] for source in sources] == [start] * 3
    thumbnail = Image.open(io.BytesIO(base64.b64decode(sources[0][len(start) :])))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (360, 240))


def test_wrong_words_are_marked_and_traversals_are_shown(tmp_path, with_cache):
    run, cache, *_ = with_cache
    captions = json.loads((place(run) / "captions.json").read_text())
    add(place(run), captions=[{**entry, "caption": "a red <dog>"} for entry in captions])
    moved = {"key": "a<b>", "caption": "x", "latent": "z0", "captions": {"+3": "a <u>"}}
    write_json(run / "exploration/test/exploration.json", {"traversals": [moved], "words": []})
    made = report(ask(tmp_path, run, cache=cache))
    page = Page(made.out)
    assert "traversals" in made.included
    assert ["z0", "+3", "a <u>"] in [row for table in page.tables for row in table]
    assert not page.tags & {"b", "u", "dog"}
    assert page.source.count("a <mark>red</mark> &lt;<mark>dog</mark>&gt;") == 4
    assert page.text.count("wrong: dog, red dog") == 4


def test_samples_that_do_not_fit_are_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr("multispace.pipeline.reporting.examples.SAMPLE_TEXT", 2000)
    drawn = [{"image_id": i, "captions": [f"{n} cats" for n in range(9)]} for i in range(IMAGES)]
    run = say(write(tmp_path / "m", record={"samples": 9}), samples=drawn)
    made = report(ask(tmp_path, run))
    assert "samples: the first 3 different ones of each image; more would not fit the page" in (
        made.left_out
    )
    assert Page(made.out).text.count("3 different samples") == IMAGES


def test_options_are_left_out_of_names_where_the_system_is_enough(tmp_path):
    plain = write(tmp_path / "b")
    other = write(tmp_path / "l", system="latent", z_size=7)
    made = report(ask(tmp_path, plain, other, names=[]))
    page = Page(made.out)
    assert list(made.groups) == ["base", "latent --z-size 7"]
    assert page.tables[0][1:][1][0] == "latent"
    assert "--z-size 7" in page.text


def test_the_cache_is_the_one_that_the_run_records(tmp_path, with_cache):
    run, cache, images, keys = with_cache
    (run / "c").symlink_to(cache)
    page = Page(report(ask(tmp_path, run, images=images)).out)
    assert page.text.count("this is all") == 4
    assert keys[0] in page.text


def test_nothing_is_fetched_from_a_url_that_only_a_run_names(tmp_path, with_cache, monkeypatch):
    run, _, images, _ = with_cache
    config = json.loads((run / "config.json").read_text())
    config["options"]["cache"] = "https://example.org/cache"
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("multispace.pipeline.reporting.examples.local_cache", None)
    reason = "its cache is at https://example.org/cache; give --cache https://example.org/cache"
    assert f"references of the examples: {run}: {reason}" in report(ask(tmp_path, run)).left_out
    with pytest.raises(PipelineError, match="give --cache https"):
        report(ask(tmp_path, run, images=images))


def test_the_references_must_be_those_of_the_scores(tmp_path, with_cache):
    run, cache, *_ = with_cache
    other = {"images": 4, "pictures_digest": "1" * 64}
    captions = json.loads((place(run) / "captions.json").read_text())
    add(place(write(run, record=other)), captions=captions)
    with pytest.raises(PipelineError, match="cache: its images of 'test', or their references"):
        report(ask(tmp_path, run, cache=cache))
    assert "references of the examples" in report(ask(tmp_path, run)).left_out[-2]
    with pytest.raises(OptionError, match="--pictures -1"):
        ask(tmp_path, run, image_count=-1)


def test_the_commands_make_the_same_run_again(tmp_path):
    asked = dict(
        system="multispace", steps=70, seed=3, categories=(4, 6), tie_embeddings=True,
        learning_rate=0.01, lr_schedule="cosine", capacity_c_max=1.5, val_split="my val",
    )  # fmt: skip
    record = {"samples": 4, "seed": 8, "beam": 2, "metrics": ["bleu", "cider"]}
    folder = write(tmp_path / "a run", record=record, **asked)
    run = read_run(folder, "test", "best")
    command, train, *words = shlex.split(train_command(run))
    assert (command, train) == ("multispace", "train")
    given = main.commands["train"].make_context("train", words).params
    names = TrainOptions.__dataclass_fields__
    given = {k: v for k, v in given.items() if k in names and v is not None}
    assert resolve(given, None) == TrainOptions(cache=Path("CACHE"), run=folder, **asked)
    assert shlex.split(evaluate_command(run))[2:] == [
        str(folder), *shlex.split("--split test --beam 2 --samples 4"),
        *shlex.split("--metrics bleu,cider --seed 8"),
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "ranks": 2})
    assert train_command(run).startswith("torchrun --nproc-per-node 2 -- cli.py train multispace")


def test_the_command_prints_what_is_in_and_what_is_not(tmp_path, with_cache):
    run, cache, images, keys = with_cache
    page = tmp_path / "page.html"

    def call(*arguments: object, status: int = 0):
        words = ["report", str(run), "--out", str(page), "--resamples", "20", *map(str, arguments)]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == status, result.output
        return result

    text = call()
    assert text.stdout.startswith(f"written to {page}, ")
    gone = f"{run}: its cache {run / 'c'} is not there; give the cache"
    assert f"left out: references of the examples: {gone}" in text.stderr
    (images / keys[2]).unlink()
    printed = call("--json", "--cache", cache, "--images", images, status=3)
    assert json.loads(printed.stdout)["included"][-1] == "how it was made"
    assert f"skipped: {images / keys[2]}: no such file" in printed.stderr
    assert gone in call("--images", images, status=1).stderr
    call("--split", "val", status=1)


def test_groups_have_the_names_that_are_given(tmp_path):
    run = log(say(write(tmp_path / "b")), "base")
    made = report(ask(tmp_path, run, names=[f"plain <b>={run}"]))
    assert list(made.groups) == ["plain <b>"]
    page = Page(made.out)
    assert "plain <b>: 1 seed" in page.text
    assert f"--name 'plain <b>={run}'" in page.text
