"""Options for tests that run on several systems."""

from multispace.model.options import is_used


def used_by(system: str, **options: object) -> dict[str, object]:
    """Return ``options`` without those that ``system`` does not use."""
    return {name: value for name, value in options.items() if is_used(name, system)}
