"""Each script of `benchmarks` runs with its smallest sizes. Its figures are not looked at."""

import importlib
import sys

import pytest
import torch
from support.paths import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = (
    "workload",
    "cache",
    "cache_growth",
    "decoding",
    "extraction",
    "feeding",
    "gpu",
    "growth",
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
    for name in {path.stem for path in FOLDER.glob("*.py")} - before:
        sys.modules.pop(name, None)


def test_no_script_is_missing_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        *SCRIPTS,
        "measurement",
        "plain_captioner",
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs_and_prints_a_table(script, scripts, workloads, capsys):
    threads = [] if script == "workload" else ["--threads", "1"]
    importlib.import_module(script).main(["--quick", "--workloads", str(workloads), *threads])
    assert "| --- |" in capsys.readouterr().out
