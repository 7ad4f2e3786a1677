import errno
import json
import os
import resource
from contextlib import contextmanager

import pytest

from multispace.data.files import atomic_write, json_bytes, remove_partial, write_json


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_whole_and_only_at_the_end(path):
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    with atomic_write(path) as file:
        file.write(b"de")
        file.flush()
        assert path.read_bytes() == b"abc"
    assert path.read_bytes() == b"de"
    assert names(path.parent) == ["file"]


def test_bytes_are_synced_before_the_rename_and_the_folder_after_it(path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(descriptor):
        calls.append("folder" if os.path.samestat(os.fstat(descriptor), path.parent.stat())
                     else f"file of {os.fstat(descriptor).st_size}")  # fmt: skip
        fsync(descriptor)

    def note_rename(source, target):
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    with atomic_write(path) as file:
        file.write(b"abc")
    assert calls == ["file of 3", "rename", "folder"]


def test_rights_are_those_of_a_file_made_plainly(path):
    with atomic_write(path) as file:
        file.write(b"abc")
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(path, fault):
    write_json(path, 1)

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half")
            raise fault

    with pytest.raises(fault):
        write_half()
    assert json.loads(path.read_bytes()) == 1
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "fdopen"])
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_leaves_what_was_there(path, monkeypatch, call, old):
    path.parent.mkdir()
    if old:
        write_json(path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, 2)
    assert names(path.parent) == ["file"] * old
    assert not old or json.loads(path.read_bytes()) == 1


@contextmanager
def largest_file(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [600, 100_000])  # refused at the flush, and at the write
def test_a_write_that_the_system_cuts_short_leaves_what_was_there(path, size):
    write_json(path, 1)
    with (
        largest_file(500),
        pytest.raises(OSError, match="too large") as caught,
        atomic_write(path) as file,
    ):
        file.write(bytes(size))
    assert caught.value.filename == str(path)
    assert json.loads(path.read_bytes()) == 1
    assert names(path.parent) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_os_error(path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        write_json(path, 1)
    assert names(path.parent) == []


def test_only_partial_files_are_removed(path):
    write_json(path, 1)
    (path.parent / ".partial-x1").write_bytes(b"half")
    (path.parent / ".other").write_bytes(b"")
    remove_partial(path.parent)
    remove_partial(path.parent / "no such folder")
    assert names(path.parent) == [".other", "file"]


def test_json_is_utf8_and_has_no_constants_of_its_own(path):
    assert json_bytes({"b": "é", "a": [1]}) == '{\n "b": "é",\n "a": [\n  1\n ]\n}\n'.encode()
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_bytes()) == 1
