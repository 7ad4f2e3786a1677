import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.paths import ROOT
from support.tiny import SPLITS, make_collection

from multispace.cli import main
from multispace.pipeline.command_options.train_options import GROUPS
from multispace.version import package_version

QUICK = ["--backbone", "resnet18", "--weights", "random", "--resize", "32", "--crop", "32",
         "--min-count", "1"]  # fmt: skip
SMALL = ["--batch-size", "8", "--embedding", "32", "--hidden", "32"]
SPACE = ["--z-size", "4", "--categories", "3x2"]


def call(*arguments: object, expect: int = 0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == expect, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_collection(folder / "collection")
    for split in SPLITS:
        call("preprocess", "--annotations", folder / "collection" / f"{split}.json", "--images",
             folder / "collection" / "images", "--cache", folder / "cache", *QUICK)  # fmt: skip
    call("train", "multispace", "--cache", folder / "cache", "--run", folder / "run",
         "--steps", 12, *SMALL, *SPACE)  # fmt: skip
    return folder


def test_the_commands_from_images_to_scores(folder):
    result = call("evaluate", folder / "run", "--cache", folder / "cache", "--split", "test",
                  "--metrics", "bleu,rouge,cider", "--json")  # fmt: skip
    printed = json.loads(result.stdout)
    assert list(printed["scores"]) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    results = Path(printed["folder"]) / "captions.json"
    again = call("score", results, "--annotations", folder / "collection" / "test.json",
                 "--metrics", "bleu,rouge,cider", "--json")  # fmt: skip
    assert json.loads(again.stdout)["scores"] == printed["scores"]
    image = next((folder / "collection" / "images").iterdir())
    assert call("caption", folder / "run", image).stdout.startswith(str(image))


def test_preprocess_prints_vocabulary_and_unknown_share(folder, tmp_path):
    result = call("preprocess", "--annotations", folder / "collection" / "train.json",
                  "--captions-only", "--cache", tmp_path / "c", "--min-count", 9)  # fmt: skip
    assert "vocabulary made: 5 words" in result.stdout  # each colour occurs eight times only
    row = result.stdout.splitlines()[-1].split()
    assert row[0] == "train"
    assert row[-1] == f"{24 / 84:.2%}"


def test_json_is_all_there_is_on_stdout(folder, tmp_path):
    asked = ("preprocess", "--annotations", folder / "collection" / "train.json",
             "--captions-only", "--cache", tmp_path / "c", "--min-count", 1, "--json")  # fmt: skip
    assert json.loads(call(*asked).stdout)["words"] == 8
    trained = call("train", "base", "--cache", folder / "cache", "--run", tmp_path / "r",
                   "--steps", 2, *SMALL, "--json")  # fmt: skip
    assert json.loads(trained.stdout)["steps"] == 2
    assert json.loads(call("cache", "info", folder / "cache", "--json").stdout)["rows"] == 20


def test_cache_info_tells_spec_and_splits(folder):
    out = call("cache", "info", folder / "cache").stdout
    for text in ("20 vectors in 3 shards", "resnet18", "random", "fingerprint", "float16",
                 "tokenizer: whitespace", "train", "val", "test"):  # fmt: skip
        assert text in out


def test_skipped_inputs_are_named_and_the_status_is_3(folder, tmp_path):
    collection = make_collection(tmp_path / "collection")
    (collection / "images" / "train-002.png").unlink()
    (collection / "images" / "train-004.png").write_bytes(b"")
    result = call("preprocess", "--annotations", collection / "train.json", "--images",
                  collection / "images", "--cache", tmp_path / "c", *QUICK, expect=3)  # fmt: skip
    assert "train-002.png: no such file" in result.stderr
    assert "train-004.png: empty file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["preprocess", "--annotations", "{f}/nowhere.json", "--captions-only", "--cache", "{t}"],
         1, "nowhere.json"),
        (["preprocess", "--annotations", "{f}/collection/train.json", "--cache", "{t}"],
         2, "--images DIR or --captions-only"),
        (["preprocess", "--annotations", "{f}/collection/train.json", "--captions-only",
          "--cache", "{f}/cache", "--min-count", "4"], 2, "made with 1"),
        (["train", "base", "--cache", "{t}", "--run", "{t}/r"], 1, "cache.json: not found"),
        (["train", "base", "--cache", "{f}/cache", "--run", "{f}/run"], 2, "holds a run"),
        (["train", "base", "--cache", "{f}/cache", "--run", "{t}/r", "--steps", "1", "--epochs",
          "1"], 2, "--epochs and --steps"),
        (["train", "multispace", "--cache", "{f}/cache", "--run", "{t}/r", "--free-bits", "0.1"], 2,
         "--free-bits 0.1: system multispace"),
        (["train", "base", "--cache", "{f}/cache", "--run", "{t}/r", "--z-size", "12"], 2,
         "--z-size 12: system base does not use this option; it is for latent, multispace, cvae"),
        (["train", "base", "--cache", "{f}/cache", "--run", "{t}/r", "--gamma-z", "1"], 2,
         "--gamma-z 1.0: system base does not use this option; it is for multispace, beta-cvae"),
        (["train", "latent", "--cache", "{f}/cache", "--run", "{t}/r", "--categories", "64"], 2,
         "--categories 64: system latent does not use this option; it is for multispace"),
        (["train", "gan", "--cache", "{f}/cache", "--run", "{t}/r"], 2, "gan"),
        (["evaluate", "{f}/run", "--cache", "{f}/cache", "--split", "dev"], 1,
         "no captions of split 'dev'; there are: test, train, val"),
        (["evaluate", "{f}/run", "--cache", "{f}/cache", "--metrics", "spice"], 2, "spice"),
        (["caption", "{f}/run", "{f}/nothing.png"], 1, "no such file"),
        (["caption", "{t}", "{f}/nothing.png"], 1, "is not a run folder"),
        (["cache", "info", "{t}"], 1, "cache.json: not found"),
        (["shapes", "{t}/s", "--images", "3"], 2, "--images 3: it must be at least 10"),
        (["shapes", "{t}/s", "--hold-out", "purple cow"], 1, "cow"),
        (["score", "{f}/collection/train.json", "--annotations", "{f}/collection/train.json"],
         1, "train.json"),
    ],
)  # fmt: skip
def test_failures_are_one_line_and_a_status(folder, tmp_path, arguments, status, message):
    filled = [a.format(f=folder, t=tmp_path) for a in arguments]
    result = CliRunner().invoke(main, filled)
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= (4 if "Usage" in result.stderr else 1)


