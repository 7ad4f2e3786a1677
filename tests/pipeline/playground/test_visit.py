"""What the page answers, without Gradio: images, captions, samples, and errors as one line."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from multispace.errors import Error, OptionError, PipelineError
from multispace.pipeline.app import load_playground
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.app_options import AppOptions
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.evaluate import EvaluateOptions, evaluate
from multispace.pipeline.playground import image_choice
from multispace.pipeline.playground import player as player_module

DRAWN = {
    "count": 3,
    "beam": 2,
    "temperature": 0.5,
    "latent_temperature": 1.0,
    "guidance": 1.0,
    "seed": 1,
}


@pytest.fixture(scope="module")
def evaluated(tiny_run, tiny_cache, tmp_path_factory):
    """A copy of the run with an evaluation, which names its categories."""
    folder = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("evaluated") / "named"))
    evaluate(EvaluateOptions(folder, cache=tiny_cache, metrics=("cider",), device="cpu"))
    return folder


@pytest.fixture(scope="module")
def playground(evaluated, tiny_run, tiny_base_run, tiny_collection):
    runs = (evaluated, tiny_run, tiny_base_run)
    images = tiny_collection / "images"
    return load_playground(AppOptions(runs, images=images, dims=2, device="cpu"))


@pytest.fixture(scope="module")
def image(playground):
    return playground.choose(playground.images.keys[0])


def test_each_system_has_its_own_controls(playground):
    named, plain, base = playground.players
    assert [player.name for player in playground.players] == ["named", "multispace", "base"]
    assert [len(player.controls.sliders) for player in playground.players] == [2, 2, 0]
    assert [entry.partition(":")[0] for entry in named.controls.menus[0].entries] == [*"012345"]
    assert plain.controls.menus[0].entries[0] == "category 0"
    assert "run `multispace evaluate" in plain.note
    assert (named.note, base.controls.each) == ("", ())


def test_an_image_of_the_split_needs_no_backbone(playground, image, monkeypatch):
    monkeypatch.setattr(image_choice, "load_run_backbone", None)
    monkeypatch.setattr(image_choice, "image_features", None)
    chosen = playground.choose(image.name)
    assert chosen.name.startswith("test-")
    assert len(chosen.references) == 2
    assert chosen.picture.startswith("data:image/jpeg;base64,")
    for number in range(3):
        own = playground.own(chosen, number)
        assert "ms-caption" in playground.answer(chosen, number, own, 2)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_captions_are_those_of_the_command(playground, tiny_collection, number):
    for key in playground.images.keys:
        file = tiny_collection / "images" / key
        player = playground.players[number]
        asked = CaptionOptions(player.run.folder, (file,), beam=2, device="cpu")
        (expected,) = caption(asked).captions.values()
        for chosen in (playground.choose(key), playground.upload(str(file))):
            features = chosen.features[number]
            first, *others = player.captions(features, player.own(features), 2)
            assert (first, player.single(features, 2)) == (expected, expected)
            assert first not in others


def test_a_latent_that_is_set_changes_the_caption(playground):
    player = playground.players[0]
    found = set()
    for key in playground.images.keys:
        features = playground.choose(key).features[0]
        own = player.own(features)
        for place, control in enumerate(player.controls.each):
            for value in getattr(control, "entries", (-4.0, 4.0)):
                changed = [*own[:place], value, *own[place + 1 :]]
                found.add((key, player.captions(features, changed, 1)[0]))
    assert len(found) > len(playground.images.keys)


def test_samples_are_reproducible_and_have_a_consensus(playground, image):
    for number in range(3):
        first, again, other = (
            playground.draw(image, number, **{**DRAWN, "seed": seed}) for seed in (1, 1, 2)
        )
        assert first == again
        assert "3 samples" in first
        assert "3 samples" in other
        assert "consensus of the samples" in first
    assert "base has no latent space to sample from" in playground.draw(
        image, 2, **{**DRAWN, "temperature": 0.0}
    )


def test_guidance_is_for_systems_with_latent_dropout(playground, image, monkeypatch):
    asked = []

    def samples(system, features, vocabulary, sampling):
        asked.append(sampling)
        return [["a dog"]]

    monkeypatch.setattr(player_module, "caption_samples", samples)
    playground.draw(image, 0, **{**DRAWN, "guidance": 0.5})
    options = playground.players[0].run.system.options
    monkeypatch.setattr(type(options), "may_leave_out", True)
    playground.draw(image, 0, **{**DRAWN, "guidance": 0.5})
    assert [sampling.guidance for sampling in asked] == [1.0, 0.5]


def test_without_its_training_captions_a_run_has_samples_and_a_reason(playground, image):
    player = playground.players[0]

    def missing():
        raise PipelineError("no captions", where="there")

    changed = type(player)(player.name, player.run, player.controls, missing)
    found = type(playground)([changed], "test", playground.images, playground.uploads)
    text = found.draw(image, 0, **DRAWN)
    assert "3 samples" in text
    assert "no consensus: there: no captions" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0), ("count", 21), ("count", 1.5), ("count", "3"), ("count", None),
        ("beam", 0), ("beam", 11), ("beam", float("nan")), ("beam", float("inf")),
        ("temperature", -1), ("temperature", 2.5), ("temperature", float("nan")),
        ("latent_temperature", 0), ("guidance", -0.1), ("guidance", 2.5),
        ("seed", -1), ("seed", 1 << 40), ("seed", True),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_one_line(playground, image, name, value):
    text = playground.draw(image, 0, **{**DRAWN, name: value})
    assert text.startswith('<p class="ms-error"')
    if name == "beam":
        own = playground.own(image, 0)
        assert playground.answer(image, 0, own, value).startswith('<p class="ms-error"')


def test_what_is_no_image_is_one_line_and_loads_no_network(playground, tmp_path, monkeypatch):
    monkeypatch.setattr(image_choice, "load_run_backbone", None)
    garbage, empty, strip = (tmp_path / name for name in ("a<b>.jpg", "empty.png", "strip.png"))
    garbage.write_bytes(b"no image")
    empty.write_bytes(b"")
    Image.new("1", (1, 2000)).save(strip)
    assert playground.upload(str(garbage)) == "a<b>.jpg: not an image of a known format"
    assert playground.upload(str(empty)).endswith("empty.png: empty file")
    assert "longer than 100:1" in playground.upload(str(strip))


def test_without_the_network_an_upload_says_why(playground, tiny_collection, monkeypatch):
    def missing(*_, **__):
        raise PipelineError("weights are not here", hint="fetch them")

    monkeypatch.setattr(image_choice, "load_run_backbone", missing)
    monkeypatch.setattr(playground.uploads, "_backbones", {})
    chosen = playground.upload(str(tiny_collection / "images" / playground.images.keys[0]))
    assert chosen.picture
    assert chosen.features == (None,) * 3
    for number in (0, 2):
        own = playground.own(chosen, number)
        text = playground.answer(chosen, number, own, 2)
        assert "weights are not here; fetch them" in text
        assert playground.draw(chosen, number, **DRAWN) == ""


def test_keys_are_stepped_through_in_a_circle(playground):
    first, *_, last = playground.images.keys
    assert playground.next_key(first, -1) == last
    assert playground.next_key(last, 1) == first
    assert playground.next_key(None, 1) == first
    assert playground.next_key("no key", -1) == first


@pytest.mark.parametrize("key", ["nowhere.png", "", None, 3, "../../etc/passwd", "train-001.png"])
def test_a_key_of_no_image_is_one_line(playground, key):
    assert playground.choose(key).endswith("no image of the split is called so")


def test_a_missing_picture_says_so(tiny_run, tmp_path):
    for images, reason in ((None, "add --images"), (tmp_path, "no such file")):
        found = load_playground(AppOptions((tiny_run,), images=images, device="cpu"))
        chosen = found.choose(found.images.keys[0])
        assert (chosen.picture, reason in chosen.missing) == ("", True)


def test_what_comes_from_data_is_escaped(playground, image, tmp_path):
    from multispace.pipeline.playground import fragments

    name = "<script>alert(1)</script>"
    texts = [name, f"{name}\n# **x** $$y$$"]
    drawn = fragments.Drawn(texts, name)
    hostile = type(image)(name, "", image.features, image.reasons, tuple(texts), name)
    for html in (
        fragments.answer(texts, name, "mode", "z"), fragments.drawn(drawn),
        fragments.picture(hostile), fragments.failure(texts[1]),
        fragments.heading(name, name, name),
    ):  # fmt: skip
        assert "<script" not in html
        assert "&lt;script&gt;" in html
        assert "\n" not in html  # a line break would end the HTML and begin Markdown


def test_runs_of_one_name_are_told_apart(tiny_run, tmp_path):
    copies = [shutil.copytree(tiny_run, tmp_path / part / "run") for part in ("a", "b")]
    found = load_playground(AppOptions(copies, device="cpu"))
    assert [player.name for player in found.players] == ["a/run", "b/run"]
    assert found.images.pairs[0] is found.images.pairs[1]  # of one cache


def test_too_many_runs_are_refused(tiny_run):
    with pytest.raises(OptionError, match="9 runs do not fit side by side; give at most 8"):
        AppOptions((tiny_run,) * 9)


def test_a_split_that_is_not_there_is_one_error(tiny_run):
    with pytest.raises(Error, match="no captions of split 'dev'"):
        load_playground(AppOptions((tiny_run,), split="dev", device="cpu"))


def test_a_single_caption_is_made_once_for_an_image_and_a_beam(playground, image, monkeypatch):
    player, made = playground.players[1], []
    monkeypatch.setattr(
        player_module, "single_captions", lambda *asked: made.append(asked) or ["a caption"]
    )
    (features, other) = (playground.choose(k).features[1] for k in playground.images.keys[:2])
    player._single.clear()
    assert [player.single(features, 2), player.single(features.clone(), 2)] == ["a caption"] * 2
    assert len(made) == 1
    player.single(features, 3)
    player.single(other, 3)
    assert len(made) == 3
    player._single.clear()
