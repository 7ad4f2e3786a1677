import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.options import used_by
from support.tiny import SPLITS, make_cache, train_tiny
from support.tiny import options as preprocess_options

import multispace as ms
from multispace.data.cache.reader import Cache
from multispace.data.shapes import generate_shapes, mentions
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.evaluate import EvaluateOptions, evaluate
from multispace.pipeline.explore import ExploreOptions, explore
from multispace.pipeline.metrics.java import JavaError
from multispace.pipeline.metrics.latents.latent_report import latent_summary
from multispace.pipeline.metrics.samples.diversity import corpus_mbleu
from multispace.pipeline.preprocess import preprocess
from multispace.pipeline.runs.evaluation_folder import digest_references
from multispace.pipeline.runs.evaluation_reader import find_evaluation, read_evaluation
from multispace.pipeline.runs.run_cache import HINT
from multispace.pipeline.runs.run_folder import load_run
from multispace.pipeline.runs.run_lock import RunLock
from multispace.pipeline.score import score_results
from multispace.pipeline.train import train

NO_JAVA = ("rouge", "cider")  # what these tests are about needs no METEOR; scores have their own


@pytest.fixture(scope="module")
def folder(tiny_collection, tiny_cache, tiny_base_run, tiny_run, tmp_path_factory):
    """A cache and two runs that have learnt the tiny collection, to write evaluations into."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "collection").symlink_to(tiny_collection)
    (folder / "cache").symlink_to(tiny_cache)
    shutil.copytree(tiny_base_run, folder / "base")
    shutil.copytree(tiny_run, folder / "multispace")
    return folder


def ask(folder: Path, system: str = "base", **other) -> EvaluateOptions:
    values = {"cache": folder / "cache", "split": "test", "metrics": NO_JAVA, **other}
    return EvaluateOptions(folder / system, **values)


def caption_files(run: Path, files, **other):
    return caption(CaptionOptions(run, files, **other))


def read(run: Path, checkpoint: str = "best"):
    return read_evaluation(find_evaluation(run, "test", checkpoint), "test", checkpoint)


def test_evaluation_is_written_whole_and_scores_again_alike(folder):
    result = evaluate(ask(folder, "multispace", samples=3))
    written = result.folder
    assert result.record.folder_name == "test,samples=3,metrics=rouge+cider"
    captions = json.loads((written / "captions.json").read_text())
    assert [entry["caption"] for entry in captions] == list(result.captions)
    assert len(captions) == SPLITS["test"] == len(result.scores.per_image)
    expected = {**result.scores.corpus, "signature": result.signature}
    assert json.loads((written / "scores.json").read_text()) == expected
    assert "|split:test|images:4|" in result.signature
    assert f"signature: {result.signature}" in result.render().splitlines()
    assert result.to_json()["signature"] == result.signature
    samples = json.loads((written / "samples.json").read_text())
    assert [s["image_id"] for s in samples] == [c["image_id"] for c in captions]
    assert {len(s["captions"]) for s in samples} == {3}
    assert json.loads((written / "latents.json").read_text()) == result.latents
    consensus = json.loads((written / "consensus.json").read_text())
    for entry, sampled in zip(consensus, samples, strict=True):
        assert entry["image_id"] == sampled["image_id"]
        assert entry["caption"] in sampled["captions"]
    again = score_results(written / "consensus.json", folder / "collection" / "test.json", NO_JAVA)
    assert again.corpus == result.diversity["consensus"]
    again = score_results(written / "captions.json", folder / "collection" / "test.json", NO_JAVA)
    assert again.corpus == result.scores.corpus


def test_diversity_of_captions_and_of_samples_is_told(folder):
    result = evaluate(ask(folder, "multispace", samples=3))
    found = json.loads((result.folder / "diversity.json").read_text())
    assert found == result.diversity
    assert found["captions"]["distinct"] == len(set(result.captions))
    assert found["captions"]["novel_share"] <= 1
    assert found["samples"]["n"] == 3
    assert [entry["image_id"] for entry in found["per_image"]] == list(result.scores.per_image)
    for name, best in found["oracle"]["best"].items():
        assert best >= found["oracle"]["mean"][name] - 1e-9
    assert list(found["oracle"]["best"]) == ["ROUGE_L", "CIDEr"]  # METEOR only where asked for
    assert "per_image" not in result.to_json()["diversity"]


def test_the_text_has_all_that_was_measured(folder):
    result = evaluate(ask(folder, "multispace", samples=2, beam=3))
    text = result.render()
    record = result.record
    first, head, scores, *_ = text.splitlines()
    assert first.startswith(f"multispace (best checkpoint, step {record.step}) on 4 images of 'te")
    assert "beam 3" in first
    assert head.split() == ["ROUGE-L", "CIDEr"]
    assert scores.split() == ["multispace", *(f"{s:.3f}" for s in result.scores.corpus.values())]
    for part in ("2 samples per image", "best of 2 (oracle)", "mBLEU-4 (sentence)",
                 "mBLEU-4 (corpus)", "against references", "shuffled",
                 "c: images are assigned to", result.latents["c"]["meaning"]["sentence"],
                 result.latents["verdict"], f"written to {result.folder}"):  # fmt: skip
        assert part in text
    assert set(result.diversity["notes"]) <= set(result.notes)


def test_captions_are_assigned_to_categories_where_the_posterior_reads_them(folder):
    train_tiny("joint", folder / "cache", folder / "joint", epochs=1)
    result = evaluate(ask(folder, "joint", metrics=("rouge",)))
    meaning = json.loads((result.folder / "latents.json").read_text())["c"]["meaning"]
    assert meaning == result.latents["c"]["meaning"]
    assert (meaning["assigned"], meaning["count"]) == ("captions", 2 * SPLITS["test"])
    assert sum(entry["count"] for entry in meaning["variables"][0]["categories"]) == 8
    assert "c: captions are assigned to" in result.render()


@pytest.mark.parametrize("error", [KeyboardInterrupt, JavaError("no memory")])
@pytest.mark.parametrize("step", ["metrics.captions.coco_metrics._score", "evaluate.latent_report"])
def test_an_evaluation_that_fails_leaves_the_earlier_one(folder, monkeypatch, step, error):
    written = evaluate(ask(folder, importance_samples=0)).folder
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"multispace.pipeline.{step}", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        evaluate(ask(folder, importance_samples=0))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert not list(written.parent.glob(".partial-*"))


def test_a_run_in_training_is_evaluated(folder):
    with RunLock(folder / "base"):
        evaluate(ask(folder, seed=7))
    name = "test,metrics=rouge+cider,seed=7"
    assert (folder / "base" / "evaluation" / name / "scores.json").exists()


def test_another_beam_or_fewer_metrics_leave_a_fuller_evaluation(folder):
    full = evaluate(ask(folder, seed=5))
    before = {path.name: path.read_bytes() for path in full.folder.iterdir()}
    evaluate(ask(folder, seed=5, beam=1))
    evaluate(ask(folder, seed=5, metrics=("rouge",)))
    assert {path.name: path.read_bytes() for path in full.folder.iterdir()} == before


def test_a_number_that_json_has_not_is_an_error_in_one_line(folder, monkeypatch):
    broken = {"verdict": "none", "z": float("nan")}
    monkeypatch.setattr("multispace.pipeline.evaluate.latent_report", lambda *_, **__: broken)
    with pytest.raises(PipelineError, match=r"latents\.json is not finite; the weights"):
        evaluate(ask(folder, seed=6))


def test_novel_is_what_no_training_caption_says(folder):
    found = evaluate(ask(folder, "multispace"))
    known = set(Cache.open(folder / "cache").captions("train").texts)
    novel = sum(caption not in known for caption in found.captions)
    assert found.diversity["captions"]["novel"] == novel


def test_best_and_last_checkpoints_are_kept_apart(folder):
    best, last = evaluate(ask(folder)), evaluate(ask(folder, checkpoint="last"))
    names = [result.folder.name.split(",")[0] for result in (best, last)]
    assert names == ["test", "test-last"]
    kept = read(folder / "base")
    assert kept.record == best.record
    assert kept.corpus == best.scores.corpus
    assert read(folder / "base", "last").record == last.record


def test_an_evaluation_tells_what_it_was_made_of(folder):
    result = evaluate(ask(folder, "multispace", beam=2, samples=2, seed=7))
    found = read_evaluation(result.folder, "test", "best")
    cache = Cache.open(folder / "cache")
    told = found.record
    assert told == result.record
    assert (told.system, told.beam, told.samples, told.seed) == ("multispace", 2, 2, 7)
    assert told.vocabulary_digest == cache.vocabulary().digest
    assert told.fingerprint == cache.spec.fingerprint
    references = cache.captions("test").references()
    assert digest_references(references) == (told.pictures_digest, told.references_digest)
    assert found.samples.shape == (SPLITS["test"], 6)
    other = evaluate(ask(folder, "multispace")).folder
    assert not (other / "samples.json").exists()
    assert read_evaluation(other, "test", "best").samples is None
    assert read_evaluation(result.folder, "test", "best").record == told


def test_attributes_are_reported_and_composition_only_where_something_is_held_out(folder):
    result = evaluate(ask(folder))
    assert json.loads((result.folder / "attributes.json").read_text()) == result.attributes
    assert result.attributes["against"] == "references"
    assert result.composition is None
    assert not (result.folder / "composition.json").exists()


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Runs on generated images of which red circles were held out."""
    folder = tmp_path_factory.mktemp("held-out")
    generate_shapes(folder / "shapes", images=60, seed=0, hold_out=["red circle"], size=32)
    for split in ("train", "val", "test", "held-out"):
        file = folder / "shapes" / "annotations" / f"{split}.json"
        images = folder / "shapes" / "images"
        preprocess(
            preprocess_options(
                folder / "cache", folder, annotations=file, images=images, split=None
            )
        )
    for system in ("base", "multispace"):
        sizes = used_by(system, embedding=16, hidden=16, z_size=4, categories=(4,))
        train(
            TrainOptions(system=system, cache=folder / "cache", run=folder / system, epochs=10,
                         batch_size=16, device="cpu", precision="float32", learning_rate=1e-2,
                         **sizes)
        )  # fmt: skip
    return folder


