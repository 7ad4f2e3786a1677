"""Repairing a cache: damaged files are taken out, and lost vectors extracted again."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.data.cache.format.manifest import NAME
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.writer import CacheWriter, write_cache
from multispace.data.maintenance.damaged_files import LOST, NOT_FINITE, Settled, settle_damage
from multispace.errors import CacheError, OptionError, brief
from multispace.exit_status import SKIPPED
from multispace.model.backbone.resnet import Backbone
from multispace.pipeline.extraction.backbone_spec import backbone_of, spec_of
from multispace.pipeline.extraction.extract import extract


@dataclass(frozen=True)
class Repair:
    """Result of a repair.

    ``done`` and ``left`` are lines: what was done, and what is left for the user to do.
    ``added`` counts the vectors that were extracted.
    """

    cache: Path
    done: tuple[str, ...]
    left: tuple[str, ...]
    added: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "cache": str(self.cache)}

    def messages(self) -> tuple[str, ...]:
        """Return what is left to do."""
        return tuple(f"left: {brief(line)}" for line in self.left)

    @property
    def exit_status(self) -> int:
        """3 if something is left to do."""
        return SKIPPED if self.left else 0

    def render(self) -> str:
        """Return what was done."""
        return "\n".join(map(brief, self.done)) if self.done else "nothing to repair"


def repair(
    root: Path,
    *,
    images: Path | None = None,
    weights: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Repair:
    """Repair the cache at ``root``.

    :param images: the folder of the images; those that have captions or a recorded failure and
        no vector are extracted from it. Without it such images are only counted.
    :param weights: where the backbone's weights are now, if not where the spec says
    :raises OptionError: ``images`` is not a folder, or ``weights`` is given without it.
    :raises CacheError: there is no cache, another process writes to it, it is of another
        version, or the weights are not those that it was made with.
    """
    if images is not None and not images.is_dir():
        raise OptionError("not a folder", where=f"--images {images}")
    if images is None and weights is not None:
        raise OptionError("is used only together with --images", where=f"--weights {weights}")
    settled = settle_damage(root)
    with write_cache(root) as writer:  # lists whole shards that the manifest does not
        return _extract(writer, settled, images, weights, device, workers)


def _extract(
    writer: CacheWriter,
    settled: Settled,
    images: Path | None,
    weights: str | None,
    device: str,
    workers: int | None,
) -> Repair:
    """Extract the images that have captions or a recorded failure and no vector."""
    done, left, added = list(settled.done), list(settled.left), 0
    root, spec = shlex.quote(str(writer.root)), writer.manifest.spec
    failures = dict(writer.failures)
    wanted = sorted((settled.known | failures.keys()) - writer.digests.keys())
    if settled.lost > len(wanted) or (settled.lost and spec is None):
        left.append(
            f"`multispace preprocess --annotations FILE --images DIR --cache {root}`: at least "
            f"{settled.lost} vectors are lost, and no captions here name all their images"
        )
    if settled.rebuilt:
        done.append(
            f"{NAME}: written anew from {len(writer.manifest.shards)} shards with "
            f"{writer.manifest.rows} vectors and from the text files that can be read; recorded "
            "failures are lost"
        )
    if spec is None:
        return Repair(writer.root, tuple(done), tuple(left), 0)
    here = {key: images / key for key in wanted if images and (images / key).is_file()}
    if here:
        backbone = _backbone(spec, weights, device)
        before = len(writer.digests)
        extract(writer, here, backbone, dtype=spec.dtype, workers=workers)
        added = len(writer.digests) - before
        done.append(f"{added} vectors extracted from {images}")
    failed = writer.failures
    for key in here:
        if key in failed:
            left.append(f"restore {images}/{key}: {failed[key]}")
    recorded = {key for key, reason in failures.items() if reason not in (NOT_FINITE, LOST)}
    if away := [key for key in wanted if key not in here and key not in recorded]:
        left.append(
            f"`multispace cache repair {root} --images DIR`: {len(away)} images have no vector"
            f"{f' and are not under {images}' if images else ''}, the first is {away[0]}"
        )
    return Repair(writer.root, tuple(done), tuple(left), added)


def _backbone(spec: FeatureSpec, weights: str | None, device: str) -> Backbone:
    """Load the backbone of a spec.

    :raises CacheError: its vectors would have another fingerprint; names the fields.
    """
    if spec.transform is None:
        raise CacheError(
            "the vectors were imported and cannot be extracted", hint="import them again"
        )
    backbone = backbone_of(spec, weights=weights, device=device)
    made = spec_of(backbone, spec.dtype)
    if made.fingerprint != spec.fingerprint:
        raise CacheError(
            "not what the cache was made with: "
            f"{'; '.join(spec.differences(made))} (cache and weights)",
            where=f"--weights {weights or spec.weights}",
            hint="give --weights FILE",
        )
    return backbone
