from pathlib import Path

import pytest

from multispace.data.image_selection import select_images


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.jpeg", "sub/d.csv",
                 "[x].jpg"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def chosen(folder: Path, *arguments: str) -> list[str]:
    selected = select_images([str(folder / text) for text in arguments])
    assert selected.failures == {}
    assert all(isinstance(path, Path) for path in selected.sources.values())
    return [Path(name).relative_to(folder).as_posix() for name in selected.sources]


def test_a_folder_stands_for_the_images_below_it(folder):
    assert chosen(folder, ".") == ["[x].jpg", "a.PNG", "b.jpg", "sub/c.jpeg"]
    assert chosen(folder, "sub") == ["sub/c.jpeg"]


def test_a_pattern_stands_for_what_fits_it(folder):
    assert chosen(folder, "*.jpg") == ["[x].jpg", "b.jpg"]
    assert chosen(folder, "**/*.jp*g") == ["[x].jpg", "b.jpg", "sub/c.jpeg"]
    assert chosen(folder, "?.*") == ["a.PNG", "b.jpg"]
    assert chosen(folder, "[s]*") == ["sub/c.jpeg"]  # a folder


def test_a_file_is_taken_as_it_is_named(folder):
    assert chosen(folder, "[x].jpg") == ["[x].jpg"]
    assert chosen(folder, "notes.txt", "gone.jpg") == ["notes.txt", "gone.jpg"]


def test_an_image_is_selected_once(folder):
    assert chosen(folder, "b.jpg", "*.jpg", ".").count("b.jpg") == 1


def test_web_addresses_stay_as_they_are():
    url = "https://host/a*.jpg?x=[1]"
    assert select_images([url]).sources == {url: url}


def test_what_names_no_image_has_a_reason(folder):
    arguments = [f"{folder}/*.gif", f"{folder}/empty", "s3://bucket/a.jpg"]
    selected = select_images(arguments)
    assert selected.sources == {}
    assert list(selected.failures) == arguments
    assert list(selected.failures.values()) == [
        "no file fits it", "no image files below this folder",
        "only http:// and https:// addresses are fetched",
    ]  # fmt: skip
