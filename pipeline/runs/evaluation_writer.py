"""Write evaluations: each appears whole, by a rename, and none takes another with it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from multispace.data.files import json_bytes, sync_folder, write_synced
from multispace.errors import PipelineError
from multispace.pipeline.metrics.captions.coco_metrics import Scores
from multispace.pipeline.metrics.samples.diversity_curve import DiversityCurve
from multispace.pipeline.runs.evaluation_folder import (
    EVALUATIONS,
    FILES,
    PER_IMAGE,
    RECORD,
    REPLACED,
    SCORES,
    SIGNATURE,
    Record,
    base_name,
)
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles
from multispace.pipeline.runs.run_lock import RunLock, check_no_link

PARTIAL = ".partial-"  # before the name of a folder that is being written


def scores_content(scores: Scores, signature: str) -> dict[str, bytes]:
    """Return ``scores.json`` (of the whole set) and ``per_image.json``, by file name.

    ``scores.json`` holds the signature beside the scores.

    ``per_image.json`` is a list like pycocoevalcap's ``evalImgs``, which keeps the type of the
    image ids, with an image per line; ``statistics`` are those of :class:`Scores`.
    """
    entries = []
    for image_id, values in scores.per_image.items():
        statistics = scores.statistics.get(image_id)
        kept = {"statistics": statistics} if statistics else {}
        entries.append({"image_id": image_id, **values, **kept})
    return {
        PER_IMAGE: entries_content(entries),
        SCORES: json_bytes({**scores.corpus, SIGNATURE: signature}),
    }


def curve_content(curve: DiversityCurve) -> bytes:
    """Return ``diversity_curve.json``, with an image per line."""
    head = json.dumps(curve.to_json(), allow_nan=False).removesuffix("}").encode()
    return head + b', "per_image": ' + entries_content(curve.per_image()).rstrip() + b"}\n"


def entries_content(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a JSON list with an entry per line."""
    lines = (json.dumps(entry, allow_nan=False) for entry in entries)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def write_evaluation(run: Path, record: Record, contents: Mapping[str, bytes]) -> Path:
    """Write an evaluation in place of an earlier one of the same request; return its folder.

    The folder is written beside its place and renamed, under a lock. An earlier evaluation of the
    same request is kept until then. Evaluations of other requests are never changed.

    :param contents: the content of each file but ``evaluation.json``
    :raises PipelineError: a folder is a link, or another kind of file.
    """
    root = run / EVALUATIONS
    check_no_link(root)
    root.mkdir(parents=True, exist_ok=True)
    with RunLock(root, wait=True):
        _recover(root)
        partial = root / f"{PARTIAL}{record.folder_name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        last = {RECORD: json_bytes({**record.to_json(), "files": digests})}
        for name, content in {**contents, **last}.items():
            write_synced(partial / name, content)
        sync_folder(partial)
        return _put(root, partial, record)


def _recover(root: Path) -> None:
    """Complete the renames of a writer that was killed; call it under the lock."""
    for replaced in root.glob(f"{REPLACED}?*"):
        folder = root / replaced.name.removeprefix(REPLACED)
        if replaced.is_symlink() or folder.is_symlink():
            continue  # no writer makes links, and they may lead anywhere
        if folder.exists():
            _clear(replaced, folder)
        else:
            os.rename(replaced, folder)


def _place(root: Path, record: Record) -> Path:
    """Return the folder of an evaluation: the plain one if it is free, or holds the same request.

    An evaluation with the default options always gets the plain folder.
    """
    plain = root / base_name(record.split, record.checkpoint)
    own = root / record.folder_name
    if plain.is_dir():
        return plain if _own_name(plain) == own.name else own
    return own if os.path.lexists(plain) or own.exists() else plain


def _put(root: Path, partial: Path, record: Record) -> Path:
    """Rename ``partial`` to its place; what was there moves or is removed after that."""
    folder = _place(root, record)
    replaced = root / f"{REPLACED}{folder.name}"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PipelineError(
            "is not a folder; the evaluation is not written", where=folder, hint="move it away"
        )
    if folder.is_dir():
        other = _own_name(folder)
        if other != record.folder_name and not (root / other).exists():
            os.rename(folder, root / other)  # another request, which came first
        else:
            os.rename(folder, replaced)
    os.rename(partial, folder)
    sync_folder(root)
    if replaced.exists():
        _clear(replaced, folder)
    return folder


def _own_name(folder: Path) -> str:
    """Return the name that the evaluation in ``folder`` has by its own record, if it has one."""
    try:
        name = EvaluationFiles.open(folder, "").record.folder_name
    except PipelineError:
        return folder.name  # damaged, or one that an earlier version did not complete
    return name if name.startswith(f"{folder.name},") and os.sep not in name else folder.name


def _clear(replaced: Path, folder: Path) -> None:
    """Remove the files of a replaced evaluation; anything else in it moves to ``folder``."""
    for entry in sorted(replaced.iterdir()):
        if entry.name in FILES and not entry.is_dir():
            entry.unlink()
        elif not (folder / entry.name).exists():
            os.rename(entry, folder / entry.name)
    if not any(replaced.iterdir()):
        replaced.rmdir()
