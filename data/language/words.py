"""The attributes and verbs that are looked for in captions, with synonyms, and how words inflect.

"_" joins the words of one name.
"""

import re


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(words.split())


ATTRIBUTES: dict[str, dict[str, str]] = {
    "colour": {
        "black": "black",
        "white": "white",
        "grey": "grey gray greyish grayish",
        "red": "red reddish maroon crimson scarlet",
        "orange": "orange",
        "yellow": "yellow yellowish",
        "green": "green greenish",
        "blue": "blue bluish blueish navy turquoise teal",
        "purple": "purple violet lavender",
        "pink": "pink pinkish",
        "brown": "brown brownish tan beige",
        "silver": "silver",
        "gold": "gold golden",
    },
    "size": {
        "big": "big large tall huge wide great broad enormous expansive extensive giant gigantic "
        "massive vast oversized",
        "small": "small little tiny narrow short thin compact mini miniature petite skinny",
        "medium": "medium",
    },
    "number": {
        "one": "one single 1",
        "two": "two pair_of couple_of 2",
        "three": "three 3",
        "four": "four 4",
        "five": "five 5",
        "six": "six 6",
        "seven": "seven 7",
        "eight": "eight 8",
        "nine": "nine 9",
        "ten": "ten 10",
    },
    "pattern": {
        "striped": "striped stripes stripe stripy",
        "dotted": "dotted dots spotted spots speckled polka_dot polka_dots polka_dotted",
        "checked": "checked checkered chequered plaid",
        "floral": "floral flowered",
        "plain": "plain solid",
    },
    "material": {
        "wooden": "wooden wood timber",
        "metal": "metal metallic steel iron",
        "brick": "brick",
        "stone": "stone",
        "glass": "glass",
        "leather": "leather",
        "plastic": "plastic",
        "concrete": "concrete",
        "stuffed": "stuffed plush",
    },
}
ATTRIBUTE_CLASSES = tuple(ATTRIBUTES)

# Attributes that can be held out, but are too loosely used to score.
QUALITIES = {
    "old": "old vintage retro elderly elder aged ancient antique senior worn",
    "young": "young juvenile adolescent teenage infant",
    "fluffy": "fluffy furry",
}
PATTERN_NOUNS = word_set("stripes stripe dots spots polka_dots")  # follow "with"

VERBS = {
    "eat": "eat chew bite graze",
    "hold": "hold carry",
    "jump": "jump hop leap",
    "lie": "lie lay",
    "ride": "ride",
    "sit": "sit perch",
    "sleep": "sleep doze snooze nap",
    "smile": "smile grin laugh smirk",
    "stand": "stand",
    "surf": "surf",
    "walk": "walk hike stride stroll wander",
    "wear": "wear",
    "fly": "fly",
    "run": "run jog",
    "play": "play",
    "swim": "swim",
    "climb": "climb",
    "throw": "throw",
    "catch": "catch",
    "watch": "watch",
    "drink": "drink",
    "ski": "ski",
    "skateboard": "skateboard",
    "snowboard": "snowboard",
    "drive": "drive",
    "chase": "chase",
    "read": "read",
    "dance": "dance",
}

_PLURALS = {
    "child": "children",
    "person": "people persons",
    "goose": "geese",
    "mouse": "mice",
    "foot": "feet",
    "knife": "knives",
    "leaf": "leaves",
    "shelf": "shelves",
    "calf": "calves",
    "scarf": "scarves",
    "ox": "oxen",
    "bus": "buses busses",
}
UNCOUNTED = word_set(  # the same in the plural, or always in it
    "sheep fish cattle scissors trousers pants jeans shorts trunks sunglasses clothes "
    "clothing aircraft luggage broccoli hair someone glasses_of lights"
)
_PAST = {
    "eat": "ate eaten",
    "bite": "bit bitten",
    "hold": "held",
    "leap": "leapt",
    "lie": "lying lain",
    "lay": "laid",
    "ride": "rode ridden",
    "sit": "sat",
    "sleep": "slept",
    "stand": "stood",
    "wear": "wore worn",
    "fly": "flew flown",
    "run": "ran",
    "swim": "swam swum",
    "throw": "threw thrown",
    "catch": "caught",
    "drink": "drank drunk",
    "drive": "drove driven",
    "read": "read",
}

# Words that hold a sentence together.
DETERMINERS = word_set(
    "a an the this these those his her its their my your our some each every another both all "
    "no several many"
)
PREPOSITIONS = word_set(
    "of in on at by with without from to into onto over under near next beside besides behind "
    "above below beneath between among across through along around inside outside atop "
    "against towards toward for off up down past front during about underneath like"
)
BE = word_set("is are was were be been being looks look appears")
RELATIVE = word_set("that which who")
DEGREES = word_set("very bright brightly dark light pale deep so really quite mostly both")
COLOURED = word_set("painted colored coloured dyed")
NEUTRAL = ("two_story", "two_way", "one_way", "one_another", "train_station", "bus_station")


def bare(word: str) -> str:
    """Return a word of a white-space tokeniser in lower case, without the marks around it."""
    return word.lower().strip(".,;:!?\"'()")


def attribute_of(word: str) -> tuple[str, str] | None:
    """Return class and value of an attribute word: "huge" is (size, big)."""
    return _ATTRIBUTE_OF.get(word)


def noun_forms(word: str) -> list[str]:
    """Return singular and plural of a noun, the singular first."""
    stem, joint, last = word.rpartition("_")
    if word in UNCOUNTED or last in UNCOUNTED:
        return [word]
    if last in _PLURALS:
        plurals = _PLURALS[last].split()
    elif last.endswith("man") and last != "human":
        plurals = [last[:-3] + "men"]
    else:
        plurals = [_with_s(last)]
        if last.endswith("o"):
            plurals.append(last + "es")
    return [word, *(stem + joint + plural for plural in plurals)]


def verb_forms(word: str) -> list[str]:
    """Return a verb as it is inflected, the bare form first."""
    stem = word + word[-1] if re.fullmatch("[^aeiou]*[aeiou][^aeiouwxy]", word) else word
    if word.endswith("e"):
        stem = word[:-1]
    past = word[:-1] + "ied" if re.search("[^aeiou]y$", word) else stem + "ed"
    return [word, _with_s(word), stem + "ing", past, *_PAST.get(word, "").split()]


def _with_s(word: str) -> str:
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("s" if not re.search("(s|x|z|ch|sh)$", word) else "es")


_ATTRIBUTE_OF = {
    word: (kind, value)
    for kind, values in ATTRIBUTES.items()
    for value, words in values.items()
    for word in words.split()
}
