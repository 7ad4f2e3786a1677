"""The generated collection: pictures of two shapes, their captions, and the truth about both."""

from data.shapes.captions import Mention, caption_accuracy, captions_of, mentions
from data.shapes.collection import ShapesSummary, generate_shapes, read_factors
from data.shapes.picture import render
from data.shapes.scene import Scene, Thing, factor_values

__all__ = [
    "Mention",
    "Scene",
    "ShapesSummary",
    "Thing",
    "caption_accuracy",
    "captions_of",
    "factor_values",
    "generate_shapes",
    "mentions",
    "read_factors",
    "render",
]
