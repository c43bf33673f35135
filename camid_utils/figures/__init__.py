"""Figures: every function draws the data it is given and says which data they are."""

from . import curves, examples, photographs, results, scores, style

__all__ = ["curves", "examples", "photographs", "results", "scores", "style"]
