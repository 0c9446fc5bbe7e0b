"""Fusion: from the embeddings of labs and notes to diseases."""

from ._classifier import MEDFuseClassifier

__all__ = ["MEDFuseClassifier"]
