"""Captioners as ONNX graphs: they caption as PyTorch does, or are not exported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.options import used_by
from support.tiny import train_tiny

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.export import export
from multispace.pipeline.inference import onnx_graphs as module
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.onnx_graphs import (
    DECODER,
    ENCODER,
    greedy_words,
    onnx_graphs,
    onnx_way,
)
from multispace.pipeline.runs.run_folder import load_run

CPU = torch.device("cpu")


def need_onnx() -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason="needs ONNX: pip install '.[onnx]'")


def captions(run, graphs, features) -> list[str]:
    words = greedy_words(graphs[ENCODER], graphs[DECODER], features.float().numpy())
    return [run.vocabulary.decode(row) for row in words.tolist()]


def test_an_exported_graph_captions_as_the_model(tiny_run, tiny_cache, tmp_path):
    need_onnx()
    exported = export(ModelExportOptions(tiny_run, tmp_path / "model", format="onnx"))
    assert {ENCODER, DECODER} < set(exported.files)
    model = load_run(exported.out, CPU)  # checks the digests of the graphs as well
    graphs = {name: (exported.out / name).read_bytes() for name in (ENCODER, DECODER)}
    features = load_pairs(Cache.open(tiny_cache), "test").features
    expected = caption_features(model.system, features, model.vocabulary)
    assert captions(model, graphs, features) == expected
    assert len(set(expected)) > 1
    assert "`encoder.onnx` and `decoder.onnx`" in (exported.out / "README.md").read_text()
    (exported.out / DECODER).write_bytes(graphs[ENCODER])
    with pytest.raises(PipelineError, match=r"decoder.onnx: "):
        load_run(exported.out, CPU)


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("base", {"cell": "gru", "layers": 2}),
        ("latent", {}),
        ("joint", {"single_caption": "left-out", "categories": (3, 2)}),
        ("joint-cvae", {"single_caption": "mode", "categories": (4,)}),
        ("cvae", {}),
        ("ag-cvae", {"tie_embeddings": True, "clusters": 2}),
        ("beta-cvae", {"cell": "gru"}),
    ],
)
def test_every_system_is_exported(system, options, tiny_cache, tmp_path):
    need_onnx()
    values = used_by(system, z_size=8, categories=(6,)) | {"epochs": 6, **options}
    values = {"categories": None, **values} if system != "base" else values
    folder = train_tiny(system, tiny_cache, tmp_path / "run", **values)
    run = load_run(folder, CPU)
    graphs = onnx_graphs(run)
    way = onnx_way(run)
    assert way == options.get("single_caption", "mode")
    features = torch.randn(50, 512, generator=torch.Generator().manual_seed(5))
    expected = caption_features(run.system, features, run.vocabulary, latents=way)
    assert captions(run, graphs, features) == expected
    assert captions(run, graphs, features[:1]) == expected[:1]


def test_graphs_that_caption_otherwise_are_not_exported(tiny_run, tmp_path, monkeypatch):
    need_onnx()
    monkeypatch.setattr(
        module, "greedy_words", lambda *_: np.full((module.CHECKED, 3), 5, np.int64)
    )
    with pytest.raises(PipelineError, match=r"onnxruntime captions \d+ of 512 feature vectors"):
        export(ModelExportOptions(tiny_run, tmp_path / "model", format="onnx"))
    assert not (tmp_path / "model").exists()


def test_a_missing_package_is_named(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"--format onnx: needs the package onnx(runtime)?; run"):
        export(ModelExportOptions(tiny_run, tmp_path / "model", format="onnx"))
    assert list(Path(tmp_path).iterdir()) == []


def test_without_graphs_the_card_names_none(tiny_run, tmp_path):
    exported = export(ModelExportOptions(tiny_run, tmp_path / "model"))
    assert json.loads((exported.out / "model.json").read_text())["files"][0]["file"] == "README.md"
    assert "encoder.onnx" not in (exported.out / "README.md").read_text()
