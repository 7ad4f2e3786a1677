"""Push and pull of exported models, and local copies of models that are named by a URL."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from multispace.data.cache.format.listed_file import Entry, file_sha256
from multispace.data.files import atomic_write
from multispace.data.remote.downloads import fetch_all
from multispace.data.remote.local_copy import copies_root, copy_name
from multispace.data.remote.result import Transferred
from multispace.data.remote.store import Store
from multispace.data.watch import counter
from multispace.errors import CacheError, OptionError, PipelineError
from multispace.pipeline.command_options.transfer_options import ModelPullOptions, ModelPushOptions
from multispace.pipeline.console.progress import watched
from multispace.pipeline.runs.model_files import (
    MANIFEST,
    MANIFEST_FORMAT,
    ModelFiles,
    ModelManifest,
    parse_model_manifest,
)
from multispace.pipeline.runs.run_lock import RunLock


def push_model(options: ModelPushOptions) -> Transferred:
    """Send an exported model to a URL, ``model.json`` last.

    Every file is checked before it is sent. A model that is there already is sent no second time.

    :raises PipelineError: the model is damaged, or the URL takes no files, holds another model,
        or holds other files of the same names.
    """
    files = ModelFiles.open(options.folder)
    files.check()
    with _plain_errors(), ExitStack() as stack:
        store = Store(options.url)
        store.check_writable()
        sent = _missing_there(store, files.manifest)
        count = counter(sum(entry.bytes for entry in sent), watched(stack, "push"))
        for entry in sent:  # one at a time: a hub makes a commit of each, in which two would clash
            store.write(entry.file, files.read(entry.file))
            _check_arrived(store, entry)
            count(entry.bytes)
        if sent:
            store.write(MANIFEST, files.manifest.to_bytes())
    return _transferred(store, options.folder, files.manifest, sent)


def pull_model(options: ModelPullOptions) -> Transferred:
    """Fetch an exported model into a folder; files that are whole there already stay.

    :raises OptionError: the digest is not the expected one.
    :raises PipelineError: a file is missing, too long or not what ``model.json`` lists, or the
        folder holds another file of its name.
    """
    with _plain_errors():
        store = Store(options.url)
        manifest = _fetch_manifest(store)
        if options.digest not in (None, manifest.digest, f"sha256:{manifest.digest}"):
            raise OptionError(
                f"the digest of {store.url} is sha256:{manifest.digest}",
                where=f"--digest {options.digest}",
                hint="ask its owner which is right",
            )
        fetched = _fetch(store, manifest, options.folder, options.threads, replace=False)
    return _transferred(store, options.folder, manifest, fetched)


def local_model(where: str | Path) -> Path:
    """Return a local folder with the run or the model at ``where``: a URL is fetched first.

    Copies are kept beside those of caches
    (:func:`multispace.data.remote.local_copy.copies_root`), in a folder for each digest.

    :raises PipelineError: see :func:`pull_model`.
    """
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    with _plain_errors():
        store = Store(where)
        if store.folder is not None:
            return store.folder
        manifest = _fetch_manifest(store)
        folder = copies_root() / copy_name(store, manifest.digest)
        _fetch(store, manifest, folder, ModelPullOptions.threads, replace=True)
    return folder


def _fetch_manifest(store: Store) -> ModelManifest:
    content = store.read(MANIFEST, MANIFEST_FORMAT.max_bytes)
    return parse_model_manifest(content, store.where(MANIFEST))


def _fetch(
    store: Store, manifest: ModelManifest, folder: Path, threads: int, *, replace: bool
) -> list[Entry]:
    """Fetch the files that are not whole in ``folder``, and write ``model.json`` last.

    :param replace: whether files of the same names may be replaced
    """
    folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder, wait=True), ExitStack() as stack:
        content = manifest.to_bytes()
        own = Entry(MANIFEST, manifest.file_sha256, len(content))
        for entry in () if replace else (own, *manifest.files):
            _check_replaces_nothing(folder / entry.file, entry, store)
        watch = watched(stack, "pull")
        fetched = fetch_all(store, folder, manifest.files, threads, watch)
        with atomic_write(folder / MANIFEST) as file:
            file.write(content)
    return fetched


def _check_replaces_nothing(path: Path, entry: Entry, store: Store) -> None:
    """Refuse to replace a file of the user's, or of another model."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file() or path.is_symlink() or file_sha256(path) != entry.sha256:
        raise PipelineError(
            f"is not the file of that name at {store.url}",
            where=path,
            hint="pull into another folder, or move the file away",
        )


def _missing_there(store: Store, manifest: ModelManifest) -> list[Entry]:
    """Return the files to send; none where the store has this model.

    :raises PipelineError: it holds another model, or another file of the same name.
    """
    hint = "push to another URL, or delete it there"
    if store.size(MANIFEST) is not None:
        there = _fetch_manifest(store)
        if there.digest != manifest.digest:
            raise PipelineError(
                f"holds another model, sha256:{there.digest}", where=store.url, hint=hint
            )
        return []
    for entry in manifest.files:
        if store.size(entry.file) not in (None, entry.bytes):
            raise PipelineError(
                "is there already, of another size", where=store.where(entry.file), hint=hint
            )
    return list(manifest.files)


def _check_arrived(store: Store, entry: Entry) -> None:
    if (size := store.size(entry.file)) != entry.bytes:
        raise PipelineError(
            f"{size} bytes arrived of {entry.bytes}",
            where=store.where(entry.file),
            hint="push again",
        )


def _transferred(
    store: Store, folder: Path, manifest: ModelManifest, files: list[Entry]
) -> Transferred:
    return Transferred(
        url=store.url,
        folder=folder,
        digest=manifest.digest,
        sent=tuple(sorted(entry.file for entry in files)),
        bytes=sum(entry.bytes for entry in files),
        present=len(manifest.files) - len(files),
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise errors of the store as those of a model."""
    try:
        yield
    except CacheError as error:
        raise PipelineError(error.what, where=error.where, hint=error.hint) from error
