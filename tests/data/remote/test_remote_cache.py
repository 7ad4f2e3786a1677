import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from support.file_server import served
from support.paths import ROOT
from support.rows import CAPTIONS, KEYS, append, put_text, vectors
from support.version_1 import to_version_1

import multispace as ms
from multispace.data.cache.format.listed_file import write_named
from multispace.data.cache.format.manifest import write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.writer import write_cache
from multispace.data.remote import store as store_module
from multispace.data.remote.local_copy import local_copy
from multispace.data.remote.pull import pull
from multispace.data.remote.remote_cache import open_remote
from multispace.errors import CacheError, CaptionsError, DamagedFileError, MissingFeatureError


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Return the folder of local copies."""
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "kept"))
    monkeypatch.delenv("MULTISPACE_CACHE_LIMIT", raising=False)
    return tmp_path / "kept"


@pytest.fixture
def source(tmp_path):
    """Return a cache of five images in three shards, and one image that failed."""
    with write_cache(tmp_path / "source") as writer:
        put_text(writer)
        for start in range(0, len(KEYS), 2):
            append(writer, KEYS[start : start + 2], {"bad.jpg": "empty file"})
    return tmp_path / "source"


@pytest.fixture
def server(source):
    with served(source) as server:
        yield server


def shards(root):
    return [shard.file for shard in read_manifest(root).shards]


def lists(root):
    return [shard.keys.file for shard in read_manifest(root).shards]


def test_only_the_needed_shards_are_requested(server, source):
    cache = ms.open_cache(server.url)
    assert server.counts() == Counter(["cache.json", *lists(source)])
    assert (len(cache), cache.keys, cache.splits) == (5, tuple(KEYS), ("train", "val"))
    server.requests.clear()
    wanted = [KEYS[4], KEYS[1], KEYS[4]]
    np.testing.assert_array_equal(cache.features(wanted, dtype=None), vectors(wanted))
    assert server.counts() == Counter([shards(source)[0], shards(source)[2]])
    server.requests.clear()
    cache.features([KEYS[0]])  # in a shard that is there
    assert not server.requests
    np.testing.assert_array_equal(cache.features(dtype=None), vectors(KEYS))
    assert server.counts() == Counter([shards(source)[1]])


def test_words_and_captions_are_fetched_when_they_are_asked_for(server, source):
    cache, manifest = ms.open_cache(server.url), read_manifest(source)
    server.requests.clear()
    assert cache.captions("val") == {key: list(texts) for key, texts in CAPTIONS["val"].items()}
    assert len(cache.vocabulary()) > 4
    expected = [manifest.captions["val"].file, manifest.vocabulary.file]
    assert server.counts() == Counter(expected)
    server.requests.clear()
    assert len(cache.dataset("val")) == 3
    assert server.counts() == Counter([*shards(source)[1:]])
    with pytest.raises(CaptionsError, match="no captions of split 'test'"):
        cache.captions("test")


def test_a_second_open_asks_only_for_the_manifest(server):
    ms.open_cache(server.url).features(KEYS)
    ms.open_cache(server.url).captions("val")
    server.requests.clear()
    again = ms.open_cache(server.url + "/")
    assert server.requests == [("cache.json", None)]
    np.testing.assert_array_equal(again.features(KEYS, dtype=None), vectors(KEYS))
    assert again.captions("val")
    assert server.requests == [("cache.json", None)]


def test_a_whole_fetch_goes_on_from_the_rows(server, source, kept, tmp_path):
    cache = ms.open_cache(server.url)
    cache.features([KEYS[0]])
    server.requests.clear()
    copy = local_copy(server.url)
    assert copy == cache.folder
    manifest = read_manifest(source)
    text = [entry.file for entry in (manifest.vocabulary, manifest.failures)]
    text += [entry.file for entry in manifest.captions.values()]
    assert server.counts() == Counter(["cache.json", *shards(source)[1:], *text])
    server.requests.clear()
    np.testing.assert_array_equal(ms.open_cache(copy).features(KEYS, dtype=None), vectors(KEYS))
    cache.features(KEYS)
    assert not server.requests  # and rows from the whole copy
    pull(server.url, cache.folder)
    assert server.requests == [("cache.json", None)]


def test_a_flipped_byte_is_refused_by_name(server, source):
    cache, name = ms.open_cache(server.url), shards(source)[1]
    content = bytearray((source / name).read_bytes())
    content[-1] ^= 1
    (source / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"^{server.url}/{name}: digest .*, the manifest "):
        cache.features([KEYS[2]])
    assert not (cache.folder / name).exists()
    cache.features([KEYS[0]])  # the others are still to be had
    content[-1] ^= 1
    (source / name).write_bytes(content)
    np.testing.assert_array_equal(cache.features(KEYS, dtype=None), vectors(KEYS))


def test_a_byte_that_flips_here_is_fetched_again(server, source):
    ms.open_cache(server.url).features(KEYS)
    cache, name = ms.open_cache(server.url), shards(source)[1]
    path = cache.folder / name
    path.write_bytes(bytes(path.stat().st_size))
    server.requests.clear()
    np.testing.assert_array_equal(cache.features(KEYS, dtype=None), vectors(KEYS))
    assert server.counts() == Counter([name])


@pytest.mark.parametrize("which", ["shard", "list"])
def test_a_wrong_size_in_place_of_a_file_is_refused(server, source, which):
    name = shards(source)[0] if which == "shard" else lists(source)[0]
    server.faults[name] = ["longer"]
    with pytest.raises(CacheError, match=f"{name}: sends more than"):
        ms.open_cache(server.url).features(KEYS)


def test_absent_keys_give_the_usual_error_and_fetch_no_shard(server, source):
    cache = ms.open_cache(server.url)
    server.requests.clear()
    with pytest.raises(MissingFeatureError, match="1 images have no vector, .* is nobody.jpg; run"):
        cache.features([KEYS[0], "nobody.jpg"])
    with pytest.raises(MissingFeatureError, match=r"the first is bad.jpg \(empty file\)"):
        cache.features(["bad.jpg"])
    assert server.counts() == Counter([read_manifest(source).failures.file])
    assert cache.features([]).shape == (0, 6)
    with pytest.raises(CacheError, match=r"give a list: features\(\['a.jpg'\]\)"):
        cache.features("a.jpg")


def test_a_dropped_connection_goes_on_where_it_stopped(server, source):
    name = shards(source)[0]
    cache = ms.open_cache(server.url)
    server.faults[name] = ["drop"]
    np.testing.assert_array_equal(cache.features(KEYS[:1], dtype=None), vectors(KEYS[:1]))
    asked = [asked for n, asked in server.requests if n == name]
    assert asked[0] is None
    assert len(asked) == 2


def test_what_fails_once_can_be_asked_for_again(server, source):
    name = shards(source)[0]
    cache = ms.open_cache(server.url)
    server.faults[name] = [404]
    with pytest.raises(CacheError, match=f"{name}: not found"):
        cache.features(KEYS)
    np.testing.assert_array_equal(cache.features(KEYS, dtype=None), vectors(KEYS))


def test_what_is_new_at_the_source_is_seen_by_the_next_open(server, source):
    ms.open_cache(server.url).features(KEYS)
    with write_cache(source) as writer:
        append(writer, ["new.jpg"])
    server.requests.clear()
    cache = ms.open_cache(server.url)
    assert cache.features(["new.jpg"]).shape == (1, 6)
    assert set(server.counts()) == {"cache.json", lists(source)[-1], shards(source)[-1]}


def test_version_1_is_fetched_whole(server, source, capsys):
    to_version_1(source)
    cache = ms.open_cache(server.url)
    np.testing.assert_array_equal(cache.features(KEYS, dtype=None), vectors(KEYS))
    assert (cache.folder / "cache.json").exists()
    assert f"MB, from {server.url} to {cache.folder}" in capsys.readouterr().err


def test_a_folder_and_a_file_url_are_opened_in_place(source, kept):
    for where in (source, str(source), source.as_uri()):
        assert open_remote(where).root == source
    assert not kept.exists()


def test_a_password_is_not_shown(server):
    cache = open_remote(server.url.replace("//", "//me:secret@"))
    assert "secret" not in repr(cache)
    assert "secret" not in str(cache.root)


def test_shards_that_another_process_fetches_are_waited_for(server, source):
    cache = ms.open_cache(server.url)
    with FileLock(cache.folder / ".lock"):
        found = []
        thread = threading.Thread(target=lambda: found.append(cache.features(KEYS)))
        thread.start()
        thread.join(0.3)
        assert not found
        assert set(server.counts()) == {"cache.json", *lists(source)}
    thread.join(30)
    assert found[0].shape == (5, 6)


def test_two_processes_fetch_each_shard_once(server, source):
    code = f"""
