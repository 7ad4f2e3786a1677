"""The wheel: what it holds, and that it works beside files that have the names of its folders."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

pytest.importorskip("setuptools", "70.1", reason="needs setuptools to build the wheel")

SOURCES = ("multispace", "data", "model", "pipeline", "cli.py", "setup.cfg", "pyproject.toml",
           "MANIFEST.in", "README.md", "LICENSE")  # fmt: skip
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
LINKED = ("data", "model", "pipeline")
HOSTILE = "raise SystemExit('a file of the current folder was imported')\n"


def build(kind: str, source: Path, out: Path) -> Path:
    """Build the ``wheel`` or the ``sdist`` of a source tree, as pip does, without a network."""
    script = f"from setuptools.build_meta import *; print(build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, so that nothing is built inside it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's content, as an installation leaves it in site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def hostile(tmp_path):
    """A folder whose files have the names of the package's folders."""
    for name in ("model.py", "pipeline.py", "cli.py", "data/__init__.py", "data/images.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(HOSTILE)
    return tmp_path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_adds_multispace_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"multispace"}
    assert len(tops) == 2


def test_the_wheel_holds_each_file_of_the_checkout(wheel, source):
    files = [path for folder in LINKED for path in (source / folder).rglob("*") if path.is_file()]
    files += [source / "cli.py", *(p for p in (source / "multispace").rglob("*") if p.is_file())]
    expected = {}
    for path in files:
        name = path.relative_to(source).as_posix()
        name = name if name.startswith("multispace/") else f"multispace/{name}"
        expected[name] = path.read_bytes()
    assert "multispace/pipeline/reporting/templates/report.html.j2" in expected
    assert "multispace/py.typed" in expected
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in names_in(wheel)}
        assert not any(info.external_attr >> 28 == 0o12 for info in archive.infolist())  # links
    packed = {name: content for name, content in held.items() if name.startswith("multispace/")}
    assert packed.keys() == expected.keys()
    assert packed == expected


def test_the_source_archive_builds_the_same_wheel(source, wheel, tmp_path):
    archive = build("sdist", source, tmp_path)
    with tarfile.open(archive) as file:
        assert not any(member.issym() or member.islnk() for member in file.getmembers())
        file.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert not (unpacked / "tests").exists()
    again = build("wheel", unpacked, tmp_path)
    assert names_in(again) == names_in(wheel)


def run(command: list[str], folder: Path, path: Path) -> str:
    """Run Python in ``folder`` with the modules of ``path`` first; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def console_script(installed: Path) -> list[str]:
    """Return the arguments of Python that do what the installed command ``multispace`` does."""
    parser = configparser.ConfigParser()
    parser.read(next(installed.glob("*.dist-info")) / "entry_points.txt")
    module, function = parser["console_scripts"]["multispace"].split(":")
    return ["-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


def test_the_three_ways_to_run_a_command_are_the_same(installed, hostile):
    arguments = ["shapes", "shapes", "--images", "10", "--json"]
    printed, made = [], []
    for command, path in (
        (console_script(installed), installed),
        (["-m", "multispace"], installed),
        ([str(ROOT / "cli.py")], ROOT),
    ):
        printed.append(run([*command, *arguments], hostile, path))
        made.append({p.name: p.read_bytes() for p in (hostile / "shapes").rglob("*.*")})
        shutil.rmtree(hostile / "shapes")
    assert printed[0] == printed[1] == printed[2]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 13  # images and annotations


def test_the_installed_package_is_the_one_that_runs(installed, hostile):
    script = "import multispace.pipeline.report as r, multispace.cli; print(r.__file__)"
    printed = run(["-c", script], hostile, installed)
    assert Path(printed.strip()) == installed / "multispace" / "pipeline" / "report.py"


def test_five_lines_caption_an_image_beside_other_modules(
    installed, hostile, tiny_run, tiny_collection
):
    image = sorted((tiny_collection / "images").iterdir())[0]
    script = (
        "import multispace as ms\n"
        f"run = ms.load_run({str(tiny_run)!r}, device='cpu')\n"
        f"print(run.caption([{str(image)!r}])[0])\n"
        "print(ms.__file__)\n"
    )
    caption, file = run(["-c", script], hostile, installed).splitlines()
    assert caption.startswith(("a ", "this is all "))
    assert Path(file) == installed / "multispace" / "__init__.py"
