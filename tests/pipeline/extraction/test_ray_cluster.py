"""Extraction on a cluster of several nodes on this machine, each a Ray node of its own."""

import fcntl
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.paths import ROOT
from support.tiny import make_collection
from support.tiny import options as tiny_options

import multispace.data.cache.writer
import multispace.pipeline.extraction.backbone_spec
from multispace.cli import main
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.errors import OptionError, PipelineError
from multispace.model.backbone.resnet import load_backbone
from multispace.pipeline.extraction.backbone_spec import spec_of
from multispace.pipeline.extraction.extract import extract
from multispace.pipeline.preprocess import preprocess

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from multispace.pipeline.extraction.ray_cluster import AHEAD, _check_failures, connect  # noqa: E402

SIZE = 2  # images a shard: six shards
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
QUICK_DEATHS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def nodes():
    """Three nodes of one core; the workers find this package as an installed one would be."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests/support/slow_reads'}")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "_system_config": QUICK_DEATHS}
        )
        try:
            for _ in range(2):
                cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("pictures") / "collection")


@pytest.fixture(scope="module")
def local(collection, tmp_path_factory):
    """A cache made without the cluster."""
    cache = tmp_path_factory.mktemp("local") / "cache"
    preprocess(options(cache, collection, shard_size=SIZE))
    return cache


def options(*arguments, **other):
    """Return quick options that a node of one core can serve."""
    return tiny_options(*arguments, **{"workers": None, **other})


def content(cache):
    files = (path for path in cache.rglob("*") if path.is_file())
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def backbone(weights="random:3"):
    return load_backbone("resnet18", weights, device=torch.device("cpu"), resize=32, crop=32)


def images(collection, count):
    return {f"train-{n:03d}.png": collection / f"images/train-{n:03d}.png"
            for n in range(1, count + 1)}  # fmt: skip


def test_the_result_is_byte_for_byte_that_of_a_local_run(nodes, collection, tmp_path):
    shutil.copytree(collection, tmp_path / "c")
    (tmp_path / "c/images/train-004.png").write_bytes(b"no image")
    (tmp_path / "c/images/train-007.png").unlink()
    for cache, where in ((tmp_path / "here", None), (tmp_path / "there", nodes.address)):
        preprocess(options(cache, tmp_path / "c", shard_size=3, ray=where))
    made = content(tmp_path / "there")
    assert made == content(tmp_path / "here")
    assert sum(name.endswith(".h5") and "features" in name for name in made) == 4
    assert sorted(Cache.open(tmp_path / "there").failures) == ["train-004.png", "train-007.png"]
    assert not ray.is_initialized()


def test_a_node_lost_midway_costs_only_its_shards_in_hand(nodes, collection, local, tmp_path):
    """The worker of each node is stopped while it reads an image (``support.slow_reads``)."""
    shutil.copytree(collection, tmp_path / "c")
    images = [tmp_path / f"c/images/train-{n:03d}.png" for n in (1, 3, 5)]
    for path in images:
        Path(f"{path}.wait").touch()
    lost = []

    def kill_one():
        readers = [Path(f"{path}.reader") for path in images]
        while not all(reader.exists() and reader.stat().st_size for reader in readers):
            time.sleep(0.02)
        nodes.remove_node(max(nodes.worker_nodes, key=id), allow_graceful=False)
        until = time.monotonic() + 30
        while not lost and time.monotonic() < until:
            lost.extend(reader for reader in readers if is_free(reader))
            time.sleep(0.02)
        for path in images:
            Path(f"{path}.wait").unlink()

    killer = Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        preprocess(options(tmp_path / "cache", tmp_path / "c", shard_size=SIZE, ray=nodes.address))
    finally:
        nodes.add_node(**NODE)
    killer.join()
    assert len(lost) == 1
    assert content(tmp_path / "cache") == content(local)


def is_free(file):
    """Return whether the process that held the lock on a file has died."""
    with file.open("r+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_the_command_says_little_and_stays_on_the_terminal_side(nodes, collection, tmp_path):
    command = [sys.executable, "cli.py", "preprocess", "--annotations", collection / "train.json",
               "--images", collection / "images", "--cache", tmp_path / "cache", "--backbone",
               "resnet18", "--weights", "random", "--resize", "32", "--crop", "32", "--min-count",
               "1", "--ray", nodes.address]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # A slow machine prints its progress; Ray itself must print nothing.
    assert all(line.startswith("features: ") for line in done.stderr.splitlines())
    assert "vectors: 12 in the cache, 12 of them new" in done.stdout


def test_addresses_that_lead_nowhere(collection, tmp_path):
    with socket.socket() as free:  # bound and not listening: nobody answers
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(PipelineError, match=f"--ray 127.0.0.1:{port}: Connection refused"):
            preprocess(options(tmp_path, collection, ray=f"127.0.0.1:{port}"))
    assert not (tmp_path / "cache.json").exists()
    for wrong in ("here", "ray://here:1", "here:port", ":1"):
        with pytest.raises(OptionError, match=f"--ray {wrong}: .*give auto, or HOST:PORT"):
            preprocess(options(tmp_path, collection, ray=wrong))


@pytest.fixture(scope="module")
def connected(nodes):
    """A connection of this process's own; from here on, as workers are slow to start."""
    ray.init(nodes.address, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_connection_that_was_there_stays(connected):
    with connect("auto"):
        pass
    assert ray.is_initialized()


def test_an_interrupted_run_is_finished_by_the_same_command(
    connected, collection, local, tmp_path, monkeypatch
):
    real, written = multispace.data.cache.writer.write_shard, []

    def stops(*arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        return real(*arguments)

    asked = options(tmp_path, collection, shard_size=SIZE, ray="auto")
    with monkeypatch.context() as patch:
        patch.setattr(multispace.data.cache.writer, "write_shard", stops)
        with pytest.raises(KeyboardInterrupt):
            preprocess(asked)
    assert len(Cache.open(tmp_path).manifest.shards) == 2
    assert preprocess(asked).added == 12 - 2 * SIZE
    assert content(tmp_path) == content(local)


def test_few_shards_are_out_at_a_time(connected, collection, tmp_path, monkeypatch):
    real, out = ray.remote, []

    class Counted:
        def __init__(self, task):
            self.task = task

        def remote(self, *arguments):
            out.append(out[-1] + 1 if out else 1)
            return self.task.remote(*arguments)

    monkeypatch.setattr(ray, "remote", lambda **how: lambda task: Counted(real(**how)(task)))
    parts = [[pair] for pair in images(collection, 12).items()]
    stored = []

    def store(rows):
        stored.extend(rows.keys)
        out.append(out[-1] - 1)

    made = backbone()
    with connect("auto") as cluster:
        cluster.extract(parts, made, spec_of(made, "float16"), store)
    assert stored == list(images(collection, 12))
    assert max(out) <= AHEAD * 3
    assert out[-1] == 0


def _versions(collection, tmp_path, monkeypatch):
    real = multispace.pipeline.extraction.backbone_spec.metadata.version
    monkeypatch.setattr(
        multispace.pipeline.extraction.backbone_spec.metadata,
        "version",
        lambda n: "9.9" if n == "pillow" else real(n),
    )
    return backbone(), images(collection, 4)


def _weights(collection, tmp_path, monkeypatch):
    made = backbone("random:1")
    return replace(made, weights="random:2"), images(collection, 4)


def _device(collection, tmp_path, monkeypatch):
    return replace(backbone(), device=torch.device("mps")), images(collection, 4)


def _gpu(collection, tmp_path, monkeypatch):
    return replace(backbone(), device=torch.device("cuda:0")), images(collection, 4)


def _images(collection, tmp_path, monkeypatch):
    """Images at paths that lead to them in this process only."""
    monkeypatch.chdir(collection)
    return backbone(), {f"train-{n:03d}.png": Path(f"/proc/self/cwd/images/train-{n:03d}.png")
                        for n in (1, 2)}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (_versions, r"node [\d.]+ \(\w{8}\): extracts other features: pillow: 9\.9 and "),
        (_weights, r"node .*weights_sha256: \w{64} and \w{64} \(driver and node\)"),
        (_device, r"node .*: --device mps: not usable here"),
        (_gpu, "no node of the cluster has 1 CPU and 1 GPU"),
        (
            _images,
            r"node .*train-001\.png: no such file; it can be read here; the images must be at",
        ),
    ],
)
def test_a_worker_that_would_make_other_rows_is_refused(
    connected, collection, tmp_path, monkeypatch, case, message
):
    made, wanted = case(collection, tmp_path, monkeypatch)
    with (
        connect("auto") as cluster,
        write_cache(tmp_path) as writer,
        pytest.raises(PipelineError, match=message) as caught,
    ):
        extract(writer, wanted, made, shard_size=SIZE, remote=cluster.extract)
    assert "\n" not in str(caught.value)
    assert not writer.digests
    assert not writer.failures


