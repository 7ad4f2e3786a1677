from multispace.pipeline.reporting.wrong_words import check_caption


def marked(checked):
    return [text for text, wrong in checked.pieces if wrong]


def test_objects_and_attributes_that_no_reference_has_are_marked():
    caption = "a red bus and a <b>dog</b>"
    checked = check_caption(caption, ["a blue bus on a road"])
    assert marked(checked) == ["red", "dog"]
    assert checked.wrong == ("dog", "red bus")
    assert "".join(text for text, _ in checked.pieces) == caption


def test_a_word_that_is_also_right_is_listed_only():
    checked = check_caption("a red bus and a red car", ["a red bus and a car"])
    assert (marked(checked), checked.wrong) == ([], ("red car",))


def test_a_generated_image_is_compared_with_what_was_drawn():
    thing = {"shape": "circle", "colour": "red", "size": "large", "pattern": "plain"}
    checked = check_caption("a blue circle", ["a blue circle"], {"objects": [thing]})
    assert (marked(checked), checked.wrong) == (["blue"], ("blue circle",))
    checked = check_caption("a tiny striped circle", [], {"objects": [thing]})
    assert marked(checked) == ["tiny", "striped"]
