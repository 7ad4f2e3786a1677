"""A Ray cluster that makes rows: a task a shard, while the driver alone writes.

Every node needs this package, and sees the images (and a weights file) under the driver's
paths. A shard whose worker or node dies is made again elsewhere; what a task returns is rows, so
that no trace of the one that died is left. Rows are equal to those of a local run, bit for bit,
where the nodes' processors and libraries are: neither the batch (see ``workers``) nor the
number of threads changes a vector.
"""

import functools
import json
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multispace.data.cache.spec import FeatureSpec
from multispace.data.images import NO_FILE
from multispace.errors import Error, ModelError, OptionError, PipelineError
from multispace.model.backbone.resnet import Backbone
from multispace.pipeline.extraction.extract import backbone_of, describe
from multispace.pipeline.extraction.workers import Part, Rows, lanes

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError
except ImportError as error:
    raise OptionError("--ray: needs Ray; pip install 'multispace-captioning[ray]'") from error

RETRIES = 5  # of one shard: so many of its nodes may be lost
AHEAD = 2  # shards submitted and not yet written, for each task that can run at once
LOOK_SECONDS = 10.0  # how often to look whether there are nodes left
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Order:
    """What a worker has to know to make the driver's rows; ``device`` is a type, as in cuda."""

    spec: FeatureSpec
    weights: str
    device: str
    workers: int


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to; ``workers`` cores are asked for a task."""

    workers: int

    def extract(
        self,
        parts: Sequence[Part],
        backbone: Backbone,
        spec: FeatureSpec,
        store: Callable[[Rows], None],
    ) -> None:
        """Make the rows of each part and ``store`` them in the order of ``parts``.

        Few shards are out at a time, so that neither the queue nor the finished ones that wait
        for an earlier one can grow. Each is stored as soon as all before it are; on an
        interruption the others are given up.

        :raises PipelineError: a worker would make other rows than the driver, cannot see the
            images, or a shard was lost too often.
        """
        needs = {"CPU": self.workers, "GPU": int(backbone.device.type == "cuda")}
        order = Order(spec, _shared_weights(spec.weights), backbone.device.type, self.workers)
        # Workers are kept (max_calls), so that each loads the backbone once.
        make = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            max_calls=0,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(make_rows)
        out: deque[tuple[Part, Any]] = deque()
        for part in parts:
            if len(out) >= AHEAD * _slots(needs):
                store(_wait(*out.popleft(), needs))
            absolute = [(key, path.absolute()) for key, path in part]
            out.append((part, make.remote(order, absolute)))
        while out:
            store(_wait(*out.popleft(), needs))
        # After a failure what is still out is left to end by itself, or with the connection:
        # ray.cancel can abort the whole process when a result comes at the same moment.


@contextmanager
def connect(address: str, workers: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster whose head is at ``address`` (HOST:PORT).

    ``auto`` takes the one of the environment's ``RAY_ADDRESS``, or this machine's. A connection
    that this process has already is used, and left open.

    :raises OptionError: the address is not of that form.
    :raises PipelineError: there is no cluster, or it has another version of Ray or Python.
    """
    if ray.is_initialized():
        yield Cluster(workers or 1)
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address != "auto":
        _reach(address)
    # Whatever it is told about logging, Ray prints pages on stdout when a node is lost.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), _connection(address):
        yield Cluster(workers or 1)


@contextmanager
def _connection(address: str) -> Iterator[None]:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(
            f"--ray {address}: {reason} (this machine must be a node of the cluster: `ray start`)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Look whether anything listens: Ray itself would try for many minutes, then exit."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise OptionError(f"--ray {address}: give auto, or HOST:PORT of the cluster's head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(
            f"--ray {address}: {reason}; give the HOST:PORT that `ray start --head` printed"
        ) from error


def _shared_weights(weights: str) -> str:
    """Return what names the same weights in another working folder."""
    return str(Path(weights).absolute()) if Path(weights).is_file() else weights


def _slots(needs: dict[str, int]) -> int:
    """Return how many tasks can run at once.

    :raises PipelineError: none: Ray would wait without an end.
    """
    slots = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            slots += int(min(has.get(kind, 0) // n for kind, n in needs.items() if n))
    if not slots:
        wanted = " and ".join(f"{n} {kind}" for kind, n in needs.items() if n)
        raise PipelineError(f"--ray: no node of the cluster has {wanted}; add one, and rerun")
    return slots


def _wait(part: Part, task: Any, needs: dict[str, int]) -> Rows:
    """Return the rows of a shard, made again as often as need be."""
    while True:
        try:
            node, rows = ray.get(task, timeout=LOOK_SECONDS)
        except GetTimeoutError:
            _slots(needs)
        except RayTaskError as error:
            if isinstance(error.cause, Error):
                raise error.cause from None
            raise PipelineError(
                f"--ray: a worker failed: {_last_line(error)}; "
                "does every node have this version of multispace-captioning?"
            ) from error
        except RayError as error:
            raise PipelineError(
                f"--ray: the shard from {part[0][0]} on was lost {RETRIES + 1} times: "
                f"{type(error).__name__}: {str(error).partition('.')[0]}; rerun to go on"
            ) from error
        else:
            break
    for key, path in part:
        if rows.failures.get(key) == NO_FILE and path.exists():
            raise PipelineError(
                f"{node}: {path.absolute()}: {NO_FILE}; "
                "the images must be at the same path on every node"
            )
    return rows


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def make_rows(order: Order, part: Part) -> tuple[str, Rows]:
    """Make the rows of one shard; runs on a worker, and returns the node's name with them.

    :raises PipelineError: they would not be the driver's; names the node and what differs.
    """
    identity = ray.get_runtime_context().get_node_id()
    node = f"node {ray.util.get_node_ip_address()} ({identity[:8]})"
    spec = order.spec
    try:
        backbone = _backbone(json.dumps(spec.to_json()), order.weights, order.device)
    except ModelError as error:
        raise PipelineError(f"{node}: {error}") from None
    made = replace(describe(backbone, spec.dtype), weights=spec.weights)
    if made != spec:
        raise PipelineError(
            f"{node}: makes other vectors: {'; '.join(_differences(spec, made))} (here and there); "
            "give every node the same weights and libraries"
        )
    rows = Rows()
    with lanes([part], backbone, order.workers) as made_here:
        for batch in made_here:
            rows.add(batch)
    return node, rows


@functools.cache  # once a process
def _backbone(spec: str, weights: str, device: str) -> Backbone:
    described = FeatureSpec.from_json(json.loads(spec), "the driver's")
    return backbone_of(described, weights=weights, device=device, compiled=True)


def _differences(spec: FeatureSpec, made: FeatureSpec) -> list[str]:
    """Say where two specs differ, each library on its own."""
    here, there = ({**s.to_json(), **s.versions, "versions": None} for s in (spec, made))
    return [f"{k}: {here[k]} and {there.get(k)}" for k in here if here[k] != there.get(k)]
