import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.paths import DATA
from support.tiny import make_collection

from multispace.data.images import decode
from multispace.model.backbone.resnet import load_backbone
from multispace.model.backbone.torchvision_compat import models
from multispace.model.backbone.weights import random_state
from multispace.pipeline.extraction import workers as module
from multispace.pipeline.extraction.workers import (
    BATCH,
    Extracted,
    Timings,
    extracted_batches,
    split_into_batches,
)

REAL = DATA / "coco" / "images_val2014"


def backbone(architecture="resnet18", **options):
    sizes = dict(resize=32, crop=32)
    return load_backbone(
        architecture, "random:3", device=torch.device("cpu"), **{**sizes, **options}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("pictures") / "c") / "images"
    return [(path.name, path) for path in sorted(folder.iterdir())]


def made(parts, network, workers=2):
    rows = Extracted()
    with extracted_batches(parts, network, workers) as running:
        for batch in running:
            rows.add(batch)
    return rows


def test_no_batch_spans_two_shards():
    parts = [[(str(n), Path()) for n in range(count)] for count in (BATCH + 1, 0, BATCH, 1)]
    assert [len(batch) for batch in split_into_batches(parts, BATCH)] == [BATCH, 1, BATCH, 1]


def test_rows_come_in_order_for_any_number_of_workers(images):
    network = backbone()
    one, three = (made([images] * 3, network, workers) for workers in (1, 3))
    assert one.keys == three.keys == [key for key, _ in images] * 3
    for first, second in zip(one.features, three.features, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_vector_is_that_of_the_image_alone(images):
    network = backbone()
    rows = made([images], network)
    features = np.concatenate(rows.features)
    for (key, path), vector in zip(images, features, strict=True):
        np.testing.assert_array_equal(made([[(key, path)]], network).features[0][0], vector)
        alone = network(network.prepare(decode(path.read_bytes(), path))[None])[0]
        np.testing.assert_allclose(vector, alone, rtol=1e-4, atol=1e-5)


def test_a_failure_leaves_its_neighbours_as_they_are(images, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bad = ("bad", tmp_path / "bad.jpg")
    network = backbone()
    whole = made([images], network)
    mixed = made([[bad, *images[:5], bad, *images[5:]]], network)
    assert mixed.keys == whole.keys
    assert mixed.failures == {"bad": "not an image of a known format"}
    np.testing.assert_array_equal(np.concatenate(mixed.features), np.concatenate(whole.features))
    assert made([[bad]], network).features == []


def test_a_worker_computes_with_one_thread_and_the_caller_keeps_its_own(images):
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, batch):
            seen.append((threading.current_thread().name, torch.get_num_threads()))
            return batch.mean((2, 3))

    network = backbone()
    object.__setattr__(network, "network", Watching())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made([images], network)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {threads for _, threads in seen} == {1}
    assert "MainThread" not in {name for name, _ in seen}


def test_few_batches_are_ahead_of_the_one_that_is_taken(images, monkeypatch):
    read = []
    real = module.read_source
    monkeypatch.setattr(module, "read_source", lambda path: read.append(path) or real(path))
    with extracted_batches([images[:1]] * 50, backbone(), 2) as running:
        next(running)
    assert len(read) <= 5  # two per worker, and the one that replaced the first


def test_the_bottleneck_is_named_with_its_share():
    timings = Timings()
    assert str(timings) == ""
    timings.add(Timings(disk=1, decoding=2, network=7))
    assert str(timings) == "bottleneck: network (70%)"
    timings.add(Timings(decoding=10))
    assert str(timings) == "bottleneck: decoding (60%)"


@pytest.mark.skipif(not REAL.is_dir(), reason="the COCO images are not here")
def test_real_images_have_the_features_of_torchvision():
    files = sorted(REAL.glob("*.jpg"))[:8]
    rows = made([[(p.name, p) for p in files]], backbone(resize=None, crop=None))
    plain = models.get_model("resnet18", weights=None)
    plain.load_state_dict(random_state("resnet18", "random:3"))
    plain.fc = torch.nn.Identity()
    prepare = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        batch = torch.stack([prepare(Image.open(p).convert("RGB")) for p in files])
        expected = plain.eval()(batch).numpy()
    found = np.concatenate(rows.features)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(1) / lengths).min() > 0.9999
    assert abs(found - expected).mean() / abs(expected).mean() < 1e-4
