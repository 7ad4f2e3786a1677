"""The files of an exported model, and ``model.json``, which lists them.

An exported model is a folder with all that is needed to use a captioner: weights, options,
vocabulary and a card. ``model.json`` lists each file with its size and SHA-256. It also holds a
digest over all files: the SHA-256 of the canonical JSON (RFC 8785) of the rest of ``model.json``.
The bytes of ``model.json`` are the only accepted spelling of its content, so that a change to any
byte of the model is detected.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from multispace.data.cache.format.canonical_json import canonical_digest, canonical_json
from multispace.data.cache.format.listed_file import Entry
from multispace.data.documents import DocumentFormat, Integer, ListOf, Object, Text
from multispace.data.files import read_file, write_synced
from multispace.errors import DataError, PipelineError
from multispace.pipeline.runs.checkpoint import WEIGHTS

MANIFEST = "model.json"
CARD = "README.md"

FORMAT = "multispace-model"
VERSION = 1
HINT = "export the model again, or fetch it again"

_DIGEST = Text(pattern="[0-9a-f]{64}")
# A name has no folder and does not begin with a point, so that it stays in the model's folder.
_NAME = Text(pattern="[A-Za-z0-9][A-Za-z0-9_-]{0,63}[.](md|json|safetensors|onnx)")
MANIFEST_FORMAT = DocumentFormat(
    Object(
        {
            "format": Text(choices=(FORMAT,)),
            "version": Integer(min=VERSION, max=VERSION),
            "checkpoint": Text(choices=("best", "last")),
            "step": Integer(min=0),
            "files": ListOf(
                Object({"file": _NAME, "bytes": Integer(min=0, max=8 << 30), "sha256": _DIGEST}),
                min_items=1,
                max_items=20,
            ),
            "digest": _DIGEST,
        }
    ),
    error=PipelineError,
    hint=HINT,
    max_bytes=1 << 16,
    max_depth=4,
)


@dataclass(frozen=True)
class ModelManifest:
    """The content of ``model.json``.

    :param checkpoint: the checkpoint of the run that was exported, ``best`` or ``last``
    :param step: its optimizer step
    :param files: all other files, in the order of their names
    """

    checkpoint: str
    step: int
    files: tuple[Entry, ...]

    @cached_property
    def digest(self) -> str:
        """The digest over all files, SHA-256 (hexadecimal)."""
        return canonical_digest(self._body)

    @property
    def file_sha256(self) -> str:
        """The SHA-256 (hexadecimal) of ``model.json`` itself."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "files": [asdict(entry) for entry in self.files],
        }

    def to_bytes(self) -> bytes:
        """Return the content of ``model.json``: canonical JSON."""
        return canonical_json({**self._body, "digest": self.digest})


def parse_model_manifest(content: bytes, where: object) -> ModelManifest:
    """Read the bytes of a ``model.json``.

    :param where: its file or URL, for messages
    :raises PipelineError: it is damaged, or of another version.
    """
    found = MANIFEST_FORMAT.parse_json(content, where)
    files = tuple(Entry(**entry) for entry in found["files"])
    manifest = ModelManifest(found["checkpoint"], found["step"], files)
    names = [entry.file for entry in files]
    if MANIFEST in names or names != sorted(set(names)) or manifest.to_bytes() != content:
        raise PipelineError("does not match its digest", where=where, hint=HINT)
    return manifest


@dataclass(frozen=True)
class ModelFiles:
    """An exported model on disk."""

    folder: Path
    manifest: ModelManifest

    @classmethod
    def open(cls, folder: Path) -> "ModelFiles":
        """Read ``model.json``; the other files are read later.

        :raises PipelineError: it is missing or damaged.
        """
        path = folder / MANIFEST
        content = _content(path, MANIFEST_FORMAT.max_bytes)
        return cls(folder, parse_model_manifest(content, path))

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; the bytes that are checked are the bytes that are used.

        :raises PipelineError: it is missing, or not the file that was exported.
        """
        entry = next((entry for entry in self.manifest.files if entry.file == name), None)
        if entry is None:
            raise PipelineError(f"lists no {name}", where=self.folder / MANIFEST, hint=HINT)
        content = _content(self.folder / name, entry.bytes)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise PipelineError(
                f"does not match its digest in {MANIFEST}", where=self.folder / name, hint=HINT
            )
        return content

    def check(self, *, besides: Collection[str] = ()) -> None:
        """Check every file.

        :param besides: files that are checked elsewhere, when they are read
        :raises PipelineError: one is missing, or not the file that was exported.
        """
        for entry in self.manifest.files:
            if entry.file not in besides:
                self.read(entry.file)


def is_model(folder: Path) -> bool:
    """Return whether ``folder`` is that of an exported model, whole or not, and not of a run."""
    return (folder / MANIFEST).exists() or (folder / WEIGHTS).exists()


def write_model(
    folder: Path, contents: Mapping[str, bytes], checkpoint: str, step: int
) -> ModelManifest:
    """Write the files of a model, and ``model.json``, to a folder that is renamed afterwards.

    :param contents: the content of each file by its name
    :raises OSError: a file cannot be written.
    """
    entries = [
        Entry(name, hashlib.sha256(content).hexdigest(), len(content))
        for name, content in sorted(contents.items())
    ]
    manifest = ModelManifest(checkpoint, step, tuple(entries))
    for name, content in {**contents, MANIFEST: manifest.to_bytes()}.items():
        write_synced(folder / name, content)
    return manifest


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        return read_file(path, max_bytes)
    except FileNotFoundError:
        raise PipelineError("not found", where=path, hint=HINT) from None
    except OSError as error:
        raise PipelineError(
            f"not readable ({error.strerror})", where=path, hint="check its permissions"
        ) from error
    except DataError as error:
        raise PipelineError(error.what, where=path, hint=HINT) from error
