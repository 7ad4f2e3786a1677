"""Image captioning with joint continuous and discrete latent spaces, from shared feature caches.

``import multispace as ms`` is quick: each name loads what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multispace import errors
    from multispace.api.commands import (
        compare,
        evaluate,
        export,
        preprocess,
        report,
        score,
        shapes,
        train,
        tune,
    )
    from multispace.api.feature_cache import open_cache
    from multispace.api.trained_run import load_run
    from multispace.errors import Error

    __version__: str

__all__ = [
    "Error",
    "__version__",
    "compare",
    "errors",
    "evaluate",
    "export",
    "load_run",
    "open_cache",
    "preprocess",
    "report",
    "score",
    "shapes",
    "train",
    "tune",
]

_COMMANDS = (
    "compare",
    "evaluate",
    "export",
    "preprocess",
    "report",
    "score",
    "shapes",
    "train",
    "tune",
)
_MODULES = {
    "Error": "multispace.errors",
    "load_run": "multispace.api.trained_run",
    "open_cache": "multispace.api.feature_cache",
    **dict.fromkeys(_COMMANDS, "multispace.api.commands"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from multispace.version import package_version

        return package_version()
    if name == "errors":
        return import_module("multispace.errors")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
