"""Image captioning with joint continuous and discrete latent spaces, from shared feature caches."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from multispace.version import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