def test_recall_of_held_out_pairs_is_over_the_samples(held_out):
    result = evaluate(ask(held_out, "multispace", split="held-out", samples=3))
    written = result.folder
    assert json.loads((written / "composition.json").read_text()) == result.composition
    assert (result.composition["captions"], result.composition["k"]) == ("samples", 3)
    true = result.composition["pairs"]["red circle"]["levels"]["true"]
    samples = {s["image_id"]: s["captions"]
               for s in json.loads((written / "samples.json").read_text())}  # fmt: skip
    said = [any(m.colour == "red" and m.shape == "circle" for c in captions for m in mentions(c))
            for captions in samples.values()]  # fmt: skip
    assert (true["pictures"], true["recalled"]) == (6, sum(said))
    assert result.attributes["against"] == "factors"


def test_recall_of_base_is_over_the_beam(held_out):
    result = evaluate(ask(held_out, "base", split="held-out", beam=4))
    assert (result.composition["captions"], result.composition["k"]) == ("beam", 4)
    one = evaluate(ask(held_out, "base", split="held-out", beam=1))
    assert one.composition["k"] == 1


def test_a_split_without_the_pairs_has_no_composition(held_out):
    assert evaluate(ask(held_out, "base", split="test")).composition is None


def test_captions_belong_to_their_images(folder):
    result = evaluate(ask(folder))
    captions = Cache.open(folder / "cache").captions("test")
    truth = {key: captions.texts[2 * i].split()[1] for i, key in enumerate(captions.keys)}
    right = [truth[k] in c for k, c in zip(result.keys, result.captions, strict=True)]
    assert sum(right) >= 3  # colour is plain even to untrained features


