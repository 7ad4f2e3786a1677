import hashlib
from pathlib import Path

import numpy as np
import pytest
from support.rows import KEYS, assert_whole, make_cache, shard_files, vectors
from support.tiny import options

from multispace import open_cache
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.reader import Cache
from multispace.data.maintenance.merge import merge_caches
from multispace.data.maintenance.verify import verify_cache
from multispace.data.remote import store as store_module
from multispace.data.remote.pull import pull
from multispace.data.remote.push import push
from multispace.errors import CacheError, DamagedFileError
from multispace.pipeline.preprocess import preprocess

pytest.importorskip("s3fs", reason="needs s3fs: pip install '.[s3]'")
moto_server = pytest.importorskip("moto.server", reason="needs moto[server]: pip install '.[test]'")


@pytest.fixture(scope="module")
def endpoint():
    """A stand-in for S3 on the loopback interface."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    """An empty bucket, and the settings that lead every client to it."""
    import s3fs

    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none")),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    name = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    fs.mkdir(name)
    yield fs, name
    s3fs.S3FileSystem.clear_instance_cache()


def contents(root):
    names = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in names}


def test_there_and_back(bucket, tmp_path):
    fs, name = bucket
    source, back = tmp_path / "source", tmp_path / "back"
    make_cache(source)
    sent = push(source, f"s3://{name}/lab/cache")
    stored = fs.find(f"{name}/lab/cache")
    assert {p.removeprefix(f"{name}/lab/cache/"): fs.cat_file(p) for p in stored} == contents(
        source
    )
    again = push(source, f"s3://{name}/lab/cache")
    assert again.sent == ()
    assert (again.present, again.digest) == (9, sent.digest)
    pull(f"s3://{name}/lab/cache", back, digest=f"sha256:{sent.digest}")
    assert contents(back) == contents(source)
    assert_whole(back)


def test_a_pull_goes_on_where_it_stopped(bucket, tmp_path):
    _, name = bucket
    source, back = tmp_path / "source", tmp_path / "back"
    make_cache(source)
    push(source, f"s3://{name}/cache")
    shard = read_manifest(source).shards[0]
    (back / "features").mkdir(parents=True)
    part = (source / shard.file).read_bytes()[:1500]
    (back / f"features/.partial-{shard.sha256}").write_bytes(part)
    counted = []
    pull(f"s3://{name}/cache", back, threads=1, watch=lambda total: counted.append)
    assert counted[:2] == [1500, shard.bytes - 1500]
    assert contents(back) == contents(source)


def test_rows_are_fetched_without_the_whole(bucket, tmp_path, monkeypatch):
    fs, name = bucket
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "kept"))
    make_cache(tmp_path / "source")
    push(tmp_path / "source", f"s3://{name}/cache")
    cache = open_cache(f"s3://{name}/cache")
    np.testing.assert_array_equal(cache.features(KEYS[2:3], dtype=None), vectors(KEYS[2:3]))
    shards = read_manifest(tmp_path / "source").shards
    assert shard_files(cache.folder) == [Path(shards[1].file).name]
    damaged = bytearray(fs.cat_file(f"{name}/cache/{shards[0].file}"))
    damaged[7] ^= 1
    fs.pipe_file(f"{name}/cache/{shards[0].file}", bytes(damaged))
    with pytest.raises(DamagedFileError, match=f"^s3://{name}/cache/{shards[0].file}: digest"):
        cache.features(KEYS)
    pull(str(tmp_path / "source"), cache.folder)  # a whole copy is made of what is there
    assert_whole(cache.folder)


def test_parts_of_several_machines_meet_at_a_url(bucket, tiny_collection, tmp_path):
    _, name = bucket
    for split in ("train", "val"):
        preprocess(options(tmp_path / "one", tiny_collection, split))
        for part in (1, 2):
            there = tmp_path / f"machine{part}"
            preprocess(options(there, tiny_collection, split, part=f"{part}/2"))
    for part in (1, 2):
        push(tmp_path / f"machine{part}", f"s3://{name}/parts/{part}")
    pulled = [tmp_path / "part1", tmp_path / "part2"]
    for part, folder in enumerate(pulled, start=1):
        pull(f"s3://{name}/parts/{part}", folder)
    merged = merge_caches(pulled, tmp_path / "whole")
    assert (merged.rows, merged.splits, merged.left_out) == (16, ("train", "val"), ())
    assert verify_cache(tmp_path / "whole").faults == ()
    whole, one = Cache.open(tmp_path / "whole"), Cache.open(tmp_path / "one")
    assert whole.manifest.captions == one.manifest.captions
    assert whole.manifest.vocabulary == one.manifest.vocabulary
    keys = list(one.rows)
    assert sorted(whole.rows) == sorted(keys)
    np.testing.assert_allclose(whole.features(keys), one.features(keys), rtol=1e-3, atol=1e-4)


def test_what_is_not_there_or_too_long_is_named(bucket, tmp_path):
    fs, name = bucket
    make_cache(tmp_path / "source")
    with pytest.raises(CacheError, match=f"^s3://{name}/cache/cache.json: not found"):
        pull(f"s3://{name}/cache", tmp_path / "back")
    with pytest.raises(CacheError, match="^s3://no-such-bucket/"):
        push(tmp_path / "source", "s3://no-such-bucket/cache")
    push(tmp_path / "source", f"s3://{name}/cache")
    first = read_manifest(tmp_path / "source").shards[0]
    fs.pipe_file(f"{name}/cache/{first.file}", bytes(first.bytes + 1))
    with pytest.raises(CacheError, match=f"{first.file}: has {first.bytes + 1} bytes, over"):
        pull(f"s3://{name}/cache", tmp_path / "back", threads=1)
    fs.pipe_file(f"{name}/cache/{first.file}", bytes(first.bytes))
    with pytest.raises(CacheError, match=f"{first.file}: digest"):
        pull(f"s3://{name}/cache", tmp_path / "back", threads=1)
    assert not (tmp_path / "back" / first.file).exists()
    assert not (tmp_path / "back/cache.json").exists()
    fs.rm_file(f"{name}/cache/{first.file}")
    with pytest.raises(CacheError, match=f"{first.file}: not found"):
        pull(f"s3://{name}/cache", tmp_path / "back", threads=1)


def test_no_credentials_is_one_line(bucket, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(bucket[0]).clear_instance_cache()
    with pytest.raises(CacheError, match="cache.json: ") as caught:
        pull(f"s3://{bucket[1]}/cache", tmp_path / "back")
    assert str(caught.value).isprintable()
