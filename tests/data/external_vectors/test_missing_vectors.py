import json
from pathlib import Path

import numpy as np
import pytest
from support import tiny
from support.rows import CAPTIONS, KEYS, put_text, vectors

from multispace.data.cache.writer import write_cache
from multispace.data.external_vectors.missing_vectors import missing_note
from multispace.data.external_vectors.vector_import import ImportOptions, import_features
from multispace.data.external_vectors.vector_names import map_names
from multispace.pipeline.preprocess import preprocess

COCO = [f"COCO_val2014_{n:012d}.jpg" for n in (42, 391895)]


@pytest.mark.parametrize(
    ("captioned", "names", "pattern"),
    [
        (COCO, ["391895", "7"], "COCO_val2014_{:012d}.jpg"),
        (COCO, ["000000000042"], "COCO_val2014_{:012d}.jpg"),
        (["1000092795.jpg"], ["1000092795"], "{}.jpg"),
        (["val2014/a.jpg"], ["a.jpg"], "val2014/{}"),
        (["val2014/a.jpg"], ["a"], "val2014/{}.jpg"),
        (["img 5 of 9.png"], ["9"], "img 5 of {:d}.png"),
        (COCO, ["b"], None),
        (["{42}.jpg"], ["42"], None),
    ],
)
def test_the_note_has_an_example_of_each_side_and_the_pattern_between_them(
    captioned, names, pattern
):
    note = missing_note(captioned, names)
    assert note.startswith(f"{len(captioned)} of {len(captioned)} images with captions have no ")
    assert any(repr(key) in note for key in captioned)
    assert any(repr(name) in note for name in names)
    if pattern is None:
        assert note.endswith("into another cache, with --name-pattern or --name-map")
    else:
        assert pattern in note
        example = next(name for name in names if repr(name) in note)
        (key,) = map_names([example], pattern, None)
        assert f"the captions name {key!r}, the vectors {example!r}" in note


def test_vectors_that_are_missing_alone_are_counted():
    assert missing_note(["a", "b"], ["b", "a", "c"]) is None
    assert missing_note(["a", "b"], ["b"]) == (
        "1 of 2 images with captions have no vector, such as 'a'; import their vectors, too"
    )


def source(tmp_path, names):
    np.savez(tmp_path / "v.npz", features=vectors(names), ids=np.array(names))
    return {"source": tmp_path / "v.npz", "architecture": "x", "weights": "y"}


def test_an_import_into_captions_of_other_names_says_so(tmp_path):
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer)
    names = [str(n) for n in range(5)]
    done = import_features(ImportOptions(**source(tmp_path, names), into=tmp_path / "cache"))
    assert done.added == 5
    (note,) = done.notes
    assert note.startswith("5 of 5 images with captions have no vector: the captions name 'a.jpg'")
    assert "the vectors '0'; if they are the same images, import" in note
    assert done.to_json()["notes"] == [note]
    done = import_features(ImportOptions(**source(tmp_path, KEYS[:4]), into=tmp_path / "cache"))
    assert done.notes[0].startswith("1 of 5 images with captions have no vector: the captions na")
    done = import_features(ImportOptions(**source(tmp_path, KEYS), into=tmp_path / "cache"))
    assert done.notes == ()


def test_captions_of_other_names_than_imported_vectors_say_so(tmp_path):
    images = [key for split in CAPTIONS.values() for key in split]
    numbered = {n: f"COCO_val2014_{n:012d}.jpg" for n, _ in enumerate(images)}
    coco = {
        "images": [{"id": n, "file_name": name} for n, name in numbered.items()],
        "annotations": [{"id": n, "image_id": n, "caption": "a red bus"} for n in numbered],
    }
    (tmp_path / "captions.json").write_text(json.dumps(coco))
    given = source(tmp_path, [str(n) for n in numbered])
    cache = tmp_path / "wrong"
    import_features(ImportOptions(**given, into=cache))
    (note,) = added(tmp_path, cache)
    pattern = "COCO_val2014_{:012d}.jpg"
    assert f"the captions name '{numbered[0]}', the vectors '0'" in note
    assert note.endswith(f"into another cache, with --name-pattern '{pattern}'")
    for asked in ({"name_pattern": pattern}, {"name_map": tmp_path / "captions.json"}):
        cache = tmp_path / next(iter(asked))
        assert import_features(ImportOptions(**given, **asked, into=cache)).notes == ()
        assert added(tmp_path, cache) == ()


def added(tmp_path: Path, cache: Path) -> tuple[str, ...]:
    """Return the notes of a preprocessing that adds captions to a cache."""
    asked = dict(
        annotations=tmp_path / "captions.json", images=None, captions_only=True, split="train"
    )
    return preprocess(tiny.options(cache, tmp_path, **asked)).notes