def test_captions_are_the_same_in_any_company(folder):
    run = load_run(folder / "base", torch.device("cpu"))
    files = sorted((folder / "collection" / "images").glob("test-*.png"))
    result = evaluate(ask(folder))
    together = caption_files(folder / "base", files, device="cpu")
    said = dict(zip(result.keys, result.captions, strict=True))
    assert {Path(file).name: text for file, text in together.captions.items()} == said
    assert caption_files(run.folder, files[:1], device="cpu").captions == {
        str(files[0]): said[files[0].name]
    }


def test_the_cache_is_the_one_that_the_run_records(folder, tmp_path):
    asked = ask(folder, seed=11)
    assert evaluate(replace(asked, cache=None)).captions == evaluate(asked).captions
    run = shutil.copytree(folder / "base", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())

    def record(**options: str) -> None:
        (run / "config.json").write_text(json.dumps({**config, "options": options}))

    kept = {name: value for name, value in config["options"].items() if name != "cache"}
    for where in ("moved", str(tmp_path / "moved")):
        record(**kept, cache=where)
        with pytest.raises(PipelineError, match=rf"run: its cache /.*moved is not there; {HINT}"):
            evaluate(replace(asked, run=run, cache=None))
    record(**kept)
    with pytest.raises(PipelineError, match=rf"config\.json: records no cache; {HINT}"):
        evaluate(replace(asked, run=run, cache=None))
    assert evaluate(replace(asked, run=run)).captions


