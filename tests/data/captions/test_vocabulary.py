import json
from pathlib import Path

import pytest
from support.paths import DATA

from multispace.data.annotations import read_collection
from multispace.data.captions.vocabulary import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    Vocabulary,
    build_vocabulary,
)
from multispace.errors import VocabularyError

CAPTIONS = ["a dog and a cat", "a cat", "the dog <unk> Été"]


def small(min_count: int = 1) -> Vocabulary:
    return build_vocabulary(CAPTIONS, "whitespace", min_count, "source")


def test_words_are_by_falling_count_then_by_the_alphabet():
    assert small().words == (*SPECIALS, "a", "cat", "dog", "and", "the", "Été")
    assert small(2).words == (*SPECIALS, "a", "cat", "dog")
    assert small(3).words == (*SPECIALS, "a")
    assert len(small(3)) == 5
    again = build_vocabulary(reversed(CAPTIONS), "whitespace", 1, "source")
    assert again == small()


def test_special_tokens_have_their_ids():
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert SPECIALS == ("<pad>", "<bos>", "<eos>", "<unk>")


def test_encode_and_decode():
    vocabulary = small(2)
    assert vocabulary.encode("the cat and a dog") == [UNK, 5, UNK, 4, 6]
    assert vocabulary.decode([BOS, UNK, 5, PAD, 6, EOS, 4]) == "<unk> cat dog"
    assert vocabulary.decode([]) == ""


def test_text_that_spells_a_special_token_is_an_unknown_word():
    assert small().encode("<eos> <pad> <unk> a") == [UNK, UNK, UNK, 4]


@pytest.mark.parametrize("token", [-1, 10])
def test_ids_that_are_no_words_are_refused(token):
    with pytest.raises(VocabularyError, match=f"token {token} is outside the vocabulary of 10"):
        small().decode([4, token])


@pytest.mark.parametrize("min_count", [0, -1, 1.5, True, "10"])
def test_min_count_is_a_whole_number_from_one_up(min_count):
    with pytest.raises(VocabularyError, match="min-count is"):
        build_vocabulary(CAPTIONS, "whitespace", min_count, "source")


def test_an_empty_vocabulary_is_refused():
    with pytest.raises(
        VocabularyError,
        match=r"no word occurs 4 times .* one 3 times.*lower --min-c",
    ):
        small(4)
    with pytest.raises(VocabularyError, match="min-count"):
        build_vocabulary([], "whitespace", 1, "source")
    with pytest.raises(VocabularyError, match="unknown tokenizer 'x'"):
        build_vocabulary(CAPTIONS, "x", 1, "source")


def test_the_digest_covers_what_gives_ids_their_meaning():
    vocabulary = small()
    words, tokenizer = vocabulary.words, vocabulary.tokenizer
    assert len(vocabulary.digest) == 64
    assert Vocabulary(words, tokenizer, 7, "other").digest == vocabulary.digest
    assert Vocabulary(words, "whitespace-lower", 1, "source").digest != vocabulary.digest
    assert Vocabulary(words[:-1], tokenizer, 1, "source").digest != vocabulary.digest
    swapped = (*words[:-2], words[-1], words[-2])
    assert Vocabulary(swapped, tokenizer, 1, "source").digest != vocabulary.digest


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "cache" / "vocabulary.json"
    small().save(path)
    assert Vocabulary.load(path) == small()
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["format"] == "multispace-vocabulary"
    assert document["version"] == 2
    assert document["words"][9] == "Été"
    assert [file.name for file in path.parent.iterdir()] == ["vocabulary.json"]


def saved(path: Path, **changes: object) -> Path:
    small().save(path)
    document = {**json.loads(path.read_bytes()), **changes}
    kept = {name: value for name, value in document.items() if value is not ...}
    path.write_text(json.dumps(kept))
    return path


def refused(path: Path, part: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert part in message
    assert "preprocess" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"format": "other"}, "not a vocabulary"),
        ({"version": 3}, "version 3"),
        ({"version": True}, "version True"),
        ({"version": ...}, "version None"),
        ({"tokenizer": "ptb"}, "'ptb'"),
        ({"tokenizer": 1}, "tokenizer is not of type str"),
        ({"min_count": 0}, "min-count is 0"),
        ({"min_count": True}, "min-count is True"),
        ({"source_digest": ...}, "source_digest is missing"),
        ({"words": "abc"}, "words is not of type list"),
        ({"words": [*SPECIALS, "a", 5]}, "words[5] is 5"),
        ({"words": [*SPECIALS, "a", "b", "a"]}, "'a' occurs twice"),
        ({"words": [*SPECIALS, "a", "<pad>"]}, "'<pad>' occurs twice"),
        ({"words": ["a", *SPECIALS]}, "words begin with"),
        ({"words": [*SPECIALS, "a b"]}, "'a b' is empty or holds white space"),
        ({"words": [*SPECIALS, ""]}, "'' is empty"),
        ({"words": [*SPECIALS, "\ud800"]}, "UTF-8"),
        ({"words": [*SPECIALS, "a"]}, "digest is"),
        ({"digest": ...}, "digest is None"),
        ({"more": 1}, "unknown entries ['more']"),
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path, changes, part):
    refused(saved(tmp_path / "vocabulary.json", **changes), part)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "not whole JSON"),
        (b"{", "not whole JSON"),
        (b"[]", "not a vocabulary"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"[" * 100_000, "not whole JSON"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content, part):
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    refused(path, part)


def test_a_missing_vocabulary_is_refused(tmp_path):
    refused(tmp_path / "vocabulary.json", "no vocabulary")


@pytest.fixture(scope="module")
def coco_captions() -> list[str]:
    path = DATA / "coco" / "captions_val2014.json"
    if not path.is_file():
        pytest.skip("COCO's val2014 captions are not here")
    images = read_collection(path).images
    return [caption for image in images for caption in image.captions]


@pytest.mark.parametrize(
    ("tokenizer", "words"), [("whitespace", 6277), ("whitespace-lower", 5796), ("treebank", 4570)]
)
def test_size_on_coco_val2014(coco_captions, tokenizer, words):
    vocabulary = build_vocabulary(coco_captions, tokenizer, 10, "source")
    assert len(vocabulary) - len(SPECIALS) == words
