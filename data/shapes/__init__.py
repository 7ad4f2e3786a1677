"""The generated collection: images of two shapes, their captions, and the true factors."""

from multispace.data.shapes.descriptions import open_captions
from multispace.data.shapes.drawing import render
from multispace.data.shapes.generator import ShapesSummary, generate_shapes, read_factors
from multispace.data.shapes.scene import Scene, Thing, factor_values
from multispace.data.shapes.sentences import Mention, caption_accuracy, full_captions, mentions

__all__ = [
    "Mention",
    "Scene",
    "ShapesSummary",
    "Thing",
    "caption_accuracy",
    "factor_values",
    "full_captions",
    "generate_shapes",
    "mentions",
    "open_captions",
    "read_factors",
    "render",
]