def test_unreadable_files_are_named_and_the_others_captioned(folder, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    good = next((folder / "collection" / "images").glob("*.png"))
    done = caption_files(folder / "base", [text, good, tmp_path / "none.png"], device="cpu")
    assert list(done.captions) == [str(good)]
    assert done.render() == f"{good}\t{done.captions[str(good)]}"
    assert [line.split(": ")[:2] for line in done.messages()] == [
        ["skipped", str(text)], ["skipped", str(tmp_path / "none.png")]
    ]  # fmt: skip
    assert done.exit_status == 3
    assert "not an image" in done.failures[str(text)]
    assert "no such file" in done.failures[str(tmp_path / "none.png")]


def test_other_weights_are_refused(folder):
    good = next((folder / "collection" / "images").glob("*.png"))
    with pytest.raises(PipelineError, match="weights_sha256.*use the same"):
        caption_files(folder / "base", [good], weights="random:4", device="cpu")


def test_a_cache_of_other_features_is_refused(folder, tmp_path):
    for split in SPLITS:
        preprocess(preprocess_options(tmp_path / "other", folder / "collection", split, crop=24))
    with pytest.raises(PipelineError, match="trained on features.*transform"):
        evaluate(ask(folder, cache=tmp_path / "other"))
    run = shutil.copytree(folder / "base", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["options"]["cache"] = str(tmp_path / "other")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="trained on features.*transform"):
        evaluate(EvaluateOptions(run, metrics=NO_JAVA))


def test_a_cache_of_other_words_is_refused(folder, tmp_path):
    collection = shutil.copytree(folder / "collection", tmp_path / "collection")
    changed = (collection / "train.json").read_text().replace("red", "ruby")
    (collection / "train.json").write_text(changed)
    make_cache(tmp_path / "other", collection)
    with pytest.raises(PipelineError, match="trained with vocabulary"):
        evaluate(ask(folder, cache=tmp_path / "other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": 0}, "--beam 0"),
        ({"samples": 1}, "--samples 1: it must be 0, or 2"),
        ({"importance_samples": -1}, "--importance-samples -1"),
        ({"metrics": ("spice",)}, "spice"),
        ({"samples": 2}, "base has no latent space"),
        ({"single_caption": "consensus"}, "base has no latent space"),
        ({"single_caption": "left-out"}, "--single-caption left-out: base is trained without"),
        ({"temperature": -0.5}, "--temperature -0.5"),
        ({"temperature": 0.5}, "--temperature 0.5: it needs --samples"),
        ({"temperature": 0.5, "samples": 2, "top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 0.5, "samples": 2}, "--top-p 0.5: it needs --temperature"),
        ({"sample_meteor": True}, "--sample-meteor: it needs --samples"),
    ],
)
def test_options_are_checked(folder, change, message):
    with pytest.raises(OptionError, match=message):
        evaluate(ask(folder, **change))


def test_what_is_no_run_is_said_to_be_none(folder, tmp_path):
    with pytest.raises(PipelineError, match="is not a run folder"):
        evaluate(EvaluateOptions(tmp_path, folder / "cache", "test"))


def test_a_damaged_checkpoint_is_named(folder, tmp_path):
    run = shutil.copytree(folder / "base", tmp_path / "run")
    weights = run / "checkpoints" / "best" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match=r"weights\.safetensors: does not match its digest"):
        load_run(run, torch.device("cpu"))