import multispace as ms
print(ms.open_cache({server.url!r}).features({KEYS!r}).sum())
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(sums) == 1
    assert {server.counts()[name] for name in shards(source)} == {1}


def test_a_forked_process_fetches_by_itself(server):
    """As the workers of a PyTorch DataLoader do."""
    code = f"""
import multiprocessing
import multispace as ms
cache = ms.open_cache({server.url!r})
cache.features({KEYS[:1]!r})
def read(keys):
    return cache.features(keys)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(*[rows.shape for rows in pool.map(read, {[[key] for key in KEYS]!r})])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.count("(1, 6)")) == (0, 5), done.stderr


def test_the_least_recently_used_shards_make_room(server, source, monkeypatch):
    size = max(shard.bytes for shard in read_manifest(source).shards)
    monkeypatch.setenv("MULTISPACE_CACHE_LIMIT", f"{2 * size / 1e6:.6f}MB")
    cache, names = ms.open_cache(server.url), shards(source)
    cache.features(KEYS[0:1])
    cache.features(KEYS[2:3])
    cache.features(KEYS[0:1])  # used again
    cache.features(KEYS[4:5])
    assert sorted(p.name for p in (cache.folder / "features").glob("*.h5")) == [
        names[0].split("/")[1],
        names[2].split("/")[1],
    ]
    server.requests.clear()
    np.testing.assert_array_equal(cache.features(KEYS[2:3], dtype=None), vectors(KEYS[2:3]))
    assert list(server.counts()) == [names[1]]


def test_processes_that_remove_each_others_shards_read_the_right_vectors(
    server, source, monkeypatch
):
    size = max(shard.bytes for shard in read_manifest(source).shards)
    monkeypatch.setenv("MULTISPACE_CACHE_LIMIT", f"{size / 1e6:.6f}MB")  # one shard
    code = f"""
