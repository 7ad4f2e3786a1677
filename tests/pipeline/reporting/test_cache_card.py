"""The card that `cache push` writes beside a cache."""

import pytest
import yaml
from support.rows import SPEC, make_cache, put_text

from multispace.data.cache.format.manifest import NAME
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.verify import verify_cache
from multispace.data.remote import store as store_module
from multispace.data.remote.store import Store
from multispace.pipeline.cache_info import cache_info
from multispace.pipeline.cache_transfer import pull_cache, push_cache
from multispace.pipeline.reporting.cache_card import MARK, MAX_CARD, cache_card


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)


@pytest.fixture
def root(tmp_path):
    return make_cache(tmp_path / "secret-place" / "cache").root


def test_a_push_writes_a_card(root, tmp_path):
    pushed = push_cache(root, str(tmp_path / "there"), 2)
    assert pushed.notes == ()
    text = (tmp_path / "there" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["tags"][0] == "image-captioning"
    for value in (SPEC.fingerprint, SPEC.architecture, SPEC.weights_sha256, "global average"):
        assert value in body
    assert "5 feature vectors of images in 3 shards" in body
    assert "| train | 3 | 6 | 19 | 0.00% |" in body
    assert f"multispace cache pull URL cache --digest sha256:{pushed.digest}" in body
    assert "ms.open_cache(" in body
    assert "secret-place" not in text


def test_the_card_is_no_part_of_the_cache(root, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    push_cache(root, str(there), 2)
    assert (there / NAME).read_bytes() == (root / NAME).read_bytes()
    assert verify_cache(there).exit_status == 0
    pull_cache(str(there), back, None, None, 2)
    assert not (back / "README.md").exists()
    assert Cache.open(back).manifest == Cache.open(root).manifest


def test_a_second_push_renews_the_card(root, tmp_path):
    push_cache(root, str(tmp_path / "there"), 2)
    card = tmp_path / "there" / "README.md"
    card.write_text(f"old\n{MARK}\n")
    push_cache(root, str(tmp_path / "there"), 2)
    assert SPEC.fingerprint in card.read_text()


@pytest.mark.parametrize("content", ["mine", "", "x" * (MAX_CARD + 1) + MARK])
def test_a_file_of_that_name_that_is_no_card_stays(root, tmp_path, content):
    card = tmp_path / "there" / "README.md"
    card.parent.mkdir()
    card.write_text(content)
    pushed = push_cache(root, str(tmp_path / "there"), 2)
    assert card.read_text() == content
    assert len(pushed.notes) == 1
    assert "README.md is not a card of `cache push`" in pushed.notes[0]


def test_a_card_reaches_other_stores(root):
    push_cache(root, "memory://lab/cache", 2)
    assert MARK.encode() in Store("memory://lab/cache").read("README.md", MAX_CARD)


def test_names_in_a_cache_are_no_markup(root):
    info = cache_info(root)
    info.splits["<b>|x`"] = info.splits["val"]
    text = cache_card(info, "0" * 64)
    assert r"| &lt;b&gt;\|x\` |" in text


def test_a_cache_without_vectors_has_a_card(tmp_path):
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer)
    text = cache_card(cache_info(tmp_path / "cache"), "0" * 64)
    assert "The cache holds captions only." in text
    assert "0 feature vectors" in text