@pytest.mark.parametrize("reason", ["Permission denied", "HEIC image", "Not a directory"])
def test_a_failure_of_a_node_is_kept_only_if_the_image_cannot_be_read_here(tmp_path, reason):
    """A node may lack a right or a library, too."""
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (4, 4)).save(good)
    bad.write_bytes(b"no image")
    shard = [("good.png", good), ("bad.png", bad), ("gone.png", tmp_path / "gone.png")]
    _check_failures("node 1", shard, {"bad.png": reason, "gone.png": reason})
    with pytest.raises(PipelineError, match=rf"node 1: {good}: {reason}; it can be read here"):
        _check_failures("node 1", shard, {"good.png": reason})


def test_a_task_that_fits_on_no_node_is_refused(connected, collection, tmp_path):
    with pytest.raises(PipelineError, match="no node of the cluster has 2 CPU; add one"):
        preprocess(options(tmp_path, collection, ray="auto", workers=2))


def test_without_ray_the_extra_is_named(collection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "multispace.pipeline.extraction.ray_cluster")
    result = CliRunner().invoke(
        main, ["preprocess", "--annotations", str(collection / "train.json"), "--images",
               str(collection / "images"), "--cache", str(tmp_path), "--ray", "auto"]
    )  # fmt: skip
    assert result.exit_code == 2
    hint = "error: --ray: needs Ray; run `pip install 'multispace-captioning[ray]'`\n"
    assert result.stderr == hint


def test_captions_need_no_cluster(collection, tmp_path):
    with pytest.raises(OptionError, match="--ray auto: has no effect with --captions-only"):
        options(tmp_path, collection, images=None, captions_only=True, ray="auto")
