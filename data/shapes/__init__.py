"""The generated collection: images of two shapes, their captions, and the true factors."""

from multispace.data.shapes.drawing import render
from multispace.data.shapes.generator import ShapesSummary, generate_shapes, read_factors
from multispace.data.shapes.scene import Scene, Thing, factor_values
from multispace.data.shapes.sentences import Mention, caption_accuracy, captions_of, mentions

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
