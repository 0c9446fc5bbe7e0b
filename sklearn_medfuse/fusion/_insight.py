"""What a fitted MEDFuseClassifier tells of itself: contributions, importances, information."""

from typing import Any, cast

import numpy as np
import torch
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from .._nn.fusion_parts import FusionParts
from .._private_errors import no_values_in_errors
from ._importance import permute_modalities
from ._scored_model import ScoredModel


class InsightMixin:
    """Methods of a MEDFuseClassifier that explain its predictions."""

    # what the classifier brings
    fusion: str
    mi_weight: float
    modalities_: dict[str, np.ndarray]
    net_: Any
    _target_kind: str
    _mean_contributions: np.ndarray
    _validate_input: Any
    _decisions: Any
    _model: Any
    predict: Any
    part_names_: list[str]

    def contributions(self, X):
        """Say what each part adds to the logits of each row.

        A part's contribution is counted from its mean over the training rows, so that 0 means
        "as usual"; the baseline is the mean logit of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_parts + 1, n_outputs)
            Contributions of the parts of `part_names_`, the baseline last. Their sum over
            the parts is `decision_function`, but for labels that had one value in fit. With two
            classes there is one output, that of the second.
        """
        check_is_fitted(self)
        added = self._contributions(self._validate_input(X))
        centred = added - self._mean_contributions
        # the bias, the last one, is the same in every row; the baseline is it and all the means
        centred[:, -1] = self._mean_contributions.sum(axis=0)
        return centred / getattr(self, "temperatures_", 1.0)

    def modality_importance(self, X, y, *, scoring=None, n_repeats=5, random_state=None):
        """Measure how much a score falls when a modality is shuffled among the rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit, best of rows that were not trained on.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Targets.
        scoring : str, callable or None, default=None
            Score, as in scikit-learn; None is "average_precision", or "neg_log_loss" of several
            classes.
        n_repeats : int, default=5
            Shuffles of each modality.
        random_state : int, RandomState instance or None, default=None
            Source of the shuffles.

        Returns
        -------
        Bunch
            `modalities`, names; `importances_mean` and `importances_std` of shape
            (n_modalities,); `importances` of shape (n_modalities, n_repeats); `score`, the score
            of X as it is.
        """
        check_is_fitted(self)
        if scoring is None:
            several = self._target_kind == "multiclass"
            scoring = "neg_log_loss" if several else "average_precision"
        X = self._validate_input(X)
        # the names of X were checked just now; its shuffled copies are arrays, scored as such
        model = ScoredModel(self._decisions(), self._model().logits)
        with no_values_in_errors():
            return permute_modalities(
                model, self.modalities_, X, y, scoring, n_repeats, random_state
            )

    def score(self, X, y, sample_weight=None):
        """Accuracy, of labels the share of rows with all of them right.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes or labels.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights of rows.

        Returns
        -------
        float
            The accuracy.
        """
        with no_values_in_errors():
            return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def mutual_information(self, X):
        """Estimate how much the shared part tells of the specific ones.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit; a hundred rows or more give a steady estimate.

        Returns
        -------
        float
            Bound of I([S_A, S_B]; S_C) in nats by `mi_estimator`, averaged over the nets. It is a
            bound as far as the critic fits, and needs `mi_weight` > 0 in fit, which trains the
            critic.
        """
        check_is_fitted(self)
        if self.fusion != "disentangled":
            raise ValueError(
                f"mutual_information needs fusion='disentangled'; fusion={self.fusion!r} presses "
                "no parts apart."
            )
        if self.mi_weight == 0:
            raise ValueError(
                "mutual_information needs the critic, which mi_weight=0 leaves untrained; fit with "
                "a small positive mi_weight such as 1e-6 to measure without steering."
            )
        X = self._validate_input(X)
        batches = list(self._model().parts(X))
        parts = [_concatenate(members) for members in zip(*batches, strict=True)]
        with torch.inference_mode():
            return float(self.net_.module_.mutual_information(parts).mean())

    def _contributions(self, X: np.ndarray) -> np.ndarray:
        """Raw contributions (n, n_parts + 1, n_outputs), the bias last."""
        return self._model().contributions(X, self.part_names_[:-1])


def _concatenate(batches: tuple[FusionParts, ...]) -> FusionParts:
    specific = [torch.cat(vectors) for vectors in zip(*(b.specific for b in batches), strict=True)]
    return FusionParts(specific, torch.cat([cast(torch.Tensor, b.shared) for b in batches]))
