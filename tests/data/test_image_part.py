import random

import pytest

from multispace.data.image_part import ImagePart

KEYS = [f"folder/{number:03d}.jpg" for number in range(20)]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20, 30])
def test_parts_are_equal_and_make_up_the_whole(count):
    parts = [ImagePart(number, count).of(KEYS) for number in range(1, count + 1)]
    assert [key for part in parts for key in part] == KEYS
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_a_part_depends_on_the_keys_alone():
    shuffled = [*KEYS, *KEYS[:5]]
    random.Random(0).shuffle(shuffled)
    assert ImagePart(2, 3).of(shuffled) == ImagePart(2, 3).of(KEYS) == KEYS[6:13]


def test_keys_are_sorted_by_code_points():
    keys = ["é.jpg", "z.jpg", "Z.jpg", "a.jpg", "\U0001f600.jpg"]
    assert ImagePart(1, 1).of(keys) == ["Z.jpg", "a.jpg", "z.jpg", "é.jpg", "\U0001f600.jpg"]


def test_a_part_is_read_as_it_is_written():
    assert ImagePart.parse("3/8") == ImagePart(3, 8)
    assert str(ImagePart(3, 8)) == "3/8"


@pytest.mark.parametrize(
    "text",
    ["", "x", "3", "0/8", "9/8", "1/0", "-1/8", "1/8/2", " 1/8", "1.5/8", "1/8\n", "\u0661/8"],
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match="no part of a whole"):
        ImagePart.parse(text)
