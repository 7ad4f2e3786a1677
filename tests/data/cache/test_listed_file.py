import hashlib
import os

import pytest

from multispace.data.cache.listed_file import Entry, check_entry, describe, file_sha256
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
    assert check_entry(tmp_path, entry) == tmp_path / "sub" / "file"


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
        check_entry(tmp_path, entry)


@pytest.mark.parametrize("instead", ["nothing", "folder", "link", "broken link"])
def test_what_is_no_file_is_refused(tmp_path, entry, instead):
    path = tmp_path / "sub" / "file"
    path.rename(tmp_path / "away")
    if instead == "folder":
        path.mkdir()
    elif instead != "nothing":
        path.symlink_to(tmp_path / ("away" if instead == "link" else "nowhere"))
    with pytest.raises(DamagedFileError, match="not there as a file; run `preprocess` again"):
        check_entry(tmp_path, entry)
