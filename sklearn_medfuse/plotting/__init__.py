"""Figures that hold their numbers and draw when asked."""

from ._label_scores_display import LabelScoresDisplay

__all__ = ["LabelScoresDisplay"]
