"""Push and pull of exported models, against stores of several kinds."""

import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

import multispace as ms
from multispace.cli import main
from multispace.data.remote import store as store_module
from multispace.errors import Error, OptionError, PipelineError
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.command_options.explore_options import ExploreOptions
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.command_options.transfer_options import ModelPullOptions, ModelPushOptions
from multispace.pipeline.evaluate import evaluate
from multispace.pipeline.explore import explore
from multispace.pipeline.export import export
from multispace.pipeline.model_transfer import local_model, pull_model, push_model

FILES = ("README.md", "config.json", "vocabulary.json", "weights.safetensors")


class Hub(MemoryFileSystem):
    """A stand-in for the file system of a model hub."""

    protocol = "hf"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("hf://", "memory://", 1))


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "copies"))
    monkeypatch.setitem(_registry, "hf", Hub)
    Hub.store.clear()
    return Hub.store


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("transfer") / "model"
    export(ModelExportOptions(tiny_run, out))
    return out


@pytest.fixture
def server(exported):
    handler = partial(SimpleHTTPRequestHandler, directory=str(exported.parent))
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != ".lock"}


def push(folder: Path, url: str):
    return push_model(ModelPushOptions(folder, url))


def pull(url: str, folder: Path, **other):
    return pull_model(ModelPullOptions(url, folder, **other))


@pytest.mark.parametrize("kind", ["hf://user/model", "memory://lab/model", "folder"])
def test_a_model_that_is_pushed_and_pulled_is_the_same(exported, tmp_path, kind):
    url = str(tmp_path / "there") if kind == "folder" else kind
    sent = push(exported, url)
    assert sent.sent == FILES
    assert sent.bytes == sum((exported / name).stat().st_size for name in FILES)
    again = push(exported, url)
    assert (again.sent, again.present) == ((), 4)
    back = pull(url, tmp_path / "back", digest=f"sha256:{sent.digest}")
    assert (back.sent, back.digest) == (FILES, sent.digest)
    assert content(tmp_path / "back") == content(exported)
    assert pull(url, tmp_path / "back").sent == ()


def test_a_model_is_pulled_from_a_web_server(exported, tmp_path, server):
    pull(f"{server}/model", tmp_path / "back")
    assert content(tmp_path / "back") == content(exported)
    with pytest.raises(PipelineError, match="HTTP is for pulling only"):
        push(exported, f"{server}/model")


def test_a_url_is_taken_where_a_run_is(exported, tiny_collection, tiny_cache, tmp_path):
    push(exported, "hf://user/model")
    images = tuple(sorted((tiny_collection / "images").iterdir())[:3])
    found = caption(CaptionOptions("hf://user/model", images, device="cpu"))
    expected = caption(CaptionOptions(exported, images, device="cpu"))
    assert found.to_json() == expected.to_json()
    run = ms.load_run("hf://user/model", device="cpu")
    assert run.caption(images) == [*expected.captions.values()]
    assert run.folder.parent == tmp_path / "copies"
    explored = explore(ExploreOptions("hf://user/model", tiny_cache, images=1, dims=1))
    assert explored.folder == run.folder / "exploration" / "test"
    options = {"metrics": ("bleu",), "device": "cpu"}
    evaluated = evaluate(EvaluateOptions("hf://user/model", tiny_cache, **options))
    assert evaluated.folder == run.folder / "evaluation" / "test"
    assert ms.load_run("hf://user/model", device="cpu").step == run.step


def test_another_model_at_the_same_url_is_another_copy(exported, tiny_base_run, tmp_path, hub):
    push(exported, "hf://user/model")
    first = local_model("hf://user/model")
    hub.clear()
    export(ModelExportOptions(tiny_base_run, tmp_path / "other"))
    push(tmp_path / "other", "hf://user/model")
    second = local_model("hf://user/model")
    assert first != second
    assert content(first) == content(exported)
    assert content(second) == content(tmp_path / "other")


def test_a_damaged_copy_is_fetched_again(exported):
    push(exported, "hf://user/model")
    copy = local_model("hf://user/model")
    (copy / "config.json").write_text("{}")
    assert local_model("hf://user/model") == copy
    assert content(copy) == content(exported)


def test_the_commands_take_urls(exported, tmp_path):
    def call(*words: str) -> str:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "4 files" in call("push", str(exported), "hf://user/model")
    assert "sha256:" in call("pull", "hf://user/model", str(tmp_path / "back"))
    assert content(tmp_path / "back") == content(exported)
    cache = ms.load_run(exported).config
    assert "cache" not in cache["options"]


