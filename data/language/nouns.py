"""The objects that are looked for in captions, each with its synonyms.

``nouns.json`` holds the lists. They were chosen from words that the captions of MS-COCO and
Flickr8k use often.
"""

from multispace.data.language.word_lists import Words, read_word_lists

_LISTS: dict[str, dict[str, Words]] = read_word_lists("nouns.json")

# A caption that names one of these may be wrong. They are COCO's categories and other common
# objects.
OBJECTS = _LISTS["objects"]

# These carry attributes, but references omit them too often to call them hallucinated.
SURROUNDINGS = _LISTS["surroundings"]

NOUNS = OBJECTS | SURROUNDINGS

# Kinds of people that a held-out pair can name; the scores call all of them "person".
PEOPLE = _LISTS["people"]

# The objects that are people or animals.
ANIMATE = frozenset(_LISTS["animate"])

OBJECT_OF = {word: name for name, words in NOUNS.items() for word in words}
