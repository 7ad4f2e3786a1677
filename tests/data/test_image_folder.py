import unicodedata

import pytest

from multispace.data.image_folder import locate_images


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_files_with_the_names_of_the_keys_are_found(tmp_path):
    located = locate_images(write(tmp_path, "a.jpg", "sub/b.jpg"), ["a.jpg", "sub/b.jpg"])
    assert located.files == {"a.jpg": tmp_path / "a.jpg", "sub/b.jpg": tmp_path / "sub/b.jpg"}
    assert (located.missing, located.reasons) == ((), ())


@pytest.mark.parametrize(
    ("names", "keys", "reason"),
    [
        (["1.jpg", "2.jpg"], ["val2014/1.jpg", "val2014/2.jpg"],
         "2 are there in another folder: 'val2014/1.jpg' is '1.jpg'"),
        (["val/1.jpg"], ["1.jpg"], "1 are there in another folder: '1.jpg' is 'val/1.jpg'"),
        (["1.JPG"], ["1.jpg"], "1 are there in upper or lower case: '1.jpg' is '1.JPG'"),
        ([unicodedata.normalize("NFD", "caf\xe9.jpg")], ["caf\xe9.jpg"],
         "1 are there in another Unicode form: 'caf\xe9.jpg' is 'cafe\u0301.jpg'"),
    ],
)  # fmt: skip
def test_why_files_are_missing_is_said_and_match_names_finds_them(tmp_path, names, keys, reason):
    write(tmp_path, *names)
    located = locate_images(tmp_path, keys)
    assert (located.missing, located.reasons) == (tuple(keys), (reason,))
    assert located.files == {key: tmp_path / key for key in keys}
    matched = locate_images(tmp_path, keys, match_names=True)
    assert matched.files == {k: tmp_path / n for k, n in zip(keys, names, strict=True)}
    assert (matched.missing, matched.reasons) == ((), ())


def test_another_folder_is_shown_by_an_example_of_each_side(tmp_path):
    reasons = locate_images(write(tmp_path, "cat.png"), ["1.jpg", "2.jpg"]).reasons
    assert reasons == ("expected names such as '1.jpg', the folder has 'cat.png'",)
    (tmp_path / "empty").mkdir()
    reasons = locate_images(tmp_path / "empty", ["1.jpg"]).reasons
    assert reasons == ("expected names such as '1.jpg', the folder has no file",)


def test_a_name_that_two_files_have_is_not_guessed(tmp_path):
    located = locate_images(
        write(tmp_path, "a/1.jpg", "b/1.jpg", "c/2.jpg"), ["1.jpg", "2.jpg"], match_names=True
    )
    assert located.files == {"1.jpg": tmp_path / "1.jpg", "2.jpg": tmp_path / "c/2.jpg"}
    assert located.missing == ("1.jpg",)
