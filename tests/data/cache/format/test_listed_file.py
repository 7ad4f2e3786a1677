import hashlib
import os
import time
from pathlib import Path

import pytest

from multispace.data.cache.format.listed_file import (
    CheckedFile,
    Entry,
    check_size,
    describe,
    file_sha256,
    open_entry,
    read_entry,
)
from multispace.errors import DamagedFileError


@pytest.fixture
def entry(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"abc")
    return describe(tmp_path, tmp_path / "sub" / "file")


def test_an_entry_has_the_path_the_digest_and_the_size(tmp_path, entry):
    # FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert entry == Entry("sub/file", digest, 3)
    assert read_entry(tmp_path, entry) == b"abc"
    with open_entry(tmp_path, entry) as file:
        assert file.read() == b"abc"
    check_size(tmp_path, entry)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 1])
def test_digest_of_a_stream(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab", "2 bytes, the manifest says 3; run"),
        (b"abcd", "4 bytes, the manifest says 3; run"),
        (b"", "0 bytes"),
        (b"abb", r"digest [0-9a-f]{12}\.\.\., the manifest says ba7816bf8f01\.\.\.; run"),
    ],
)
def test_other_bytes_are_refused(tmp_path, entry, content, message):
    path = tmp_path / "sub" / "file"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{path}: {message}"):
        read_entry(tmp_path, entry)
    with pytest.raises(DamagedFileError, match=f"{path}: {message}"), open_entry(tmp_path, entry):
        pass


@pytest.mark.parametrize("instead", ["nothing", "folder", "pipe", "link", "broken link"])
def test_only_a_plain_file_is_opened(tmp_path, entry, instead):
    path = tmp_path / "sub" / "file"
    path.rename(tmp_path / "away")
    message = "not there as a file; run `multispace cache repair"
    if instead == "folder":
        path.mkdir()
    elif instead == "pipe":
        os.mkfifo(path)
    elif instead != "nothing":
        path.symlink_to(tmp_path / ("away" if instead == "link" else "nowhere"))
        message = "is a symbolic link; links in a cache are not followed; replace it"
    for read in (read_entry, check_size, lambda *listed: open_entry(*listed).__enter__()):
        with pytest.raises(DamagedFileError, match=f"{path}: {message}"):
            read(tmp_path, entry)


def test_a_linked_folder_is_not_followed(tmp_path, entry):
    (tmp_path / "sub").rename(tmp_path / "elsewhere")
    (tmp_path / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedFileError, match=f"{tmp_path / 'sub'}: is a symbolic link"):
        read_entry(tmp_path, entry)
    # The folder that the user names may be a link.
    (tmp_path / "sub").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "sub")
    (tmp_path / "cache").symlink_to(tmp_path)
    assert read_entry(tmp_path / "cache", entry) == b"abc"


def swapped(path):
    path.with_name("new").write_bytes(b"xyz")
    path.with_name("new").replace(path)


def rewritten(path):
    path.write_bytes(b"xyz")


@pytest.mark.parametrize("change", [swapped, rewritten, Path.unlink])
@pytest.mark.parametrize("age", [0, 3600])  # seconds since the file was last changed
def test_other_bytes_are_refused_at_a_later_opening(tmp_path, entry, change, age, monkeypatch):
    now = time.time() + age
    monkeypatch.setattr(time, "time", lambda: now)
    file = CheckedFile(tmp_path, entry)
    for _ in range(2):
        with file.open() as opened:
            assert opened.read() == b"abc"
    change(tmp_path / "sub" / "file")
    with pytest.raises(DamagedFileError, match="digest|not there"), file.open():
        pass


def test_a_file_that_did_not_change_is_hashed_once(tmp_path, entry, monkeypatch):
    now = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: now)
    file = CheckedFile(tmp_path, entry)
    with file.open():
        pass
    monkeypatch.setattr(hashlib, "sha256", lambda *_: pytest.fail("hashed again"))
    with file.open() as opened:
        assert opened.read() == b"abc"


def test_the_bytes_that_were_checked_are_those_that_are_read(tmp_path, entry):
    with open_entry(tmp_path, entry) as opened:
        swapped(tmp_path / "sub" / "file")
        assert opened.read() == b"abc"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, entry):
    message = "changed while it was read"
    with pytest.raises(DamagedFileError, match=message), open_entry(tmp_path, entry):
        os.truncate(tmp_path / "sub" / "file", 1)


def test_no_descriptor_is_left_open(tmp_path, entry):
    before = len(os.listdir("/proc/self/fd"))
    file = CheckedFile(tmp_path, entry)
    for _ in range(50):
        with file.open():
            pass
        with pytest.raises(DamagedFileError):
            read_entry(tmp_path, Entry("sub/none", entry.sha256, 3))
    assert len(os.listdir("/proc/self/fd")) == before
