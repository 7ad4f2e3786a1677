import subprocess
import sys
from importlib import metadata

import multispace
from multispace.version import package_version


def test_the_version_is_that_of_the_installed_package(monkeypatch):
    assert multispace.__version__ == package_version() == metadata.version("multispace-captioning")

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert multispace.__version__ == "unknown"


def test_the_version_needs_no_torch():
    code = "import sys, multispace; multispace.__version__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
