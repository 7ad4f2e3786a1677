"""Files that come from others are read within limits and checked: no file is read otherwise.

A new call that reads a file or parses a document fails this test. Read through
:class:`multispace.data.documents.DocumentFormat` or :func:`multispace.data.files.read_file`, or
list the call here with the reason why it is safe.
"""

import ast
from collections import Counter
from collections.abc import Iterator

import pytest
from support.paths import ROOT

PARSERS = {
    "json.load", "json.loads", "yaml.load", "yaml.load_all", "yaml.safe_load",
    "yaml.safe_load_all", "yaml.full_load", "yaml.unsafe_load", "tomllib.load", "tomllib.loads",
    "torch.load", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads",
    "np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile", "np.memmap",
    "np.lib.format.open_memmap", "safe_open", "load_file", "load_safetensors",
    "h5py.File", "zipfile.ZipFile", "tarfile.open", "csv.reader", "csv.DictReader",
    "open", "io.open", "os.open", "os.fdopen", "mmap.mmap", "Image.open",
}  # fmt: skip
METHODS = {"read_text", "read_bytes", "open", "open_memmap"}
OTHER_OPEN = {
    "Cache.open",
    "EvaluationFiles.open",
    "ModelFiles.open",
}  # they open no file by themselves

# What is read in another way, by file and call, with the number of calls and the reason.
ALLOWED = {
    # The readers themselves.
    ("data/documents.py", "json.loads"): (2, "the reader of documents: limits, then types"),
    ("data/plain_yaml.py", "yaml.load"): (1, "for the reader of documents: safe, no aliases"),
    ("data/files.py", "os.open"): (2, "read_file; a folder, to sync it"),
    ("data/files.py", "os.fdopen"): (1, "a file that is written"),
    ("data/files.py", "path.open"): (1, "a file that is written"),
    # Files of a cache: opened without links, checked against their digests, and typed.
    ("data/cache/format/listed_file.py", "os.open"): (3, "component by component"),
    ("data/cache/format/listed_file.py", "open"): (1, "the descriptor of a listed file"),
    ("data/cache/format/listed_file.py", "path.open"): (1, "the digest of a fetched file"),
    ("data/cache/format/listed_file.py", "CheckedFile(root, entry).open"): (1, "a checked file"),
    ("data/cache/feature_rows.py", "self.file.open"): (3, "a checked file"),
    ("data/cache/format/shard.py", "file.open"): (2, "a checked file"),
    ("data/cache/writer.py", "shard.features.file.open"): (1, "a checked file"),
    ("data/cache/format/hdf5.py", "h5py.File"): (1, "the checked reader of HDF5"),
    ("data/cache/format/hdf5.py", "h5py.h5a.open"): (1, "an attribute of an opened file"),
    ("data/cache/format/hdf5.py", "h5py.h5o.open"): (1, "an object of an opened file"),
    ("data/cache/format/shard.py", "h5py.File"): (1, "in memory, to be written"),
    ("data/cache/format/shard_layout.py", "json.loads"): (1, "the spec of a checked file"),
    ("data/captions/encoded_captions.py", "h5py.File"): (1, "in memory, to be written"),
    ("data/captions/encoded_captions.py", "json.loads"): (1, "the factors of a checked file"),
    ("data/cache/format/manifest_reader.py", "json.loads"): (2, "bounded, typed, compared"),
    ("data/cache/format/failure_list.py", "json.loads"): (1, "a checked file; typed below"),
    ("data/captions/vocabulary.py", "json.loads"): (1, "a checked file; typed below"),
    # Images.
    ("data/images.py", "Image.open"): (3, "bytes of read_file, within limits of pixels"),
    # Feature files of others: plain files, shapes and types checked before values are read.
    ("data/external_vectors/vector_files.py", "os.open"): (1, "refuses what is not a plain file"),
    ("data/external_vectors/vector_files.py", "open"): (1, "the descriptor of a plain file"),
    ("data/external_vectors/vector_files.py", "zipfile.ZipFile"): (1, "the members are checked"),
    ("data/external_vectors/vector_npy.py", "zipfile.ZipFile"): (1, "the members are checked"),
    ("data/external_vectors/vector_npy.py", "archive.open"): (4, "a member: header, then size"),
    # What is fetched.
    ("data/remote/downloads.py", "partial.open"): (2, "a partial download of our own"),
    ("data/remote/store.py", "self._fs.open"): (2, "a remote file, under a cap and a minimum rate"),
    ("data/remote/image_download.py", "_web_only().open"): (1, "a URL, with limits"),
    # Files that belong to the package or to the system.
    ("data/language/word_lists.py", "resources.files(__package__).joinpath(file).read_text"): (
        1, "a file of the package",
    ),
    ("data/language/word_lists.py", "json.loads"): (1, "a file of the package"),
    ("data/image_formats.py", "Path('/proc/self/maps').read_text"): (1, "of the system"),
    ("model/device.py", "QUOTA.read_text"): (1, "of the system"),
    ("pipeline/console/main_process.py", "open"): (1, "the null device"),
    ("pipeline/extraction/ray_cluster.py", "open"): (1, "the null device"),
    ("pipeline/extraction/ray_cluster.py", "json.loads"): (1, "what the driver sends; typed"),
    # Weights that the user names.
    ("model/backbone/weights.py", "load_file"): (1, "safetensors, named by the user"),
    ("model/backbone/weights.py", "torch.load"): (1, "weights_only, named by the user"),
    # Our own values and files that are written.
    ("pipeline/training/resume.py", "json.loads"): (1, "what json.dumps just gave"),
    ("pipeline/tuning/resolution.py", "json.loads"): (1, "what json.dumps just gave"),
    ("pipeline/training/metrics_log.py", "self._path.open"): (1, "a file that is written"),
    ("pipeline/training/tensorboard_file.py", "self.path.open"): (1, "a file that is written"),
}  # fmt: skip


