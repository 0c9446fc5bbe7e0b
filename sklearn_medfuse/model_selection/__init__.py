"""Splitters for multi-label data with several stays per patient."""

from ._multilabel_stratified_group_k_fold import MultilabelStratifiedGroupKFold

__all__ = ["MultilabelStratifiedGroupKFold"]
