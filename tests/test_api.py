"""The Python API: what `import multispace` offers, on a tiny collection."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.evaluations import add
from support.paths import ROOT
from support.tiny import make_collection
from torch.utils.data import DataLoader

import multispace as ms
from multispace.api.arguments import options_of
from multispace.data.captions.vocabulary import BOS, EOS, PAD
from multispace.errors import (
    CacheError,
    CaptionsError,
    ImageError,
    MissingFeatureError,
    OptionError,
    PipelineError,
)
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.command_options.compare_options import CompareOptions
from multispace.pipeline.metrics.latents.category_report import category_labels

HEAVY = ("torch", "numpy", "h5py", "PIL", "click", "yaml")
NO_JAVA = ["bleu", "rouge", "cider"]


@pytest.fixture(scope="module")
def cache(tiny_cache):
    return ms.open_cache(tiny_cache)


@pytest.fixture(scope="module")
def run(tiny_run):
    return ms.load_run(str(tiny_run), device="cpu")


@pytest.fixture(scope="module")
def files(tiny_collection):
    return sorted((tiny_collection / "images").iterdir())


def test_the_import_loads_nothing_else():
    script = (
        f"import sys, multispace; print([n for n in {HEAVY} if n in sys.modules]); "
        "print([n for n in sys.modules if n.startswith('multispace')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.splitlines() == ["[]", "['multispace']"]


def test_all_names_are_there_and_documented():
    assert len(ms.__all__) == len(set(ms.__all__))
    assert set(ms.__all__) <= set(dir(ms))
    for name in ms.__all__:
        value = getattr(ms, name)
        assert name == "__version__" or value.__doc__, name
    assert ms.Error is ms.errors.Error
    with pytest.raises(AttributeError, match="no attribute 'tran'"):
        ms.tran  # noqa: B018


def test_a_cache_gives_vectors_words_and_captions(cache, tiny_cache, tiny_collection):
    assert cache.folder == tiny_cache
    assert cache.splits == ("test", "train", "val")
    assert len(cache) == len(cache.keys) == 20
    assert "test-017.png" in cache
    assert "test-001.png" not in cache
    keys = ["val-013.png", "train-001.png", "val-013.png"]
    vectors = cache.features(iter(keys))
    assert (vectors.shape, vectors.dtype) == ((3, 512), np.float32)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert cache.features(keys, dtype=None).dtype == np.float16
    np.testing.assert_array_equal(cache.features()[cache.keys.index(keys[1])], vectors[1])
    entries = json.loads((tiny_collection / "test.json").read_text())
    expected = {entry["file_name"]: [] for entry in entries["images"]}
    names = {entry["id"]: entry["file_name"] for entry in entries["images"]}
    for entry in entries["annotations"]:
        expected[names[entry["image_id"]]].append(entry["caption"])
    assert cache.captions("test") == expected
    words = cache.vocabulary()
    assert words.decode(words.encode("a red image")) == "a red image"
    assert "20 vectors, splits: test, train, val" in repr(cache)


def test_a_cache_opens_from_a_url(tiny_cache):
    assert len(ms.open_cache(tiny_cache.as_uri())) == 20


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda c: c.features(["nothing.png"]), MissingFeatureError, "nothing.png"),
        (lambda c: c.features("test-017.png"), CacheError, r"give a list: features\(\['test-017"),
        (lambda c: c.captions("dev"), CaptionsError, "no captions of split 'dev'"),
        (lambda c: c.dataset("dev"), CaptionsError, "no captions of split 'dev'"),
    ],
)
def test_a_cache_refuses_what_it_does_not_have(cache, use, error, message):
    with pytest.raises(error, match=message):
        use(cache)


@pytest.mark.parametrize("where", [3, None, ["a"]])
def test_what_is_no_path_is_refused(where):
    with pytest.raises(OptionError, match="is not a path; give text"):
        ms.open_cache(where)


def test_a_home_folder_is_found(monkeypatch, tiny_cache):
    monkeypatch.setenv("HOME", str(tiny_cache.parent))
    assert len(ms.open_cache(f"~/{tiny_cache.name}")) == 20


def test_items_are_captions_with_the_vector_of_their_image(cache):
    dataset, words = cache.dataset("train"), cache.vocabulary()
    texts = [(key, text) for key, own in cache.captions("train").items() for text in own]
    assert len(dataset) == len(texts) == 24
    items = list(dataset)
    for item, (key, text) in zip(items, texts, strict=True):
        tokens = item.tokens.tolist()
        assert (tokens[0], tokens[-1]) == (BOS, EOS)
        assert (item.key, words.decode(tokens)) == (key, text)
        assert (item.feature.dtype, item.tokens.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(item.feature.numpy(), cache.features([key])[0])
    with pytest.raises(IndexError):
        dataset[24]


def test_batches_are_padded_or_packed(cache):
    padded = cache.dataset("train", padded=True)
    items = [padded[index] for index in (0, 1, 5)]
    batch = padded.collate(items)
    assert batch.tokens.shape == (3, batch.lengths.max())
    for row, length, item in zip(batch.tokens, batch.lengths, items, strict=True):
        assert torch.equal(row[:length], item.tokens)
        assert (row[length:] == PAD).all()
    assert batch.lengths.tolist() == [len(item.tokens) for item in items]
    assert len(set(batch.lengths.tolist())) > 1
    assert torch.equal(batch.features[2], items[2].feature)
    assert batch.keys == [item.key for item in items]
    packed = cache.dataset("train", padded=False).collate(items)
    again, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed.tokens, batch_first=True)
    assert torch.equal(again, batch.tokens)
    assert torch.equal(lengths, batch.lengths)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_give_the_same_batches(cache, start):
    dataset = cache.dataset("val")
    options = dict(batch_size=3, collate_fn=dataset.collate)
    here = list(DataLoader(dataset, **options))
    workers = DataLoader(dataset, num_workers=1, multiprocessing_context=start, **options)
    for one, other in zip(here, workers, strict=True):
        assert one.keys == other.keys
        for name in ("features", "tokens", "lengths"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_all_kinds_of_images_have_the_command_s_captions(run, tiny_run, files):
    expected = list(caption(CaptionOptions(tiny_run, files[:2], device="cpu")).captions.values())
    assert len(set(expected)) == 2
    with Image.open(files[1]) as pillow:
        arrays = [np.asarray(Image.open(file)) for file in files[:2]]
        assert run.caption([str(files[0]), pillow]) == expected
        assert run.caption(arrays) == expected
        assert run.caption(np.stack(arrays)) == expected
        assert run.caption([files[1], arrays[0], pillow, files[1]]) == [
            expected[i] for i in (1, 0, 1, 1)
        ]
    assert run.caption([]) == []


def test_features_stand_for_images(run, cache, files):
    made = run.features(files)
    np.testing.assert_array_equal(made, cache.features([file.name for file in files]))
    assert run.caption(features=made) == run.caption(files)
    assert run.caption(features=made.astype(np.float16)) == run.caption(files)


def test_samples_depend_on_the_seed_alone(run, cache):
    between = cache.features().mean(0, keepdims=True)  # of no colour, so that draws differ
    state = torch.get_rng_state()
    (first,) = run.caption(features=between, samples=20, beam=2, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == 20
    assert len(set(first)) > 1
    torch.manual_seed(5)
    assert run.caption(features=between, samples=20, beam=2, seed=1) == [first]
    assert run.caption(features=between, samples=20, beam=2, seed=2) != [first]
    assert run.caption([], samples=4) == []


def test_the_prior_gives_captions_without_images(run):
    captions = run.sample(30)
    assert len(captions) == 30
    assert len(set(captions)) > 1
    assert run.sample(30, seed=0) == captions
    assert run.sample(30, seed=1) != captions


def test_encodings_are_the_posterior(run, cache, files):
    encoding = run.encode(files)
    posterior = run.model.posterior(torch.from_numpy(cache.features([f.name for f in files])))
    np.testing.assert_allclose(encoding.mean, posterior.z.mean.detach(), rtol=1e-5)
    np.testing.assert_allclose(encoding.std**2, posterior.z.log_variance.detach().exp(), rtol=1e-5)
    (probabilities,) = encoding.probabilities
    assert (encoding.mean.shape, probabilities.shape) == ((20, 8), (20, 6))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert run.encode([]).mean.shape == (0, 8)


def test_categories_have_labels_from_the_evaluation(run_copy, tiny_cache):
    run = ms.load_run(run_copy, device="cpu")
    with pytest.raises(PipelineError, match="is not there; run `multispace evaluate"):
        run.category_labels("val")
    found = ms.evaluate(run_copy, cache=tiny_cache, split="val", metrics=["rouge"])
    meaning = found.latents["c"]["meaning"]
    assert run.category_labels("val", 2) == category_labels(meaning, 2)
    (labels,) = run.category_labels("val")
    assert len(labels) == meaning["variables"][0]["size"] == 6
    assert all(label.startswith(f"category {k}: ") for k, label in enumerate(labels))
    assert sum("not in use" in label for label in labels) == 6 - meaning["variables"][0]["in_use"]
    with pytest.raises(OptionError, match="words is 0"):
        run.category_labels("val", 0)
    earlier = {**found.latents, "c": {**found.latents["c"]}}
    del earlier["c"]["meaning"]
    add(found.folder, latents=earlier)
    with pytest.raises(PipelineError, match=r"latents.json: does not say what .* run `multispace"):
        run.category_labels("val")
    del earlier["c"]
    add(found.folder, latents=earlier)
    assert run.category_labels("val") == []


def test_a_run_says_what_it_is(run, tiny_run):
    assert (run.folder, run.system) == (tiny_run, "multispace")
    assert run.step > 0
    assert run.config["options"]["system"] == "multispace"
    assert len(run.vocabulary) == 12
    assert f"multispace, step {run.step}" in repr(run)
    assert ms.load_run(tiny_run, checkpoint="last", device="cpu").step >= run.step


def test_base_captions_and_has_nothing_to_sample(tiny_base_run, files):
    base = ms.load_run(tiny_base_run, device="cpu")
    assert len(base.caption(files[:2])) == 2
    for use in (
        lambda: base.caption(files, samples=2),
        lambda: base.sample(2),
        lambda: base.encode(files),
    ):
        with pytest.raises(PipelineError, match="base has no latent space"):
            use()


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda r, f: r.caption(str(f)), OptionError, r"one image; give a list: \[image\]"),
        (lambda r, f: r.caption(np.zeros((9, 9, 3), np.uint8)), OptionError, "one array"),
        (lambda r, f: r.caption(), OptionError, "either images or features"),
        (lambda r, f: r.caption([f], features=[[0.0]]), OptionError, "either images or features"),
        (lambda r, f: r.caption(features=[[0.0]]), OptionError, r"float array \(N, 512\)"),
        (lambda r, f: r.encode(features=np.full((1, 512), np.nan)), OptionError, "not finite"),
        (lambda r, f: r.caption([f], beam=0), OptionError, "beam is 0"),
        (lambda r, f: r.caption([f], samples=0), OptionError, "samples is 0"),
        (lambda r, f: r.caption([f], temperature=0.5), OptionError, "needs --samples, or"),
        (lambda r, f: r.caption([f], latent_temperature=2), OptionError, "needs --samples, or"),
        (lambda r, f: r.sample("5"), OptionError, "count is '5'"),
        (lambda r, f: r.caption([f, f"{f}.none"]), ImageError, r"\.none: no such file; leave it"),
        (lambda r, f: r.caption([f, 7]), ImageError, r"images\[1\]: 'int' is not an image"),
        (lambda r, f: r.caption([f, np.zeros((2, 2))]), ImageError, r"images\[1\]: array of shape"),
        (lambda r, f: r.caption([Image.new("F", (5, 5))]), ImageError, r"images\[0\]: .*floating"),
    ],
)
def test_a_run_refuses_what_it_cannot_use(run, files, use, error, message):
    with pytest.raises(error, match=message):
        use(run, files[0])


def test_an_unknown_checkpoint_is_refused(tiny_run):
    with pytest.raises(OptionError, match="use best or last"):
        ms.load_run(tiny_run, checkpoint="first")


def test_the_commands_take_text_and_return_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_collection(Path("images"))
    for split in ("train", "val", "test"):
        summary = ms.preprocess(
            annotations=f"images/{split}.json", images="images/images", cache="cache",
            backbone="resnet18", weights="random:3", resize=32, crop=32, min_count=1,
        )  # fmt: skip
    assert summary.vectors == 20
    options = dict(batch_size=8, embedding=16, hidden=16, steps=np.int64(4), device="cpu")
    trained = ms.train("latent", cache="cache", run="run", z_size=4, **options)
    assert (trained.system, trained.steps) == ("latent", 4)
    resumed = ms.train("latent", cache="cache", run="run", resume=True, z_size=4, **options)
    assert resumed.steps == 4
    assert ms.train(run="run", resume=True, steps=5).steps == 5
    found = ms.evaluate("run", split="test", metrics=NO_JAVA, beam=2)
    assert found.scores.corpus.keys() == {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L",
                                          "CIDEr"}  # fmt: skip
    scores = ms.score(found.folder / "captions.json", annotations="images/test.json",
                      metrics=NO_JAVA)  # fmt: skip
    assert scores.corpus == found.scores.corpus
    ms.train("base", cache="cache", run="base", **options)
    ms.evaluate("base", cache="cache", split="test", metrics=NO_JAVA)
    compared = ms.compare(["base", "run"], resamples=10)
    assert {name.split()[0] for name in compared.runs} == {"base", "latent"}
    assert ms.report(["base", "run"], out="report.html", resamples=10).bytes > 1000
    assert Path("report.html").exists()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: ms.compare("run"), "runs='run': expected a list"),
        (lambda: ms.compare(["run"], resample=3), "no option 'resample'; did you mean 'resamples'"),
        (lambda: ms.compare(["run"], zzz=3), "no option 'zzz'; it has runs, split"),
        (lambda: ms.compare(["run"], resamples="9"), "resamples='9': expected int"),
        (lambda: ms.compare(["run"], resamples=True), "resamples=True: expected int"),
        (lambda: ms.compare(["run"], split=3), "split=3: expected str"),
        (lambda: ms.report(["run"], out="s3://bucket/page"), "a URL cannot be used here"),
        (lambda: ms.train("base", cache="c", run="r", z_sise=3), "did you mean z_size"),
        (lambda: ms.train("gan", cache="c", run="r"), "gan"),
        (lambda: ms.preprocess(annotations="a", cache="c", images="no/where"), "no/where"),
    ],
)
def test_wrong_options_of_a_command_are_named(use, message):
    with pytest.raises(OptionError, match=message):
        use()


def test_an_option_without_a_default_is_needed():
    with pytest.raises(OptionError, match="compare needs 'runs'; give runs="):
        options_of("compare", CompareOptions, {})


def fenced(page: Path) -> str:
    """Return the Python code blocks of a page, one after the other."""
    blocks, inside = [], False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```python"
        elif inside:
            blocks.append(line)
    return "\n".join(blocks)


def execute(source: str, folder: Path) -> str:
    """Run a script in ``folder`` with one thread; return what it prints."""
    done = subprocess.run([sys.executable, "-c", source], cwd=folder, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_of_the_api_works_as_written(tmp_path):
    source = fenced(ROOT / "docs" / "api.md")
    assert source.count("ms.") > 10
    execute(source, tmp_path)


def test_the_page_names_each_part_of_the_api():
    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in ms.__all__ if f"ms.{name}" not in text] == []


def test_the_example_works_as_written(tmp_path):
    source = (ROOT / "docs" / "example.py").read_text()
    assert source.count("# %%") > 5
    printed = execute(source, tmp_path)
    assert "images[0]" not in printed
    assert "own model" in printed
