"""Named sets of options of `train`."""

from typing import Any

from multispace.model.options import is_used

PRESETS: dict[str, dict[str, Any]] = {
    # The paper's values, and usual ones where it gives none. They stay if defaults change.
    "paper": {
        "batch_size": 128,
        "learning_rate": 1e-3,
        "embedding": 512,
        "hidden": 512,
        "z_size": 128,
        "categories": (128,),
        "temperature": 0.67,
        "annealing": "logistic",
        "annealing_midpoint": 2500.0,
        "annealing_slope": 0.0025,
    },
    # For a first look: a third of the arithmetic per token, and fewer, larger steps.
    "fast": {
        "epochs": 10,
        "batch_size": 256,
        "learning_rate": 2e-3,
        "lr_schedule": "cosine",
        "embedding": 256,
        "hidden": 256,
    },
    # For a collection of some thousand images: found on the validation split of Flickr8k for
    # `base` and the joint systems (docs/results.md).
    "flickr8k": {
        "epochs": 18,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "lr_schedule": "cosine",
        "embedding": 256,
        "hidden": 256,
        "dropout": 0.35,
        "word_dropout": 0.05,
        "label_smoothing": 0.1,
    },
}
_JOINT: dict[str, Any] = {"categories": (16,) * 8, "capacity_c_max": 10.0, "scale_c": 1.0}
# What a preset adds for a system.
PRESETS_OF_SYSTEMS: dict[str, dict[str, dict[str, Any]]] = {
    "flickr8k": {"joint": {**_JOINT, "capacity_z_max": 400.0}, "joint-cvae": _JOINT},
}


def preset_options(preset: str, system: str) -> dict[str, Any]:
    """Return the options that a preset sets for a system."""
    values = {**PRESETS[preset], **PRESETS_OF_SYSTEMS.get(preset, {}).get(system, {})}
    return {name: value for name, value in values.items() if is_used(name, system)}