def test_latent_summary_of_known_posteriors(folder):
    run = load_run(folder / "multispace", torch.device("cpu"))
    features = torch.randn(200, 512)
    summary = latent_summary(run.system.posterior(features))
    posterior = run.system.posterior(features)
    assert summary["z"]["kl"] == pytest.approx(posterior.kl_z().item(), rel=1e-5)
    assert summary["c"]["kl"] == pytest.approx(posterior.kl_c().item(), rel=1e-5)
    assert 1 <= summary["c"]["usage_perplexity"][0] <= 6
    base = load_run(folder / "base", torch.device("cpu"))
    assert latent_summary(base.system.posterior(features)) == {}


@pytest.mark.parametrize("system", ["cvae", "ag-cvae", "beta-cvae", "joint", "joint-cvae"])
def test_the_related_systems_are_looked_at_alike(folder, system, tmp_path):
    train(TrainOptions(system=system, cache=folder / "cache", run=tmp_path / system, steps=4,
                       batch_size=8, embedding=8, hidden=8, z_size=4, device="cpu",
                       precision="float32"))  # fmt: skip
    asked = EvaluateOptions(tmp_path / system, folder / "cache", "test", metrics=NO_JAVA, samples=3)
    found = evaluate(asked)
    assert found.record.system == system
    assert found.diversity["samples"]["n"] == 3
    channels = {"z", "c", "both"} if system.startswith("joint") else {"z"}
    assert set(found.latents["ablation"]["shuffled"]) == channels
    assert found.latents["z"]["dimensions"] == 4
    assert found.latents["z"]["kl"] > 0  # of the posterior in training, not of the prior
    assert found.latents["likelihood"]["nll"] <= found.latents["likelihood"]["elbo"]
    explored = explore(ExploreOptions(tmp_path / system, folder / "cache", "test", images=1))
    mode = evaluate(replace(asked, beam=1, single_caption="mode"))
    assert explored.traversals[0].caption == mode.captions[0]


def test_base_has_samples_of_words(folder):
    asked = ask(folder, samples=3, temperature=1.2, top_p=0.9, seed=2)
    found = evaluate(asked)
    name = "test,samples=3,temperature=1.2,top-p=0.9,metrics=rouge+cider,seed=2"
    assert found.record.folder_name == name
    record = json.loads((found.folder / "evaluation.json").read_text())
    assert (record["temperature"], record["top_p"], record["samples"]) == (1.2, 0.9, 3)
    assert read_evaluation(found.folder, "test", "best").record == found.record
    drawn = json.loads((found.folder / "samples.json").read_text())
    assert len({text for entry in drawn for text in entry["captions"]}) > 4
    assert found.captions == evaluate(ask(folder)).captions  # by the beam, as without samples
    files = sorted((folder / "collection" / "images").glob("test-*.png"))
    said = caption_files(folder / "base", files, samples=3, temperature=1.2, top_p=0.9, seed=2)
    assert [*said.samples.values()] == [entry["captions"] for entry in drawn]
    assert said.to_json() == said.samples
    assert len(said.render().splitlines()) == 12
    again = ms.load_run(folder / "base", device="cpu").caption(
        files, samples=3, temperature=1.2, top_p=0.9, seed=2
    )
    assert again == [*said.samples.values()]


def test_a_curve_has_the_samples_at_each_temperature(folder):
    asked = ask(folder, "multispace", samples=3, curve=(0.8, 0), seed=3)
    found = evaluate(asked)
    assert found.folder.name == "test,samples=3,curve=0.0+0.8,metrics=rouge+cider,seed=3"
    scored = read_evaluation(found.folder, "test", "best")
    assert scored.record == found.record
    for read, point in zip(scored.curve.points, found.curve.points, strict=True):
        assert read.to_json() == pytest.approx(point.to_json(), abs=1e-8)
    single, words = (point.to_json() for point in found.curve.points)
    assert (single["temperature"], words["temperature"]) == (0, 0.8)
    # The first point is the evaluation's own samples, the second those of another evaluation.
    drawn = evaluate(ask(folder, "multispace", samples=3, temperature=0.8, seed=3)).diversity
    for point, diversity in ((single, found.diversity), (words, drawn)):
        assert point["self-CIDEr"] == pytest.approx(diversity["samples"]["self-CIDEr"])
        assert point["mBLEU-4 (corpus)"] == pytest.approx(diversity["samples"]["mBLEU-4 (corpus)"])
        assert point["oracle CIDEr"] == pytest.approx(diversity["oracle"]["best"]["CIDEr"])
        assert point["mean CIDEr"] == pytest.approx(diversity["oracle"]["mean"]["CIDEr"])
        assert point["consensus CIDEr"] == pytest.approx(diversity["consensus"]["CIDEr"])
    assert "curve of 3 samples" in found.render()
    assert found.to_json()["curve"]["n"] == 3
    with pytest.raises(OptionError, match="base has no latent space to sample from"):
        evaluate(ask(folder, samples=3, temperature=0.5, curve=(0.0, 0.5)))


