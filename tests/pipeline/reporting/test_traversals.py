import pytest

from multispace.data.files import write_json
from multispace.errors import PipelineError
from multispace.pipeline.reporting.traversals import exploration_folder, read_traversals

TRAVERSAL = {
    "key": "a.jpg", "caption": "a dog", "latent": "z3",
    "captions": {"-3": "a cat", "+0": "a dog", "+3": "a dog"},
}  # fmt: skip
WORDS = {"latent": "z3", "weight": 1.25, "rise": {"dog": 0.5}, "fall": {}}


def explored(run, **content):
    write_json(exploration_folder(run, "test") / "exploration.json", content)
    return run


def test_words_and_the_captions_of_each_image_are_tables(tmp_path):
    run = explored(tmp_path, traversals=[TRAVERSAL], words=[WORDS], meaning=None)
    words, captions = read_traversals(run, "test")
    assert words.rows == [["z3", "1.25", "dog +50%", "-"]]
    assert captions.title == "a.jpg: a dog"
    assert captions.rows == [["z3", "-3", "a cat"], ["z3", "+0, +3", "a dog"]]


def test_a_run_that_was_not_explored_has_none(tmp_path):
    assert read_traversals(tmp_path, "test") == []


@pytest.mark.parametrize(
    "content",
    [{"words": []}, {"traversals": [3], "words": []}, {"traversals": [], "words": [{"rise": 1}]}],
)
def test_another_file_is_one_error(tmp_path, content):
    with pytest.raises(PipelineError, match=r"exploration\.json: .*run `multispace explore` again"):
        read_traversals(explored(tmp_path, **content), "test")
