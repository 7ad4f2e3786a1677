"""Evaluations that were tampered with end in one line that names the file."""

import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.evaluations import IMAGES, add, change, place, write

from multispace.errors import Error, PipelineError
from multispace.pipeline.compare import CompareOptions, compare
from multispace.pipeline.metrics.content.attributes import attribute_scores
from multispace.pipeline.report import ReportOptions, report

DEEP = b"[" * 100_000 + b"]" * 100_000
VALUES = [
    None,
    True,
    -1,
    2**40,
    2**70,
    1e308,
    "text",
    "\x1b[31m",
    "\ud800",
    [],
    [[]],
    {},
    {"a": {}},
    "x" * 9000,
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run with samples, attributes, captions and a log."""
    run = write(tmp_path_factory.mktemp("tampered") / "run", record={"samples": 3})
    said = dict.fromkeys(range(IMAGES), "a red bus")
    add(
        run / "evaluation" / "test",
        captions=[{"image_id": i, "caption": text} for i, text in said.items()],
        samples=[{"image_id": i, "captions": [text] * 3} for i, text in said.items()],
        attributes=attribute_scores({i: [text] for i, text in said.items()}, said),
        latents={
            "z": {
                "dimensions": 1, "kl": 1.0, "kl_by_dimension": [1.0], "active_units": 1,
                "information": {"mutual_information": 1.0, "aggregate_kl": 0.0, "sum": 1.0,
                                "log_pictures": 3.0},
            },
            "c": {"sizes": [8], "kl": 1.5, "usage_perplexity": [4.0], "information": [
                {"mutual_information": 1.25, "aggregate_kl": 0.25, "sum": 1.5}],
                "meaning": {
                    "assigned": "captions", "count": 80, "captions": 80, "sentence": "about nouns",
                    "variables": [{
                        "size": 8, "in_use": 1, "fraction_in_use": 0.125,
                        "concepts": {"noun": {"nmi": 0.5, "nmi_by_chance": 0.1, "explained": 0.4}},
                        "categories": [{
                            "category": 3, "count": 80, "share": 1.0,
                            "words": [{"word": "bus", "z": 3.0, "count": 80}],
                            "examples": [{"image": "a.jpg", "caption": "a red bus"}],
                        }],
                    }],
                }},
            "ablation": {"captions": 80, "nll": 30.5, "cider": 0.5,
                         "shuffled": {"z": {"nats": 1.0, "cider": 0.0}},
                         "prior": {"z": {"nats": 1.0, "cider": 0.0}}},
            "likelihood": {"samples": 5, "nll": 3.0, "elbo": 4.0},
            "verdict": "used",
        },
        composition={
            "captions": "samples", "k": 3, "mean_recall": {"1": 0.5}, "mean_noun_named": 0.5,
            "pairs": {"red bus": {"levels": {"1": {"pictures": 2, "recalled": 1, "recall": 0.5}},
                                  "noun_named": 0.5}},
        },
        disentanglement={
            "pictures": 60,
            "factors": {"shape": {"values": 2, "kind": "categorical", "majority": 0.5, "mig": 0.1,
                                  "sap": 0.1, "probe_z": 0.1}},
            "z": {"mig": 0.1, "sap": 0.1, "disentanglement": 0.1, "completeness": 0.1,
                  "informativeness": 0.1, "importance": [[0.5]],
                  "factor_vae": {"score": 0.1, "learnt": 1, "judged": 1, "codes": 1}},
        },
    )  # fmt: skip
    steps = [{"step": step, "recon": 9.0, "kl_z": 1.0, "kl_c": 1.0} for step in (10, 20)]
    lines = [{**line, "split": "train", "capacity_z": 2.0, "capacity_c": 2.0} for line in steps]
    lines += [{**line, "split": "val", "cider": 0.5} for line in steps]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def page(run, tmp_path):
    return report(ReportOptions((run,), tmp_path / "page.html", resamples=5, image_count=2))


def places(value, path=()):
    """Yield the path of every value inside a document."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:1])
        for name, inner in items:
            yield from places(inner, (*path, name))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


NAMES = ("scores", "per_image", "diversity", "captions", "samples", "attributes", "latents",
         "composition", "disentanglement")  # fmt: skip


def test_the_page_is_made_where_nothing_is_tampered_with(evaluated, tmp_path):
    made = page(evaluated, tmp_path)
    assert {"latent space", "disentanglement", "unseen combinations"} < set(made.included)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_value_of_another_type_is_refused_or_read(evaluated, tmp_path_factory, data):
    folder = evaluated / "evaluation" / "test"
    name = data.draw(st.sampled_from((*NAMES, "evaluation")))
    kept = {file: (folder / file).read_bytes() for file in (f"{name}.json", "evaluation.json")}
    document = json.loads(kept[f"{name}.json"])
    path = data.draw(st.sampled_from(list(places(document))))
    new = data.draw(st.sampled_from(VALUES))
    try:
        if name == "evaluation":
            (folder / "evaluation.json").write_text(json.dumps(replaced(document, path, new)))
        else:
            add(folder, **{name: replaced(document, path, new)})
        with suppress(Error):
            page(evaluated, tmp_path_factory.mktemp("out"))
    finally:
        for file, content in kept.items():
            (folder / file).write_bytes(content)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_value_of_another_type_in_the_log_or_the_options(evaluated, tmp_path_factory, data):
    name = data.draw(st.sampled_from(("config.json", "metrics.jsonl")))
    kept = (evaluated / name).read_bytes()
    first, *others = kept.decode().splitlines() if name == "metrics.jsonl" else [kept.decode()]
    document = json.loads(first)
    path = data.draw(st.sampled_from(list(places(document))))
    new = data.draw(st.sampled_from([*VALUES, "$\\frac{", float("nan"), float("inf")]))
    try:
        lines = [json.dumps(replaced(document, path, new)), *others]
        (evaluated / name).write_text("\n".join(lines) + "\n")
        with suppress(Error):
            page(evaluated, tmp_path_factory.mktemp("out"))
    finally:
        (evaluated / name).write_bytes(kept)


def test_text_in_place_of_a_number_of_the_log_is_refused(evaluated, tmp_path):
    kept = (evaluated / "metrics.jsonl").read_text()
    try:
        (evaluated / "metrics.jsonl").write_text(kept.replace("9.0", '"$\\\\frac{"', 1))
        with pytest.raises(PipelineError, match=r"metrics\.jsonl, line 1: recon is .*frac"):
            page(evaluated, tmp_path)
    finally:
        (evaluated / "metrics.jsonl").write_text(kept)


@pytest.mark.parametrize("name", [*NAMES, "evaluation"])
def test_a_document_that_is_too_deep_is_refused(evaluated, tmp_path, name):
    folder = evaluated / "evaluation" / "test"
    kept = {file: (folder / file).read_bytes() for file in (f"{name}.json", "evaluation.json")}
    try:
        if name == "evaluation":
            (folder / "evaluation.json").write_bytes(DEEP)
        else:
            add(folder, **{name: DEEP})
        with pytest.raises(PipelineError, match=rf"{name}\.json: .*nested"):
            page(evaluated, tmp_path)
    finally:
        for file, content in kept.items():
            (folder / file).write_bytes(content)


def test_text_that_utf_8_cannot_write_is_replaced(tmp_path):
    run = write(tmp_path)
    add(place(run), captions=[{"image_id": i, "caption": "a \ud800 dog"} for i in range(IMAGES)])
    assert "a ? dog" in page(run, tmp_path).out.read_text()


def test_a_pipe_is_refused_at_once(tmp_path):
    run = write(tmp_path)
    path = place(run) / "scores.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PipelineError, match=r"scores\.json: not a plain file"):
        compare(CompareOptions((run,), resamples=5))


def test_a_file_that_is_not_listed_is_no_part_of_the_evaluation(tmp_path):
    run = write(tmp_path)
    (place(run) / "latents.json").write_text('{"verdict": "a stranger says so"}')
    assert "latent space" not in page(run, tmp_path).included
    change(place(run))  # earlier versions listed none
    assert "latent space" in page(run, tmp_path).included