def test_a_curve_over_latents_has_the_samples_at_each_of_their_temperatures(folder):
    asked = {"samples": 3, "seed": 3, "curve_of": "latents"}
    found = evaluate(ask(folder, "multispace", curve=(1.0, 2.5), **asked))
    assert found.record.curve_of == "latents"
    assert read_evaluation(found.folder, "test", "best").record == found.record
    own, wide = (point.to_json() for point in found.curve.points)
    assert (own["temperature"], wide["temperature"]) == (1, 2.5)
    apart = evaluate(ask(folder, "multispace", samples=3, latent_temperature=2.5, seed=3))
    for point, diversity in ((own, found.diversity), (wide, apart.diversity)):
        assert point["self-CIDEr"] == pytest.approx(diversity["samples"]["self-CIDEr"])
        assert point["oracle CIDEr"] == pytest.approx(diversity["oracle"]["best"]["CIDEr"])
    with pytest.raises(OptionError, match="base has no latent space"):
        evaluate(ask(folder, temperature=0.5, curve=(1.0,), **asked))
    with pytest.raises(OptionError, match="--latent-temperature 2: base has no latent space"):
        evaluate(ask(folder, samples=3, temperature=0.5, latent_temperature=2.0))
    with pytest.raises(OptionError, match=r"--top-p 0\.9: it needs --temperature"):
        evaluate(ask(folder, "multispace", curve=(1.0,), top_p=0.9, **asked))
    for curve in ((), (0.0, 1.0)):
        with pytest.raises(OptionError, match="--curve-of latents: it needs --curve, with temp"):
            ask(folder, "multispace", curve=curve, **asked)


def test_what_each_sample_adds_to_the_scores_is_kept(folder):
    found = evaluate(ask(folder, "multispace", samples=6, seed=8))
    best = found.diversity["oracle"]["best_of"]
    assert list(best) == ["1", "5", "6"]
    assert best["6"] == found.diversity["oracle"]["best"]
    assert "best of 5 (oracle)" in found.render()
    scores = read_evaluation(found.folder, "test", "best").sample_scores
    assert scores.cider.shape == (SPLITS["test"], 6)
    assert scores.cider[:, :5].max(1).mean() == pytest.approx(best["5"]["CIDEr"])
    mbleu = found.diversity["samples"]["mBLEU-4 (corpus)"]
    assert corpus_mbleu(scores.siblings) == pytest.approx(mbleu)


def test_a_split_can_be_a_list_of_images_of_another(folder, tmp_path):
    """As m-RNN's lists of val2014 (coco_test_mRNN.txt): one file name per line."""
    cache = shutil.copytree(folder / "cache", tmp_path / "cache")
    entries = json.loads((folder / "collection" / "test.json").read_text())["images"]
    names = [entry["file_name"] for entry in entries][1:3]
    (tmp_path / "coco_test_mRNN.txt").write_text("".join(f"{name}\n" for name in names))
    summary = preprocess(
        preprocess_options(
            cache,
            folder / "collection",
            split=None,
            annotations=folder / "collection" / "test.json",
            split_list=[f"mrnn-test={tmp_path / 'coco_test_mRNN.txt'}"],
            images=None,
            captions_only=True,
        )
    )
    assert {split: found.images for split, found in summary.splits.items()} == {"mrnn-test": 2}
    found = evaluate(ask(folder, cache=cache, split="mrnn-test"))
    assert found.folder.name.startswith("mrnn-test")
    assert list(found.keys) == names
    whole = evaluate(ask(folder, cache=cache))
    assert set(zip(found.keys, found.captions, strict=True)) < set(
        zip(whole.keys, whole.captions, strict=True)
    )