def test_debug_shows_the_traceback(tmp_path):
    result = CliRunner().invoke(main, ["cache", "info", str(tmp_path), "--debug"])
    assert (result.exit_code, "Traceback" in result.stderr) == (1, True)


def test_help_does_not_load_torch():
    script = (
        "import sys; sys.argv=['x','train','--help-all']\nimport multispace.cli as cli\n"
        "try: cli.main()\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--learning-rate" in done.stdout
    headings = [line for line in done.stdout.splitlines() if line[:1].isupper()]
    sections = ["Arguments", "Systems", "Options", *GROUPS, "Examples"]
    assert headings[1:] == [f"{section}:" for section in sections]


def test_startup_is_light():
    script = (
        "import sys, multispace.cli\n"
        "heavy = {'torch', 'numpy', 'h5py', 'PIL', 'nltk', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_version_is_printed():
    assert package_version() in call("--version").stdout


@pytest.fixture(scope="module")
def evaluated(folder):
    call("evaluate", folder / "run", "--cache", folder / "cache", "--metrics", "bleu,rouge,cider")
    return folder


JSON = [
    "shapes {t}/shapes --images 20",
    "preprocess --annotations {f}/collection/train.json --captions-only --cache {t}/c",
    "preprocess --annotations {f}/collection/train.json --images {f}/collection/images "
    "--cache {t}/c --backbone resnet18 --weights random --dry-run",
    "train base --cache {f}/cache --run {t}/r --dry-run",
    "train base --cache {f}/cache --run {t}/r --steps 1 --hidden 8 --embedding 8",
    "evaluate {f}/run --cache {f}/cache --metrics cider",
    "score {f}/run/evaluation/test,metrics=cider/captions.json "
    "--annotations {f}/collection/test.json --metrics cider",
    "caption {f}/run {f}/collection/images/test-017.png",
    "compare {f}/run --resamples 9",
    "report {f}/run --out {t}/report.html --resamples 9",
    "explore {f}/run --cache {f}/cache",
    "export {f}/run --out {t}/model",
    "push {t}/model {t}/models",
    "pull {t}/models {t}/again",
    "tune base --cache {f}/cache --run {t}/tune --trials 1 --budget 1 --validations 1 --hidden 8",
    "doctor",
    "doctor {f}/collection/images",
    "cache info {f}/cache",
    "cache verify {f}/cache",
    "cache repair {t}/cache",
    "cache diff {f}/cache {t}/cache",
    "cache merge {f}/cache --into {t}/both",
    "cache push {f}/cache {t}/remote",
    "cache pull {f}/cache {t}/pulled",
    "cache export {f}/cache --out {t}/v.npy --names {t}/names.txt",
    "cache import {t}/v.npy --names {t}/names.txt --into {t}/imported --architecture x --weights y",
]


def test_every_command_prints_json_and_nothing_else(evaluated, tmp_path):
    shutil.copytree(evaluated / "cache", tmp_path / "cache")
    for line in JSON:
        words = shlex.split(line.format(f=evaluated, t=tmp_path))
        result = CliRunner().invoke(main, [*words, "--json"])
        assert result.exit_code in (0, 3), (line, result.output, result.exception)
        assert json.loads(result.stdout), line


def test_every_command_is_tried_with_json():
    tried = {tuple(itertools.takewhile(str.isalpha, line.split())) for line in JSON}
    for name, command in main.commands.items():
        if name == "cache":
            assert {("cache", sub) for sub in command.commands} <= tried
        elif name not in ("demo", "app"):  # take minutes, or do not end; test_demo.py, test_app.py
            assert any(words[0] == name for words in tried), name


@pytest.mark.parametrize("form", ["--markdown", "--latex"])
def test_tables_in_other_forms_exclude_json(evaluated, form):
    asked = ("compare", evaluated / "run", "--resamples", 9, form)
    mark = "|" if form == "--markdown" else "tabular"
    assert mark in call(*asked).stdout
    refused = call(*asked, "--json", expect=2)
    assert refused.stderr == f"error: --json and {form}: choose one\n"


def test_a_switch_of_a_file_can_be_taken_back(folder, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("tie-embeddings: true\ncell: gru\n")
    for name, switch in (("tied", []), ("untied", ["--no-tie-embeddings"])):
        call("train", "base", "--cache", folder / "cache", "--run", tmp_path / name, "--config",
             file, "--steps", 1, *SMALL, *switch)  # fmt: skip
    tied, untied = (json.loads((tmp_path / name / "config.json").read_text())
                    for name in ("tied", "untied"))  # fmt: skip
    assert tied["parameters"] == untied["parameters"] - 12 * 32  # one matrix: 8 words and 4 marks
    assert tied["options"]["cell"] == "gru"


def test_a_training_can_be_resumed_and_copied_without_its_system(folder, tmp_path):
    asked = ("train", "--cache", folder / "cache", "--run", tmp_path / "r")
    assert "SYSTEM: the system is missing" in call(*asked, expect=2).stderr
    call(*asked, "base", "--steps", 1, *SMALL)
    call("train", "--run", tmp_path / "r", "--resume", "--steps", 2)
    call("train", "--run", tmp_path / "copy", "--config", tmp_path / "r" / "config.json")
    for run, steps in (("r", 2), ("copy", 1)):
        lines = (tmp_path / run / "checkpoints" / "last" / "state.json").read_text()
        assert json.loads(lines)["step"] == steps


def test_a_stopped_training_says_how_to_go_on(folder, tmp_path):
    arguments = ["train", "base", "--cache", str(folder / "cache"), "--run", str(tmp_path / "r"),
                 "--steps", "100000", *SMALL]  # fmt: skip
    process = subprocess.Popen([sys.executable, "cli.py", *arguments], cwd=ROOT, text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    metrics = tmp_path / "r" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()) and process.poll() is None:
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert f"train --run {tmp_path / 'r'} --resume" in stderr
    assert (tmp_path / "r" / "checkpoints" / "last" / "weights.safetensors").exists()


def test_a_cache_travels_is_checked_and_repaired(folder, tmp_path):
    cache, copy = folder / "cache", tmp_path / "copy"
    assert "0 faults" in call("cache", "verify", cache).stdout
    pushed = call("cache", "push", cache, tmp_path / "remote")
    digest = pushed.stdout.split()[-1]
    call("cache", "pull", tmp_path / "remote", copy, "--digest", digest)
    wrong = "sha256:" + "0" * 64
    refused = call(
        "cache", "pull", tmp_path / "remote", tmp_path / "no", "--digest", wrong, expect=1
    )
    assert "0" * 12 in refused.stderr

    shard = next((copy / "features").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert shard.name in call("cache", "verify", copy, expect=1).stdout
    images = folder / "collection" / "images"
    call("cache", "repair", copy, "--images", images)
    assert "0 faults" in call("cache", "verify", copy, "--quick").stdout
    assert "20 images in both" in call("cache", "diff", cache, copy).stdout

    call("cache", "merge", cache, copy, "--into", tmp_path / "both")
    matrix, names = tmp_path / "v.npy", tmp_path / "names.txt"
    call("cache", "export", tmp_path / "both", "--out", matrix, "--names", names)
    call("cache", "import", matrix, "--names", names, "--into", tmp_path / "imported",
         "--architecture", "resnet18", "--weights", "as stated")  # fmt: skip
    info = call("cache", "info", tmp_path / "imported").stdout
    assert "imported, provenance as stated by the user" in info
    call("train", "base", "--cache", copy, "--run", tmp_path / "run", "--steps", 1, *SMALL)
