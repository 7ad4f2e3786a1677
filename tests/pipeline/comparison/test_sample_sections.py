"""Sections about samples. The evaluations are written by hand."""

import json
from pathlib import Path

import pytest
from support.evaluations import add, place, write

from multispace.errors import PipelineError
from multispace.pipeline.compare import CompareOptions, compare

# Of two samples of five words, which have all of each other's words or none.
ALIKE, UNLIKE = [[5, 5, 5, 4, 3, 2]] * 2, [[5, 5, 0, 0, 0, 0]] * 2


def sampled(folder: Path, system: str, siblings, **other) -> Path:
    record = {"samples": len(siblings)}
    return write(folder, system=system, siblings=siblings, record=record, **other)


def ask(*runs: Path) -> CompareOptions:
    return CompareOptions(runs, resamples=50)


def test_mbleu_of_the_corpus_is_a_column_with_an_interval(tmp_path):
    runs = [sampled(tmp_path / "l", "latent", ALIKE), sampled(tmp_path / "j", "joint", UNLIKE)]
    section = compare(ask(*runs)).sections[1]
    assert section.title == "diversity of 2 samples per image"
    assert section.columns[2:4] == ("mBLEU-4", "mBLEU-4 (corpus)")
    assert section.groups["latent"]["mBLEU-4 (corpus)"].mean == pytest.approx(1)
    assert section.groups["latent"]["Div-1"].mean == 0.25
    cell = section.differences[0][2]["mBLEU-4 (corpus)"]
    assert (cell.mean, cell.low, cell.high) == pytest.approx((-1, -1, -1), abs=1e-3)
    head = section.tables()[0].head
    assert list(head[1:6]) == ["Div-1", "Div-2", "mBLEU-4 (sentence)", "mBLEU-4 (corpus)",
                               "self-CIDEr"]  # fmt: skip


def test_the_best_of_n_is_a_section(tmp_path):
    # The CIDEr of sample k is k / 4 for each image.
    runs = [
        sampled(tmp_path / "l", "latent", ALIKE * 4),
        sampled(tmp_path / "j", "joint", ALIKE * 4),
    ]
    section = compare(ask(*runs)).sections[2]
    assert section.title == "CIDEr, best of n samples"
    assert section.columns == ("n = 1", "n = 5", "n = 8")
    assert [cell.mean for cell in section.groups["joint"].values()] == [0, 1, 1.75]


def test_samples_of_an_earlier_version_have_no_mbleu_of_the_corpus(tmp_path):
    old = write(tmp_path / "o", system="latent", record={"samples": 2})
    found = compare(ask(old, sampled(tmp_path / "j", "joint", ALIKE)))
    assert "mBLEU-4 (corpus)" not in found.sections[1].columns
    assert list(found.sections[2].groups) == ["joint"]
    note = "no mBLEU-4 (corpus): an earlier version evaluated some of the runs"
    assert note in found.notes


def test_how_words_were_drawn_is_said(tmp_path):
    record = {"samples": 2, "temperature": 0.5, "top_p": 0.9}
    found = compare(ask(write(tmp_path / "b", record=record)))
    assert "samples of base: words at temperature 0.5, top-p 0.9" in found.notes


def test_sample_scores_that_do_not_fit_are_refused(tmp_path):
    run = sampled(tmp_path / "l", "latent", ALIKE)
    good = json.loads((place(run) / "sample_scores.json").read_text())
    missing = {name: value for name, value in good[0].items() if name != "CIDEr"}
    for change, message in (
        (good[1:], r"sample_scores\.json: it has 39 images, 39 with CIDEr, expected 40"),
        ([missing, *good[1:]], "it has 40 images, 39 with CIDEr, expected 40"),
        ([{**e, "siblings": ALIKE * 2} for e in good], r"it has \[2, 4\] samples per image"),
        ([{**e, "siblings": [[5, 5, 5]] * 2} for e in good], "has 3 entries, expected 6"),
        ([{**e, "siblings": [[-1, 5, 5, 4, 3, 2]] * 2} for e in good], "is -1, expected"),
    ):
        add(place(run), sample_scores=change)
        with pytest.raises(PipelineError, match=message):
            compare(ask(run))
