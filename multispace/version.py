"""The name and the version of this software."""

from importlib import metadata

SOFTWARE = "multispace-captioning"  # the name of the distribution


def package_version() -> str:
    """Return the installed version, or "unknown" where the package is not installed."""
    try:
        return metadata.version(SOFTWARE)
    except metadata.PackageNotFoundError:
        return "unknown"


def install_hint(extra: str) -> str:
    """Return the hint that installs the packages of an extra."""
    return f"run `pip install '{SOFTWARE}[{extra}]'`"
