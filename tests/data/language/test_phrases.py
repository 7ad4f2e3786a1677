import pytest

from multispace.data.language.inflection import noun_forms, verb_forms
from multispace.data.language.nouns import NOUNS, OBJECT_OF, PEOPLE
from multispace.data.language.pairs import Pair
from multispace.data.language.phrases import read_phrases
from multispace.errors import DataError


def said(caption: str) -> dict[str, list[str]]:
    """Return the nouns with their attributes and verbs, sorted."""
    return {p.noun: sorted([*p.attributes, *p.verbs]) for p in read_phrases(caption)}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A big RED bus.", {"bus": ["big", "red"]}),
        ("a red double decker bus", {"bus": ["red"]}),
        ("a large brown sleepy old dog", {"dog": ["brown", "large", "old"]}),
        ("a red, white and blue flag", {"flag": ["blue", "red", "white"]}),
        ("black-and-white cats", {"cat": ["black", "white"]}),
        ("a very dark blue car", {"car": ["blue"]}),
        ("a bus that is red", {"bus": ["red"]}),
        ("a man on a bus that is red", {"man": [], "bus": ["red"]}),
        ("the cat is black", {"cat": ["black"]}),
        ("the cat on the mat is black and very big", {"cat": ["big", "black"]}),
        ("the bus is red and the car is blue", {"bus": ["red"], "car": ["blue"]}),
        ("a bench painted green", {"bench": ["green"]}),
        ("a brightly colored kite", {"kite": []}),
        ("a cat with black stripes", {"cat": ["stripes"]}),
        ("two dogs and three buses", {"dog": ["two"], "bus": ["three"]}),
        ("a couple of dogs", {"dog": ["couple_of"]}),
        ("a two story red building", {"building": ["red"]}),
        ("the three big dogs", {"dog": ["big", "three"]}),
        ("a red bus seat", {"seat": ["red"]}),
        ("a red stop sign", {"stop_sign": ["red"]}),
        ("a hot dog", {"hot_dog": []}),
        ("a brown teddy bear", {"teddy_bear": ["brown"]}),
        ("a baby elephant", {"elephant": []}),
        ("a wooden kitchen table", {"table": ["wooden"]}),
        ("an orange on a plate", {"orange_fruit": [], "plate": []}),
        ("a bowl of oranges", {"bowl": [], "orange_fruit": []}),
        ("an orange cat", {"cat": ["orange"]}),
        ("a man in red beside a car", {"man": [], "car": []}),
        ("a man in orange", {"man": []}),
        ("a woman in black holds umbrellas", {"woman": ["hold"], "umbrella": []}),
        ("a red and a blue", {}),
        ("a man's brown dog", {"man": [], "dog": ["brown"]}),
        ("", {}),
    ],
)
def test_attributes_count_for_their_noun(caption, expected):
    assert said(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man sitting at a table is eating pizza", {"man": ["eat", "sit"], "table": []}),
        ("a man and a woman eat", {"man": ["eat"], "woman": ["eat"]}),
        ("a man rides a horse that eats grass", {"man": ["ride"], "horse": ["eat"]}),
        ("the sleeping cat", {"cat": ["sleep"]}),
        ("a man sits while a dog sleeps", {"man": ["sit"], "dog": ["sleep"]}),
        ("a man skis down", {"man": ["ski"]}),
        ("a man on skis", {"man": [], "ski": []}),
        ("a woman was lying down. A dog sat", {"woman": ["lie"], "dog": ["sit"]}),
    ],
)
def test_verbs_count_for_their_subject(caption, expected):
    found = said(caption)
    assert {noun: found[noun] for noun in expected} == expected


def test_words_inflect():
    assert noun_forms("bus")[1] == "buses"
    assert noun_forms("policeman") == ["policeman", "policemen"]
    assert noun_forms("fire_hydrant") == ["fire_hydrant", "fire_hydrants"]
    assert noun_forms("puppy") == ["puppy", "puppies"]
    assert noun_forms("sheep") == ["sheep"]
    assert {"sits", "sitting", "sat"} <= set(verb_forms("sit"))
    assert {"rides", "riding", "rode"} <= set(verb_forms("ride"))
    assert {"carries", "carrying", "carried"} <= set(verb_forms("carry"))
    assert {"eating", "eats", "ate"} <= set(verb_forms("eat"))


def test_a_noun_stands_for_one_thing():
    words = [word for names in NOUNS.values() for word in names]
    assert sorted({word for word in words if words.count(word) > 1}) == []
    assert all(OBJECT_OF[name] == "person" for name in PEOPLE)


@pytest.mark.parametrize(
    ("text", "caption", "named"),
    [
        ("black dog", "two BLACK puppies", True),
        ("black dog", "the dog is black", True),
        ("black dog", "a dog and a black cat", False),
        ("black dog", "a black dog house", False),
        ("black dog", "a black hot dog", False),
        ("big bus", "a huge red bus", True),
        ("big_bus", "a small bus on a big road", False),
        ("ride woman", "a lady rode a bike", True),
        ("ride woman", "a woman watches a man riding", True),  # either may be meant: both count
        ("ride woman", "a woman sees a man that is riding", False),
        ("eat man", "a man is eating", True),
        ("lie woman", "a girl lying on a bed", True),
        ("fly bird", "a flying seagull", True),
        ("young child", "a young boy", True),
        ("young boy", "a young girl", False),
        ("spotless zebu", "the zebus are spotless", True),
        ("juggle clown", "two clowns juggling knives", True),
    ],
)
def test_pairs_are_found_with_synonyms_and_inflections(text, caption, named):
    assert Pair.parse(text).is_named(caption) is named


def test_spellings_of_a_pair_are_one():
    assert Pair.parse("Huge buses") == Pair.parse("big_bus") == Pair("big", "bus")
    assert Pair.parse("sitting men") == Pair("sit", "man")
    assert Pair.parse("black dog").noun_is_named("a white puppy")
    assert not Pair.parse("black dog").noun_is_named("a black cat")


@pytest.mark.parametrize("text", ["dog", "", "a black dog", "black 2"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(DataError, match="an adjective or a verb, and a noun"):
        Pair.parse(text)
