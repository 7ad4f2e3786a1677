import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rfc8785
from filelock import FileLock
from support.file_server import served
from support.paths import ROOT
from support.rows import CAPTIONS, KEYS, SPEC, append, assert_whole, make_cache, put_text, vectors
from support.version_1 import to_version_1

from multispace.data.cache.format import listed_file, manifest_reader
from multispace.data.cache.format.listed_file import Entry, write_named
from multispace.data.cache.format.manifest import write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.verify import verify_cache
from multispace.data.remote import store as store_module
from multispace.data.remote.local_copy import local_copy
from multispace.data.remote.pull import pull
from multispace.data.remote.push import push
from multispace.data.remote.store import ATTEMPTS, Store
from multispace.errors import CacheError, DamagedFileError

with tempfile.TemporaryDirectory() as folder:  # the names carry digests, and are always these
    _MANIFEST = make_cache(Path(folder)).manifest
TRAIN, VAL = (_MANIFEST.captions[split].file for split in ("train", "val"))
WORDS = _MANIFEST.vocabulary.file
LISTS = [shard.keys.file for shard in _MANIFEST.shards]
SMALL = [TRAIN, VAL, WORDS, *LISTS]
LIST_1 = "keys-" + hashlib.sha256(("\n".join(KEYS) + "\n").encode()).hexdigest()[:8] + ".txt"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)


