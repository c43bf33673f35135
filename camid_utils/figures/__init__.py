"""Figures: every function draws the data it is given and says which data they are."""

from . import curves, photographs, results, scores, style

__all__ = ["curves", "photographs", "results", "scores", "style"]