import random, sys
import numpy as np
import multispace as ms
cache, keys = ms.open_cache({server.url!r}), {KEYS!r}
expected = dict(zip(keys, np.array({vectors(KEYS).tolist()!r}, np.float16)))
choose = random.Random(int(sys.argv[1]))
for _ in range(100):
    key = choose.choice(keys)
    assert (cache.features([key], dtype=None)[0] == expected[key]).all(), key
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(seed)], cwd=ROOT) for seed in range(3)
    ]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    (copy,) = (path.parent for path in Path(os.environ["MULTISPACE_CACHE"]).glob("*/features"))
    assert len(list(copy.glob("features/*.h5"))) == 1


def test_more_than_the_limit_at_once_is_one_line(server, source, monkeypatch):
    cache = ms.open_cache(server.url)
    server.requests.clear()
    monkeypatch.setenv("MULTISPACE_CACHE_LIMIT", "0.004MB")
    with pytest.raises(CacheError, match="3 shards with .* MB are needed, and at most 0.0 MB are "):
        cache.features(KEYS)
    assert not server.requests
    for text in ("12", "many", "-1GB", "1 KB", "1e9GB"):
        monkeypatch.setenv("MULTISPACE_CACHE_LIMIT", text)
        with pytest.raises(CacheError, match=f"^MULTISPACE_CACHE_LIMIT={text}: not a size; for "):
            cache.features(KEYS)


def test_a_shard_that_is_removed_meanwhile_is_fetched_again(server, source):
    cache = ms.open_cache(server.url)
    cache.features(KEYS)  # they are open from here on
    os.remove(cache.folder / shards(source)[1])
    server.requests.clear()
    np.testing.assert_array_equal(cache.features(KEYS, dtype=None), vectors(KEYS))
    assert list(server.counts()) == [shards(source)[1]]


def test_a_key_list_of_another_shard_is_refused(server, source):
    first, *rest = read_manifest(source).shards
    entry = write_named(source, "features/00000", ".txt", b"x.jpg\ny.jpg\n")
    other = replace(first, keys=entry)
    write_manifest(source, replace(read_manifest(source), shards=(other, *rest)))
    cache = ms.open_cache(server.url)
    with pytest.raises(CacheError, match=f"{first.file}: its keys are not those of its key list"):
        cache.features(["x.jpg"])


def test_a_cache_of_captions_only(tmp_path):
    with write_cache(tmp_path / "text") as writer:
        put_text(writer)
    with served(tmp_path / "text") as server:
        cache = ms.open_cache(server.url)
        assert (len(cache), cache.keys) == (0, ())
        with pytest.raises(CacheError, match="holds no features"):
            cache.features(["a.jpg"])
        assert cache.captions("train")


def test_a_plan_says_what_is_missing(server, source, kept):
    planned = []
    ms.open_cache(server.url).features(KEYS[:1])
    copy = local_copy(server.url, announce=planned.append)
    (plan,) = planned
    manifest = read_manifest(source)
    here = {shard.keys.file for shard in manifest.shards} | {manifest.shards[0].file}
    missing = [entry.bytes for entry in manifest.files() if entry.file not in here]
    assert (plan.files, plan.bytes) == (len(missing), sum(missing))
    expected = f"fetching 6 files, 0.0 MB, from {server.url} to {copy}"
    assert plan.render() == expected
    local_copy(server.url, announce=planned.append)
    assert len(planned) == 1
    (copy / manifest.shards[0].file).unlink()
    part = manifest.shards[0]
    (copy / f"features/.partial-{part.sha256}").write_bytes(bytes(100))
    local_copy(server.url, announce=planned.append)
    assert (planned[1].files, planned[1].bytes) == (1, part.bytes - 100)