@pytest.fixture
def source(tmp_path):
    make_cache(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


def files(root):
    """Return path to bytes of all that a cache is; locks and partial files are not."""
    names = (path for path in root.rglob("*") if path.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in names if p.name != ".lock"}


def shards(root):
    return [shard.file for shard in read_manifest(root).shards]


def sha256(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def rewrite(root, **change):
    """Change the manifest, and make its digest right all the same."""
    body = json.loads((root / "cache.json").read_bytes())
    body.pop("digest")
    body.update(change)
    digest = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    (root / "cache.json").write_bytes(rfc8785.dumps({**body, "digest": digest}))


@pytest.fixture
def server(source):
    with served(source) as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_local_both_ways(source, there, tmp_path, prefix):
    sent = push(source, f"{prefix}{there}")
    assert files(there) == files(source)
    assert sent.sent == tuple(sorted([*SMALL, *shards(source)]))
    assert sent.bytes == sum(len(c) for n, c in files(source).items() if n != "cache.json")
    back = pull(f"{prefix}{there}", tmp_path / "back", digest=sha256(source / "cache.json"))
    assert files(tmp_path / "back") == files(source)
    assert (back.sent, back.bytes, back.whole) == (sent.sent, sent.bytes, True)
    assert back.digest == sent.digest == sha256(source / "cache.json").removeprefix("sha256:")
    assert_whole(tmp_path / "back")


def test_http_sends_each_file_once_and_the_manifest_comes_first(server, source, there):
    done = []

    def watch(total):
        done.append(total)
        return done.append

    pull(server.url, there, watch=watch)
    assert files(there) == files(source)
    assert server.requests[0] == ("cache.json", None)
    assert server.counts() == Counter(list(files(source)))
    counted = [*LISTS, *shards(source)]  # captions and vocabulary come before
    assert sum(done[1:]) == done[0] == sum((source / name).stat().st_size for name in counted)


def test_a_second_pull_fetches_the_manifest_only(server, there):
    pull(server.url, there)
    before = (there / "cache.json").stat()
    server.requests.clear()
    again = pull(server.url, there)
    assert server.requests == [("cache.json", None)]
    assert (again.sent, again.present) == ((), 9)
    assert (there / "cache.json").stat() == before


def test_files_that_are_there_count_as_done(server, source, there):
    pull(server.url, there)
    (there / shards(source)[0]).unlink()
    done = []
    pull(server.url, there, watch=lambda total: done.append(-total) or done.append)
    assert sum(done) == 0
    assert len(done) >= 1 + len([*LISTS, *shards(source)])


def pull_dropping(server, there):
    """Pull while connections drop, the first one once bytes have come; return what was counted."""
    done = []
    server.arrived.clear()

    def count(more):
        done.append(more)
        if more:
            server.arrived.set()

    pull(server.url, there, threads=1, watch=lambda total: done.append(-total) or count)
    return done


def test_a_dropped_connection_goes_on_where_it_stopped(server, source, there):
    name = shards(source)[0]
    server.faults[name] = ["drop"]
    assert sum(pull_dropping(server, there)) == 0
    assert files(there) == files(source)
    assert [asked for n, asked in server.requests if n == name] == [None, "bytes=1000-"]


def test_without_ranges_it_starts_anew(server, source, there):
    name = shards(source)[0]
    server.faults[name], server.ranges = ["drop"], False
    counted = pull_dropping(server, there)
    assert -1000 in counted
    assert sum(counted) == 0
    assert files(there) == files(source)
    assert [asked for n, asked in server.requests if n == name] == [None, "bytes=1000-"]


@pytest.mark.parametrize(("fault", "tries"), [(503, ATTEMPTS), (429, ATTEMPTS), (403, 1), (404, 1)])
def test_what_may_pass_is_tried_a_few_times(server, source, there, fault, tries):
    name = shards(source)[2]
    server.faults[name] = [fault] * 99
    with pytest.raises(CacheError, match=f"^{server.url}/{name}: ") as caught:
        pull(server.url, there)
    assert str(caught.value).isprintable()
    assert (f"tried {tries} times" in str(caught.value)) == (tries > 1)
    # An attempt on a connection that the server is closing does not reach it.
    assert min(tries, 2) <= server.counts()[name] <= tries
    assert not (there / name).exists()
    assert not (there / "cache.json").exists()
    del server.faults[name]
    pull(server.url, there)
    assert files(there) == files(source)


def test_a_connection_that_always_drops_ends(server, source, there):
    server.ranges, name = False, shards(source)[0]
    server.faults[name] = ["drop"] * 99
    with pytest.raises(CacheError, match=f"{name}: .*; tried {ATTEMPTS} times; the same command"):
        pull(server.url, there)


def test_a_server_that_sends_next_to_nothing_is_given_up(server, source, there, monkeypatch):
    monkeypatch.setattr(store_module, "RATE_SECONDS", 0.2)
    name = shards(source)[0]
    server.faults[name] = ["drip"] * 99
    with pytest.raises(CacheError, match=f"{name}: sends only .* bytes a second; tried"):
        pull(server.url, there, threads=1)
    assert server.counts()[name] == ATTEMPTS


@pytest.mark.parametrize("place", ["keys", "vocabulary", "captions"])
def test_a_file_for_memory_has_a_limit_of_the_readers_own(
    server, source, there, place, monkeypatch
):
    """Neither the manifest nor the free space of the disk decides."""
    monkeypatch.setattr(listed_file, "MAX_IN_MEMORY", 1 << 20)
    held = read_manifest(source)
    if place == "captions":
        held = held.with_captions("val", replace(held.captions["val"], bytes=10**9))
    elif place == "keys":
        first, *rest = held.shards
        shorter = replace(first, keys=replace(first.keys, bytes=10**9))
        held = replace(held, shards=(shorter, *rest))
    else:
        held = replace(held, **{place: replace(getattr(held, place), bytes=10**9)})
    write_manifest(source, held)
    with pytest.raises(CacheError, match="1000000000 bytes are listed, at most 1048576 are read"):
        pull(server.url, there, only="val")
    assert list(server.counts()) == ["cache.json"]


def test_a_long_line_of_a_key_list_of_version_1_is_not_read_whole(server, source, there):
    to_version_1(source)
    content = b"a" * 10_000
    digest = hashlib.sha256(content).hexdigest()
    entry = Entry(f"keys-{digest[:8]}.txt", digest, len(content))
    (source / entry.file).write_bytes(content)
    write_manifest(source, replace(read_manifest(source), key_list_1=entry))
    with pytest.raises(CacheError, match="a line of more than 4096 bytes"):
        pull(server.url, there, only="val")
    assert not (there / entry.file).exists()


@pytest.mark.parametrize("place", ["cache.json", TRAIN, "shard"])
def test_pipes_are_refused_at_once(source, there, place):
    path = source / (shards(source)[0] if place == "shard" else place)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match=f"{path}: not a plain file"):
        pull(str(source), there)
    with pytest.raises(CacheError, match=f"{path}: not there as a file"):
        push(source, str(there))


def test_a_partial_file_that_is_a_link_is_not_written_through(source, there, tmp_path):
    entry = read_manifest(source).shards[0]
    (tmp_path / "mine").write_bytes(b"precious")
    (there / "features").mkdir(parents=True)
    (there / "features" / f".partial-{entry.sha256}").symlink_to(tmp_path / "mine")
    pull(str(source), there)
    assert files(there) == files(source)
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_a_missing_shard_is_named(server, source, there):
    name = shards(source)[0]
    (source / name).unlink()
    with pytest.raises(CacheError, match=f"^{server.url}/{name}: not found; check the URL"):
        pull(server.url, there)
    assert not (there / "cache.json").exists()


def test_no_cache_there(server, there):
    with pytest.raises(CacheError, match=f"^{server.url}/no/cache.json: not found"):
        pull(f"{server.url}/no/", there)
    assert not there.exists()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_wrong_bytes_get_no_name(server, source, there, index):
    name = [shards(source)[0], VAL, WORDS][index]
    server.faults[name] = ["lie"]
    with pytest.raises(DamagedFileError, match=f"{name}: digest .*, the manifest says .*; pull"):
        pull(server.url, there)
    assert not (there / name).exists()
    assert not (there / "cache.json").exists()
    pull(server.url, there)
    assert files(there) == files(source)


@pytest.mark.parametrize("fault", ["endless", "longer"])
def test_more_than_listed_is_refused_at_once(server, source, there, fault):
    entry = read_manifest(source).shards[1]
    server.faults[entry.file] = [fault]
    with pytest.raises(CacheError, match=f"{entry.file}: sends more than {entry.bytes} bytes"):
        pull(server.url, there)
    assert server.counts()[entry.file] == 1
    assert not (there / entry.file).exists()
    held = [path.stat().st_size for path in (there / "features").iterdir()]
    assert max(held) <= max(shard.bytes for shard in read_manifest(source).shards)


def test_an_endless_manifest_is_refused(server, there, monkeypatch):
    monkeypatch.setattr(manifest_reader, "MAX_BYTES", 100_000)
    server.faults["cache.json"] = ["endless"]
    with pytest.raises(CacheError, match="cache.json: sends more than 100000 bytes"):
        pull(server.url, there)
    assert not there.exists()


def test_a_local_file_of_another_length_is_refused(source, there):
    name = shards(source)[0]
    with (source / name).open("ab") as file:
        file.write(b"!")
    with pytest.raises(CacheError, match=f"{name}: has .* bytes, over "):
        pull(str(source), there)


def test_more_than_the_disk_holds_is_refused(server, source, there):
    manifest = read_manifest(source)
    big = replace(manifest.shards[0], bytes=1 << 52)
    write_manifest(source, replace(manifest, shards=(big,)))
    needed = big.bytes + big.keys.bytes
    with pytest.raises(CacheError, match=f"{there}: .* bytes are free, .* needs {needed}; free"):
        pull(server.url, there)
    assert big.file not in server.counts()


def test_the_digest_is_checked_before_all_else(server, source, there):
    right, wrong = sha256(source / "cache.json"), "sha256:" + "0" * 64
    with pytest.raises(CacheError, match=f"its digest is {right}, expected {wrong}"):
        pull(server.url, there, digest=wrong)
    assert server.requests == [("cache.json", None)]
    assert not there.exists()
    with pytest.raises(CacheError, match="expected sha256: and 64 hexadecimal digits"):
        pull(server.url, there, digest=right.replace("sha256:", "md5:"))
    pull(server.url, there, digest=right)


def test_pull_accepts_the_digest_that_push_gives(source, tmp_path, there):
    sent = push(source, f"file://{tmp_path / 'store'}").to_json()
    assert pull(f"file://{tmp_path / 'store'}", there, digest=sent["digest"]).sent


@pytest.mark.parametrize(
    "file", ["../../evil.h5", "/tmp/evil.h5", "features/../../evil.h5", "http://elsewhere/a.h5"]
)
def test_a_path_out_of_the_cache_is_refused(server, source, there, file):
    first, *rest = json.loads((source / "cache.json").read_bytes())["shards"]
    rewrite(source, shards=[{**first, "file": file}, *rest])
    with pytest.raises(CacheError, match="is not where a cache keeps such a file; ask its owner"):
        pull(server.url, there)
    assert server.requests == [("cache.json", None)]
    assert not there.exists()


def test_after_a_kill_only_the_rest_is_fetched(server, source, there):
    name, other = shards(source)[1:]
    code = f"""
import os
from pathlib import Path
from multispace.data.remote import downloads as fetch
from multispace.data.remote import pull as transfer
whole = fetch._append
def append(store, entry, partial, progress):
    if entry.file == {name!r}:
        partial.write_bytes(Path({str(source)!r}, entry.file).read_bytes()[:700])
        os._exit(9)
    whole(store, entry, partial, progress)
fetch._append = append
transfer.pull({server.url!r}, Path({str(there)!r}), threads=1)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert not (there / "cache.json").exists()
    assert not (there / name).exists()
    server.requests.clear()
    pull(server.url, there, threads=1)
    rest = [("cache.json", None), (name, "bytes=700-"), (other, None)]
    rest += [(name, None) for name in LISTS]
    assert server.requests == rest
    assert files(there) == files(source)


@pytest.mark.parametrize("length", [500, None, 10**5])
def test_a_partial_file_of_other_bytes_is_no_hindrance(server, source, there, length):
    entry = read_manifest(source).shards[0]
    (there / "features").mkdir(parents=True)
    (there / f"features/.partial-{entry.sha256}").write_bytes(bytes(length or entry.bytes))
    done = []
    pull(server.url, there, watch=lambda total: done.append(-total) or done.append)
    assert files(there) == files(source)
    assert sum(done) == 0


def test_a_damaged_file_is_fetched_again(server, source, there):
    pull(server.url, there)
    for name in (shards(source)[0], TRAIN):
        (there / name).write_bytes(bytes((there / name).stat().st_size))
    server.requests.clear()
    pull(server.url, there)
    assert set(server.counts()) == {"cache.json", shards(source)[0], TRAIN}
    assert files(there) == files(source)


def test_what_is_new_at_the_source_is_added(server, source, there):
    pull(server.url, there)
    with write_cache(source) as writer:
        append(writer, ["new.jpg"])
    server.requests.clear()
    pull(server.url, there)
    new = read_manifest(source).shards[-1]
    assert set(server.counts()) == {"cache.json", new.keys.file, new.file}
    assert files(there) == files(source)


def test_another_cache_is_not_mixed_in(server, source, there):
    other = replace(SPEC, pooling="max")
    with write_cache(there) as writer:
        append(writer, ["x.jpg"], spec=other)
    before = files(there)
    with pytest.raises(CacheError, match="pooling: 'max' and 'global average'") as caught:
        pull(server.url, there)
    assert other.fingerprint in str(caught.value)
    assert SPEC.fingerprint in str(caught.value)
    assert files(there) == before
    with pytest.raises(CacheError, match="pooling") as caught:
        push(source, str(there))
    assert files(there) == before


def test_what_the_other_side_lacks_is_not_lost(server, source, there):
    with write_cache(there) as writer:
        append(writer, ["x.jpg"])
    with pytest.raises(CacheError, match=f"{shards(there)[0]}, which {server.url} does not list"):
        pull(server.url, there)
    with pytest.raises(CacheError, match=f"{shards(there)[0]}, which {source} does not list"):
        push(source, str(there))
    (there / "cache.json").unlink()
    with write_cache(there) as writer:
        put_text(writer, {"other": {"x.jpg": ("words",)}})
    (there / shards(there)[0]).unlink()
    write_manifest(there, replace(read_manifest(there), shards=()))
    with pytest.raises(CacheError, match="its vocabulary is not that of"):
        pull(server.url, there)
    with pytest.raises(CacheError, match="holds captions of 'other'"):
        push(source, str(there))


def test_both_versions_are_pushed_and_pulled(source, there, tmp_path):
    to_version_1(source)
    sent = push(source, str(there))
    assert files(there) == files(source)
    assert len(sent.sent) == 7
    back = pull(str(there), tmp_path / "back")
    assert back.whole
    assert files(tmp_path / "back") == files(source)
    with write_cache(source) as writer:  # converts it
        append(writer, ["new.jpg"], {"bad.jpg": "empty file"})
    assert read_manifest(source).version == 2
    push(source, str(there))
    assert read_manifest(there).version == 2
    assert verify_cache(there).faults == ()
    with pytest.raises(CacheError, match="in version 2 of the format, .* in version 1; pull that"):
        push(tmp_path / "back", str(there))
    pull(str(there), tmp_path / "back")
    assert files(tmp_path / "back") == files(source)
    assert_whole(tmp_path / "back", [*KEYS, "new.jpg"])


@pytest.mark.parametrize("there_first", [True, False])
def test_a_part_of_one_version_is_completed_from_the_other(source, there, tmp_path, there_first):
    shutil.copytree(source, tmp_path / "old")
    old = to_version_1(tmp_path / "old")
    # The same shards: version 2 lists those of version 1 as they are.
    shutil.copytree(old, tmp_path / "new")
    with write_cache(tmp_path / "new") as writer:
        writer.save()
    first, second = (old, tmp_path / "new") if there_first else (tmp_path / "new", old)
    pull(str(first), there, only="val")
    pull(str(second), there)
    assert read_manifest(there).version == 2
    assert verify_cache(there).faults == ()
    assert files(there) == files(tmp_path / "new")


def test_one_writer_at_a_time(server, there):
    there.mkdir()
    with FileLock(there / ".lock", timeout=0), pytest.raises(CacheError, match="another process"):
        pull(server.url, there)


def test_only_a_split(server, source, there):
    val = pull(server.url, there, only="val")
    assert val.sent == tuple(sorted([VAL, *shards(source)[1:], WORDS]))
    assert not val.whole
    assert set(server.counts()) == {"cache.json", *LISTS, *val.sent}
    assert {path.name for path in there.glob("features/*.txt")} == {
        Path(name).name for name in LISTS[1:]
    }
    cache = Cache.open(there)
    assert list(cache.manifest.captions) == ["val"]
    assert shards(there) == shards(source)[1:]
    assert val.digest == sha256(source / "cache.json").removeprefix("sha256:")
    cache.features(list(CAPTIONS["val"]))
    server.requests.clear()
    train = pull(server.url, there, only="train")
    assert train.sent == (TRAIN, shards(source)[0])  # now all of it is there
    assert train.whole
    assert files(there) == files(source)


def test_part_of_a_cache_is_not_pushed_over_the_whole(source, there):
    pull(str(source), there, only="val")
    before = files(source)
    with pytest.raises(CacheError, match="does not list; pull that first, or push to another URL"):
        push(there, str(source))
    assert files(source) == before


def test_only_some_keys(server, source, there, tmp_path):
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"{KEYS[4]}\n{KEYS[1]}\n", encoding="utf-8")
    done = pull(server.url, there, only=str(wanted))
    assert done.sent == (shards(source)[0], shards(source)[2], WORDS)
    assert len(list(there.glob("features/*.txt"))) == 2
    cache = Cache.open(there)
    assert not cache.manifest.captions
    np.testing.assert_array_equal(cache.features(KEYS[1:2]), vectors(KEYS[1:2]))
    wanted.write_text("nobody.jpg\n")
    with pytest.raises(CacheError, match="has a vector of none of the 1 images wanted"):
        pull(server.url, tmp_path / "none", only=str(wanted))
    wanted.write_bytes(b"\xff\n")
    with pytest.raises(CacheError, match="wanted.txt: not UTF-8 .*; write one key a line"):
        pull(server.url, tmp_path / "none", only=str(wanted))


def test_only_needs_a_split_and_a_key_list(server, source, there):
    with pytest.raises(CacheError, match="no captions of split 'test', .* are: train, val"):
        pull(server.url, there, only="test")
    server.faults[LISTS[0]] = ["lie"]
    with pytest.raises(DamagedFileError, match=f"{LISTS[0]}: digest .*, the manifest says"):
        pull(server.url, there, only="val")
    first, *rest = read_manifest(source).shards
    entry = write_named(source, "features/00000", ".txt", b"a.jpg\n")
    shorter = replace(first, keys=entry)
    write_manifest(source, replace(read_manifest(source), shards=(shorter, *rest)))
    with pytest.raises(CacheError, match=f"{entry.file}: 1 keys, the shard has 2 rows"):
        pull(server.url, there, only="val")
    assert not list(there.glob("features/*.txt"))


def test_only_a_split_of_version_1(server, source, there):
    to_version_1(source)
    names = ("captions/train.h5", "captions/val.h5", "vocabulary.json")
    assert files(source)[LIST_1].decode().split() == KEYS
    val = pull(server.url, there, only="val")
    assert val.sent == (names[1], *shards(source)[1:], names[2])
    assert set(server.counts()) == {"cache.json", LIST_1, *val.sent}
    assert not (there / LIST_1).exists()
    assert read_manifest(there).key_list_1 is None
    Cache.open(there).features(list(CAPTIONS["val"]))
    train = pull(server.url, there, only="train")
    assert train.sent == (names[0], shards(source)[0], LIST_1)  # now all of it is there
    assert train.whole
    assert files(there) == files(source)


def test_only_needs_a_key_list_in_version_1(server, source, there):
    to_version_1(source)
    server.faults[LIST_1] = ["lie"]
    with pytest.raises(DamagedFileError, match=f"{LIST_1}: digest .*, the manifest says"):
        pull(server.url, there, only="val")
    manifest = read_manifest(source)
    short = b"a.jpg\n"
    digest = hashlib.sha256(short).hexdigest()
    entry = Entry(f"keys-{digest[:8]}.txt", digest, len(short))
    (source / entry.file).write_bytes(short)
    write_manifest(source, replace(manifest, key_list_1=entry))
    with pytest.raises(CacheError, match=r"txt: 1 keys, 5 vectors"):
        pull(server.url, there, only="val")
    write_manifest(source, replace(manifest, key_list_1=None))
    with pytest.raises(CacheError, match="lists no keys, .* pull the whole cache"):
        pull(server.url, there, only="val")


@pytest.mark.parametrize("keys", [None, {"file": "features/keys.txt", "sha256": "0", "bytes": 1}])
def test_a_key_list_elsewhere_is_refused(server, source, there, keys):
    first, *rest = json.loads((source / "cache.json").read_bytes())["shards"]
    rewrite(source, shards=[{**first, "keys": keys}, *rest])
    with pytest.raises(CacheError, match=r"cache.json: shards\[0\].keys: "):
        pull(server.url, there)


def test_the_manifest_is_pushed_last(source, there, monkeypatch):
    order = []
    put, write = Store.put, Store.write
    monkeypatch.setattr(Store, "put", lambda s, p, n: put(s, p, n) or order.append(n))
    monkeypatch.setattr(Store, "write", lambda s, n, c: write(s, n, c) or order.append(n))
    push(source, str(there))
    assert sorted(order[:-1]) == sorted([*SMALL, *shards(source)])
    assert order[-1] == "cache.json"


def test_a_push_sends_shards_that_are_missing_or_cut(source, there):
    push(source, str(there))
    (there / shards(source)[0]).unlink()
    (there / shards(source)[1]).write_bytes(b"cut")
    again = push(source, str(there))
    assert again.sent == tuple(shards(source)[:2])
    assert again.present == 7
    assert files(there) == files(source)


def test_a_damaged_cache_is_not_pushed(source, there):
    name = shards(source)[0]
    (source / name).write_bytes(bytes((source / name).stat().st_size))
    with pytest.raises(DamagedFileError, match=name):
        push(source, str(there))
    assert not (there / "cache.json").exists()
    assert not (there / name).exists()


def test_http_takes_no_push(server, source):
    with pytest.raises(CacheError, match=f"^{server.url}: HTTP is for pulling only; push to"):
        push(source, server.url)
    assert not server.requests


def test_what_is_not_installed_is_named(there, monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(CacheError, match="^abfs://a/b: needs adlfs; `pip install adlfs`$"):
        pull("abfs://a/b", there)
    with pytest.raises(CacheError, match="^nonsense://a/b: "):
        pull("nonsense://a/b", there)


def test_passwords_are_not_shown(server, there):
    with pytest.raises(CacheError, match="not found") as caught:
        pull(server.url.replace("//", "//me:secret@") + "/no", there)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["se@cret", "secret@", "a:secret", "#secret?"])
def test_no_part_of_a_password_is_shown(there, password):
    with pytest.raises(CacheError) as caught:
        pull(f"http://me:{password}@127.0.0.1:1/no", there)
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)


def test_without_a_home_directory_the_folder_is_asked_for(server, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "MULTISPACE_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(CacheError, match="no home directory .*; set MULTISPACE_CACHE to a folder"):
        local_copy(server.url)
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "own"))
    assert local_copy(server.url).parent == tmp_path / "own"


def test_a_local_copy_of_a_url(server, source, tmp_path, monkeypatch):
    assert local_copy(str(source)) == local_copy(source) == source
    assert local_copy(f"file://{source}") == source
    copy = local_copy(server.url, tmp_path / "kept")
    assert copy.parent == tmp_path / "kept"
    assert copy.name.startswith(f"127.0.0.1-{server.server_port}-cache-")
    assert files(copy) == files(source)
    server.requests.clear()
    assert local_copy(server.url + "/", tmp_path / "kept") == copy
    assert server.requests == [("cache.json", None)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MULTISPACE_CACHE", raising=False)
    assert local_copy(server.url) == tmp_path / "xdg/multispace" / copy.name
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "own"))
    assert local_copy(server.url) == tmp_path / "own" / copy.name


def test_a_relative_path(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    push(source, "there")
    pull("there", Path("back"))
    assert files(tmp_path / "back") == files(source)