@pytest.mark.parametrize("name", ["model.json", *FILES])
def test_bytes_that_were_changed_there_are_refused(exported, tmp_path, hub, name):
    push(exported, "hf://user/model")
    path = f"/user/model/{name}"
    changed = bytearray(hub[path].getvalue())
    changed[len(changed) // 2] ^= 1
    Hub().pipe_file(path, bytes(changed))
    with pytest.raises(Error, match=f"hf://user/model/{name}: ") as caught:
        pull("hf://user/model", tmp_path / "back")
    assert type(caught.value) is PipelineError
    assert not (tmp_path / "back" / "model.json").exists()
    assert not (tmp_path / "back" / name).exists()
    with pytest.raises(PipelineError, match=name):
        ms.load_run("hf://user/model")


def test_a_file_that_is_missing_there_is_named(exported, tmp_path, hub):
    push(exported, "hf://user/model")
    del hub["/user/model/vocabulary.json"]
    with pytest.raises(PipelineError, match=r"model/vocabulary.json: not found; check the URL"):
        pull("hf://user/model", tmp_path / "back")
    with pytest.raises(PipelineError, match=r"nothing/model.json: not found; check the URL"):
        ms.load_run("hf://user/nothing")


def test_a_manifest_that_lists_files_elsewhere_is_refused(exported, tmp_path, hub):
    push(exported, "hf://user/model")
    values = json.loads(hub["/user/model/model.json"].getvalue())
    values["files"][0]["file"] = "../README.md"
    Hub().pipe_file("/user/model/model.json", json.dumps(values).encode())
    with pytest.raises(PipelineError, match=r"files\[0\].file is '../README.md'"):
        pull("hf://user/model", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_another_digest_is_refused(exported, tmp_path):
    push(exported, "hf://user/model")
    with pytest.raises(OptionError, match=r"--digest sha256:00: the digest of hf://.* is sha256:"):
        pull("hf://user/model", tmp_path / "back", digest="sha256:00")
    assert not (tmp_path / "back").exists()


def test_files_of_the_user_are_not_replaced(exported, tmp_path):
    push(exported, "hf://user/model")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    with pytest.raises(PipelineError, match=r"README.md: is not the file of that name at hf://"):
        pull("hf://user/model", folder)
    assert (folder / "README.md").read_text() == "mine"
    assert not (folder / "model.json").exists()
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(exported / "README.md")
    with pytest.raises(PipelineError, match=r"README.md: is not the file"):
        pull("hf://user/model", folder)


def test_a_pull_that_was_interrupted_continues(exported, tmp_path, hub):
    push(exported, "hf://user/model")
    kept = hub.pop("/user/model/weights.safetensors")
    with pytest.raises(PipelineError, match="weights.safetensors: not found"):
        pull_model(ModelPullOptions("hf://user/model", tmp_path / "back", threads=1))
    assert (tmp_path / "back" / "config.json").exists()
    hub["/user/model/weights.safetensors"] = kept
    assert "config.json" not in pull("hf://user/model", tmp_path / "back").sent
    assert content(tmp_path / "back") == content(exported)


def test_what_is_there_is_not_replaced_by_a_push(exported, tiny_base_run, tmp_path, hub):
    push(exported, "hf://user/model")
    before = {path: file.getvalue() for path, file in hub.items()}
    export(ModelExportOptions(tiny_base_run, tmp_path / "other"))
    with pytest.raises(PipelineError, match=r"holds another model, sha256:.*; push to another URL"):
        push(tmp_path / "other", "hf://user/model")
    Hub().pipe_file("/user/readme/README.md", b"theirs")
    with pytest.raises(PipelineError, match="README.md: is there already, of another size"):
        push(exported, "hf://user/readme")
    after = {path: file.getvalue() for path, file in hub.items() if "/model/" in path}
    assert after == before
    assert hub["/user/readme/README.md"].getvalue() == b"theirs"


def test_a_damaged_model_is_not_pushed(exported, tmp_path, hub):
    model = Path(shutil.copytree(exported, tmp_path / "model"))
    with (model / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(PipelineError, match="weights.safetensors: larger than"):
        push(model, "hf://user/model")
    assert hub == {}


def test_what_does_not_arrive_is_noticed(exported, monkeypatch):
    monkeypatch.setattr(Hub, "pipe_file", lambda self, path, value, **_: self.touch(path))
    with pytest.raises(PipelineError, match=r"0 bytes arrived of \d+; push again"):
        push(exported, "hf://user/model")


@pytest.mark.parametrize("secret", ["s3cret"])
def test_no_password_is_shown(exported, tmp_path, secret):
    with pytest.raises(Error) as caught:
        ms.load_run(f"http://me:{secret}@127.0.0.1:9/model")
    assert secret not in str(caught.value)


def test_a_run_is_no_model(tiny_run, tmp_path):
    with pytest.raises(PipelineError, match=r"model.json: not found; export the model"):
        push(tiny_run, str(tmp_path / "there"))


def test_a_consensus_of_a_model_needs_the_cache(exported, tiny_collection, tiny_cache):
    image = os.fspath(next((tiny_collection / "images").iterdir()))
    run = ms.load_run(exported, device="cpu")
    with pytest.raises(PipelineError, match="config.json: records no cache; give the cache"):
        run.caption([image], single_caption="consensus")
    assert run.caption([image], single_caption="consensus", cache=tiny_cache)
