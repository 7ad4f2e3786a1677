"""Each script of `benchmarks` runs with its smallest sizes. Its figures are not looked at.

They take two minutes together, and are left out unless ``-m benchmarks`` asks for them.
"""

import importlib
import json
import subprocess
import sys

import pytest
import torch
from support.paths import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = (
    "workload",
    "cache",
    "cache_growth",
    "caption_growth",
    "decoding",
    "extraction",
    "feeding",
    "growth",
    "ray_nodes",
    "training",
)


@pytest.fixture(scope="module")
def workloads(tmp_path_factory):
    return tmp_path_factory.mktemp("workloads")


@pytest.fixture
def scripts(monkeypatch):
    """Make the scripts importable, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before, threads = set(sys.modules), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    own = {path.stem for path in FOLDER.glob("*.py")} | {"on_gpu"}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        if name not in before:
            del sys.modules[name]


def test_no_script_is_missing_here():
    others = {"measurement", "plain_captioner", "gpu", "results"}  # the last one trains for hours
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SCRIPTS, *others}


@pytest.mark.benchmarks
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs_and_prints_a_table(script, scripts, workloads, capsys):
    if script == "ray_nodes":
        pytest.importorskip("ray")
    threads = [] if script == "workload" else ["--threads", "1"]
    importlib.import_module(script).main(["--quick", "--workloads", str(workloads), *threads])
    assert "| --- |" in capsys.readouterr().out


NOT_NEEDED = "rfc8785 yaml tqdm tensorboard nltk pycocotools pycocoevalcap sklearn matplotlib"


def test_the_script_for_gpus_needs_few_packages():
    code = f"""
import importlib, sys
for name in {NOT_NEEDED.split()!r}:
    sys.modules[name] = None
sys.path[:0] = [{str(FOLDER)!r}]
import gpu
for part in gpu.PARTS.values():
    importlib.import_module(part)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.benchmarks
def test_the_script_for_gpus_writes_its_figures(scripts, workloads, tmp_path, capsys):
    file = tmp_path / "gpu.json"
    importlib.import_module("gpu").main(
        ["--quick", "--device=cpu", "--threads=1", f"--json={file}", f"--workloads={workloads}"]
    )
    found = json.loads(file.read_text())
    assert list(found["seconds"]) == ["correctness", "train", "decode", "extract"]
    assert "| --- |" in capsys.readouterr().out
    assert all(row.get("within", True) for row in found["correctness"])
    assert [row["beam"] for row in found["decode"]] == [1, 5]
    with pytest.raises(SystemExit):
        importlib.import_module("gpu").main(["--only=training"])
