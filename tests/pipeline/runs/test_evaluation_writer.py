"""Writing evaluations: whole or not at all, each request in a folder of its own."""

import hashlib
import json
import multiprocessing
import os
from contextlib import suppress
from dataclasses import replace

import pytest
from support.evaluations import MADE, place, write

from multispace.errors import PipelineError
from multispace.pipeline.metrics.captions.coco_metrics import Scores
from multispace.pipeline.runs import evaluation_writer as module
from multispace.pipeline.runs.evaluation_folder import Request
from multispace.pipeline.runs.evaluation_reader import find_evaluation
from multispace.pipeline.runs.evaluation_writer import scores_content, write_evaluation


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_are_listed_an_image_a_line():
    scores = Scores(
        corpus={"Bleu_1": 0.25, "CIDEr": 0.5},
        per_image={3: {"Bleu_1": 0.125}, "é.jpg": {"Bleu_1": 0.375}},
    )
    files = scores_content(scores, "split:test")
    written = {"Bleu_1": 0.25, "CIDEr": 0.5, "signature": "split:test"}
    assert json.loads(files["scores.json"]) == written
    assert json.loads(files["per_image.json"]) == [
        {"image_id": 3, "Bleu_1": 0.125},
        {"image_id": "é.jpg", "Bleu_1": 0.375},
    ]
    assert len(files["per_image.json"].splitlines()) == 4
    with pytest.raises(ValueError, match="JSON compliant"):
        scores_content(Scores({"Bleu_1": float("nan")}, {}), "")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "test"),
        ({"checkpoint": "last"}, "test-last"),
        ({"beam": 1, "checkpoint": "last"}, "test-last,beam=1"),
        ({"samples": 20, "sample_meteor": True}, "test,samples=20,sample-meteor"),
        ({"metrics": ("cider", "bleu")}, "test,metrics=bleu+cider"),
        ({"metrics": ("cider", "rouge", "meteor", "bleu")}, "test"),
        ({"length_penalty": 0.7, "seed": 3}, "test,length-penalty=0.7,seed=3"),
        ({"importance_samples": 0}, "test,importance-samples=0"),
        ({"samples": 5, "curve": (0.0, 0.4)}, "test,samples=5,curve=0.0+0.4"),
        ({"disentanglement": False}, "test,no-disentanglement"),
    ],
)
def test_the_folder_is_named_by_what_differs_from_the_defaults(asked, name):
    assert Request("test", **asked).folder_name == name


def test_each_file_has_its_digest(tmp_path):
    folder = place(write(tmp_path))
    files = content(folder)
    listed = json.loads(files.pop("evaluation.json"))["files"]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_another_request_leaves_an_evaluation_as_it_is(tmp_path):
    before = content(place(write(tmp_path, record={"samples": 0})))
    write(tmp_path, noise=3, record={"beam": 1})
    write(tmp_path, noise=4, record={"metrics": ("rouge", "cider")})
    assert content(place(tmp_path)) == before
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert names == {"test", "test,beam=1", "test,metrics=rouge+cider", ".lock"}


def test_the_same_request_replaces_an_evaluation_and_keeps_what_is_not_its_own(tmp_path):
    folder = place(write(tmp_path))
    (folder / "notes.txt").write_text("mine")
    (folder / "latents.json").write_text("{}")
    before = content(folder)
    write(tmp_path, noise=3)
    after = content(folder)
    assert after["notes.txt"] == b"mine"
    assert "latents.json" not in after
    assert after["scores.json"] != before["scores.json"]
    assert {path.name for path in folder.parent.iterdir()} == {"test", ".lock"}


def test_the_first_evaluation_has_the_plain_folder_and_the_default_one_takes_it(tmp_path):
    before = content(place(write(tmp_path, record={"samples": 9})))
    write(tmp_path, noise=2, record={"beam": 1})
    assert content(place(tmp_path)) == before
    write(tmp_path, record={"samples": 9})
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert names == {"test", "test,beam=1", ".lock"}
    write(tmp_path, noise=3)
    assert content(tmp_path / "evaluation" / "test,samples=9") == before
    assert json.loads((place(tmp_path) / "evaluation.json").read_text())["samples"] == 0


@pytest.mark.parametrize("step", range(6))
def test_a_writer_that_is_killed_leaves_the_old_evaluation_or_the_new(tmp_path, monkeypatch, step):
    folder = place(write(tmp_path))
    old = content(folder)
    new = content(place(write(tmp_path / "other", noise=3)))
    calls = 0

    def limited(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "rename", limited(os.rename))
        patch.setattr(module, "write_synced", limited(module.write_synced))
        patch.setattr(module, "_clear", limited(module._clear))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, noise=3)
    assert content(find_evaluation(tmp_path, "test", "best")) in (old, new)
    write(tmp_path, noise=3)
    assert content(folder) == new
    assert {path.name for path in folder.parent.iterdir()} == {"test", ".lock"}


def write_often(run, number):
    files = {f"{name}.json": b"%d" % number for name in ("scores", "captions", "latents")}
    for _ in range(40):
        write_evaluation(run, replace(MADE, step=number), files)


def test_two_evaluations_at_once_do_not_mix(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(tmp_path, n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    files = content(place(tmp_path))
    step = json.loads(files.pop("evaluation.json"))["step"]
    assert set(files.values()) == {b"%d" % step}


@pytest.mark.parametrize("target", [".replaced-test", ".replaced-val", ".partial-test"])
def test_nothing_is_removed_through_links(tmp_path, target):
    theirs = content(place(write(tmp_path / "theirs")))
    folder = place(write(tmp_path / "run"))
    (folder.parent / target).symlink_to(place(tmp_path / "theirs"))
    with suppress(OSError):
        write(tmp_path / "run", noise=3)
    assert content(place(tmp_path / "theirs")) == theirs


@pytest.mark.parametrize("name", ["evaluation", "evaluation/test", "evaluation/.lock"])
def test_nothing_is_written_through_links(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "scores.json").write_text("theirs")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(PipelineError, match=name):
        write(tmp_path / "run")
    assert content(outside) == {"scores.json": b"theirs"}