def sources() -> Iterator[tuple[str, ast.Module]]:
    found = [ROOT / "cli.py"]
    for folder in ("data", "model", "pipeline", "multispace"):
        found += sorted((ROOT / folder).rglob("*.py"))
    for path in found:
        if not path.is_symlink():  # multispace/cli.py
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def reads(tree: ast.Module) -> Iterator[str]:
    """Yield the calls that open or parse a file, as they are written."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if call in PARSERS or (method in METHODS and call not in OTHER_OPEN):
            yield call


def test_no_file_is_read_in_another_way():
    found = Counter((name, call) for name, tree in sources() for call in reads(tree))
    new = {key: count for key, count in found.items() if count > ALLOWED.get(key, (0, ""))[0]}
    assert new == {}, "read these through DocumentFormat or read_file, or give a reason in ALLOWED"
    gone = {key for key, (count, _) in ALLOWED.items() if found[key] < count}
    assert gone == set(), "remove these from ALLOWED"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("json.loads(text)", ["json.loads"]),
        ("yaml.safe_load(path.open())", ["yaml.safe_load", "path.open"]),
        ("with open(path) as file: pass", ["open"]),
        ("Path(p, 'a').read_text()", ["Path(p, 'a').read_text"]),
        ("x = np.load(path, allow_pickle=True)", ["np.load"]),
        ("FORMAT.read_json(path), read_file(path, 9), Cache.open(root), json.dumps(1)", []),
    ],
)
def test_calls_that_read_are_found(source, expected):
    assert list(reads(ast.parse(source))) == expected


def test_parsers_are_called_by_the_names_that_are_searched_for():
    """``from json import loads`` would hide a call."""
    modules = {"json", "yaml", "pickle", "marshal", "csv", "zipfile", "tarfile", "h5py", "mmap"}
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in modules, f"{name}: import {node.module} as a whole"
            if isinstance(node, ast.Import):
                renamed = [a.name for a in node.names if a.asname and a.name in modules]
                assert not renamed, f"{name}: import {renamed} under its own name"
