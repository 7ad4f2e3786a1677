"""Extraction on a Ray cluster: one task per shard, while only the driver writes.

Every node needs this package, and must see the images (and a weights file) at the driver's paths.
A task returns features and writes nothing, so that a shard whose worker or node dies is extracted
again on another node. Features equal those of a local run bit for bit if the processors and
libraries are the same: neither the batch (see ``workers``) nor the number of threads matters.
"""

import functools
import json
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.images import decode, read_bytes
from multispace.errors import Error, ImageError, ModelError, OptionError, PipelineError
from multispace.model.backbone.resnet import Backbone
from multispace.pipeline.extraction.backbone_spec import backbone_of, spec_of
from multispace.pipeline.extraction.workers import Extracted, ShardImages, extracted_batches
from multispace.version import SOFTWARE, install_hint

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError
except ImportError as error:
    raise OptionError("needs Ray", where="--ray", hint=install_hint("ray")) from error

RETRIES = 5  # lost tasks that are retried, per shard
AHEAD = 2  # shards submitted but not yet written, per task that can run in parallel
POLL_SECONDS = 10.0  # how often to check that nodes are left
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """What a task needs to extract the driver's features; ``device`` is a type such as cuda."""

    spec: FeatureSpec
    weights: str
    device: str
    workers: int


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    :param workers: cores that each task requests
    """

    workers: int

    def extract(
        self,
        shards: Sequence[ShardImages],
        backbone: Backbone,
        spec: FeatureSpec,
        store: Callable[[Extracted], None],
    ) -> None:
        """Extract shards and pass each to ``store``, in the order of ``shards``.

        Few shards are submitted at a time, which bounds both the queue and the finished shards
        that wait for an earlier one. An interruption abandons the shards that are not stored.

        :raises PipelineError: a node would extract other features than the driver or cannot see
            the images, or a shard was lost too often.
        """
        needs = {"CPU": self.workers, "GPU": int(backbone.device.type == "cuda")}
        job = Job(spec, _shared_weights(spec.weights), backbone.device.type, self.workers)
        # max_calls=0 keeps worker processes alive, so that each loads the backbone once.
        task = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            max_calls=0,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(extract_shard)
        pending: deque[tuple[ShardImages, Any]] = deque()
        for shard in shards:
            if len(pending) >= AHEAD * _slots(needs):
                store(_wait(*pending.popleft(), needs))
            absolute = [(key, path.absolute()) for key, path in shard]
            pending.append((shard, task.remote(job, absolute)))
        while pending:
            store(_wait(*pending.popleft(), needs))
        # Tasks that are pending after a failure end by themselves or with the connection:
        # ray.cancel can abort the process if a result arrives at the same moment.


@contextmanager
def connect(address: str, workers: int | None = None) -> Iterator[Cluster]:
    """Connect to a Ray cluster.

    An existing connection of this process is used, and left open.

    :param address: HOST:PORT of the head, or ``auto`` for the environment variable
        ``RAY_ADDRESS`` or else a cluster on this machine
    :param workers: cores that each task requests; 1 by default
    :raises OptionError: the address has another form.
    :raises PipelineError: there is no cluster, or it has another version of Ray or Python.
    """
    if ray.is_initialized():
        yield Cluster(workers or 1)
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address != "auto":
        _reach(address)
    # Ray prints many lines on stdout when a node is lost, whatever its logging level.
    with open(os.devnull, "w") as null, redirect_stdout(null), _connection(address):
        yield Cluster(workers or 1)


@contextmanager
def _connection(address: str) -> Iterator[None]:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(
            reason,
            where=f"--ray {address}",
            hint="this machine must be a node of the cluster: run `ray start`",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Check that the address accepts connections: Ray would retry for minutes, then exit."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise OptionError(
            "not an address", where=f"--ray {address}", hint="give auto, or HOST:PORT of the head"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(
            reason,
            where=f"--ray {address}",
            hint="give the HOST:PORT that `ray start --head` printed",
        ) from error


def _shared_weights(weights: str) -> str:
    """Return a name of the weights that is valid in any working folder."""
    return str(Path(weights).absolute()) if Path(weights).is_file() else weights


def _slots(needs: dict[str, int]) -> int:
    """Return the number of tasks that can run in parallel.

    :raises PipelineError: there is none, and Ray would wait forever.
    """
    slots = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            slots += int(min(has.get(kind, 0) // n for kind, n in needs.items() if n))
    if not slots:
        wanted = " and ".join(f"{n} {kind}" for kind, n in needs.items() if n)
        raise PipelineError(
            f"no node of the cluster has {wanted}", where="--ray", hint="add one, and rerun"
        )
    return slots


def _wait(shard: ShardImages, task: Any, needs: dict[str, int]) -> Extracted:
    """Return the features of a shard; Ray retries a lost task.

    :raises PipelineError: it was lost too often, or a node cannot extract it.
    """
    while True:
        try:
            node, extracted = ray.get(task, timeout=POLL_SECONDS)
        except GetTimeoutError:
            _slots(needs)
        except RayTaskError as error:
            if isinstance(error.cause, Error):
                raise error.cause from None
            raise PipelineError(
                f"a worker failed: {_last_line(error)}",
                where="--ray",
                hint="check that every node has this version of " + SOFTWARE,
            ) from error
        except RayError as error:
            raise PipelineError(
                f"the shard that starts with {shard[0][0]} was lost {RETRIES + 1} times: "
                f"{type(error).__name__}: {str(error).partition('.')[0]}",
                where="--ray",
                hint="run the same command again to continue",
            ) from error
        else:
            break
    _check_failures(node, shard, extracted.failures)
    return extracted


def _check_failures(node: str, shard: ShardImages, failures: Mapping[str, str]) -> None:
    """Check that the images that a node could not read cannot be read here either.

    :param failures: reasons, by key
    :raises PipelineError: one can: the node does not see it, or cannot decode it.
    """
    for key, path in shard:
        if key in failures and _is_readable(path):
            raise PipelineError(
                f"{path.absolute()}: {failures[key]}",
                where=node,
                hint="it can be read here; the images must be at the same path on every node, "
                "and the libraries must be the same",
            )


def _is_readable(path: Path) -> bool:
    try:
        decode(read_bytes(path), path)
    except ImageError:
        return False
    return True


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def extract_shard(job: Job, shard: ShardImages) -> tuple[str, Extracted]:
    """Extract one shard on a node of the cluster.

    :returns: the node's name, and the features
    :raises PipelineError: the features would differ from the driver's; names the node and why.
    """
    identity = ray.get_runtime_context().get_node_id()
    node = f"node {ray.util.get_node_ip_address()} ({identity[:8]})"
    spec = job.spec
    try:
        backbone = _backbone(json.dumps(spec.to_json()), job.weights, job.device)
    except ModelError as error:
        raise PipelineError(str(error), where=node) from None
    own = replace(spec_of(backbone, spec.dtype), weights=spec.weights)
    if own != spec:
        raise PipelineError(
            f"extracts other features: {'; '.join(_differences(spec, own))} (driver and node)",
            where=node,
            hint="give every node the same weights and libraries",
        )
    extracted = Extracted()
    with extracted_batches([shard], backbone, job.workers) as batches:
        for batch in batches:
            extracted.add(batch)
    return node, extracted


@functools.cache  # once per process
def _backbone(spec: str, weights: str, device: str) -> Backbone:
    described = FeatureSpec.from_json(json.loads(spec), "the driver's")
    return backbone_of(described, weights=weights, device=device)


def _differences(spec: FeatureSpec, other: FeatureSpec) -> list[str]:
    """Return a line for each difference of two specs, library by library."""
    here, there = ({**s.to_json(), **s.versions, "versions": None} for s in (spec, other))
    return [f"{k}: {here[k]} and {there.get(k)}" for k in here if here[k] != there.get(k)]