@pytest.mark.parametrize("way", ["consensus", "categories"])
def test_a_consensus_can_be_the_single_caption(folder, way):
    found = evaluate(ask(folder, "multispace", single_caption=way, seed=4))
    assert f"single-caption={way}" in found.record.folder_name
    assert f"beam 5, captions from {way}: " in found.render()
    assert (found.record.single_caption, found.record.captions_from) == (way, way)
    assert read_evaluation(found.folder, "test", "best").record == found.record
    files = sorted((folder / "collection" / "images").glob("test-*.png"))
    said = caption_files(folder / "multispace", files, single_caption=way, seed=4)
    assert tuple(said.captions.values()) == found.captions
    run = ms.load_run(folder / "multispace", device="cpu")
    assert tuple(run.caption(files, single_caption=way, seed=4)) == found.captions
    with pytest.raises(OptionError, match="--samples and --single-caption: give one of them"):
        run.caption(files, single_caption=way, samples=2)


def test_the_single_caption_is_the_consensus_of_the_samples(folder):
    found = evaluate(ask(folder, "multispace", single_caption="consensus", samples=4))
    consensus = json.loads((found.folder / "consensus.json").read_text())
    assert [entry["caption"] for entry in consensus] == list(found.captions)


def test_a_run_records_how_its_single_captions_are_made(folder, tmp_path):
    run = train_tiny(
        "joint", folder / "cache", tmp_path / "run", steps=4, epochs=None,
        single_caption="left-out", categories=(6, 3),
    )  # fmt: skip
    assert json.loads((run / "config.json").read_text())["system"]["single_caption"] == "left-out"
    asked = EvaluateOptions(run, folder / "cache", "test", metrics=NO_JAVA)
    usual = evaluate(asked)
    assert usual.folder.name == "test"
    assert (usual.record.single_caption, usual.record.captions_from) == (None, "left-out")
    same = evaluate(replace(asked, single_caption="left-out"))
    assert (same.folder, same.captions) == (usual.folder, usual.captions)
    mode = evaluate(replace(asked, single_caption="mode"))
    assert mode.folder.name == "test,single-caption=mode,metrics=rouge+cider"
    assert find_evaluation(run, "test", "best") == usual.folder


def test_guided_samples_are_recorded_and_differ(folder, tmp_path):
    run = train_tiny(
        "joint", folder / "cache", tmp_path / "run", steps=4, epochs=None, categories=(6, 3)
    )
    asked = EvaluateOptions(
        run, folder / "cache", "test", samples=3, guidance=0.5, metrics=NO_JAVA, temperature=1.0
    )
    found = evaluate(asked)
    assert (found.record.guidance, found.record.captions_from) == (0.5, "reranked")
    assert ",guidance=0.5," in found.record.folder_name
    assert read_evaluation(found.folder, "test", "best").record == found.record
    free = evaluate(replace(asked, guidance=1.0))
    assert free.captions == found.captions  # samples do not change them
    assert (free.folder / "samples.json").read_text() != (found.folder / "samples.json").read_text()
    with pytest.raises(OptionError, match=r"--guidance 0\.5: it needs --samples"):
        evaluate(replace(asked, samples=0, temperature=0.0))


def test_a_consensus_needs_the_training_captions(folder, tmp_path):
    run = shutil.copytree(folder / "multispace", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["options"]["cache"] = str(tmp_path / "moved")
    (run / "config.json").write_text(json.dumps(config))
    file = next((folder / "collection" / "images").glob("test-*.png"))
    with pytest.raises(PipelineError, match=r"moved is not there; give .*--cache DIR"):
        caption_files(run, [file], single_caption="consensus")
    there = caption_files(run, [file], single_caption="consensus", cache=folder / "cache")
    assert list(there.captions) == [str(file)]


def test_earlier_evaluations_are_read(folder, tmp_path):
    written = evaluate(ask(folder, "multispace", samples=2, seed=8)).folder
    earlier = shutil.copytree(written, tmp_path / "evaluation" / written.name)
    record = json.loads((earlier / "evaluation.json").read_text())
    for name in ("single_caption", "captions_from", "temperature", "top_p"):
        del record[name]
    (earlier / "evaluation.json").write_text(json.dumps(record))
    found = read_evaluation(earlier, "test", "best").record
    assert (found.captions_from, found.temperature, found.top_p) == ("mode", 0.0, 1.0)
