"""The version of this software."""

from importlib import metadata


def package_version() -> str:
    """Return the installed version, or "unknown" where the package is not installed."""
    try:
        return metadata.version("multispace-captioning")
    except metadata.PackageNotFoundError:
        return "unknown"
