"""Where the predictions of a display come from: fitted estimators, or a cross-validation."""

from typing import Any

import numpy as np
import pandas as pd

from .._private_errors import no_values_in_errors
from ._label_panels import out_of_fold


class PredictionSources:
    """Class methods of a display that has `from_predictions(y_true, values_by_model, ...)`."""

    # what the display brings
    from_predictions: Any

    @classmethod
    def from_estimator(cls, estimators, X, y, **options):
        """Let fitted models predict rows, and draw.

        Parameters
        ----------
        estimators : estimator, or dict of str to estimator
            Fitted classifiers with `predict_proba`; one alone has its class as a name.

        X : array-like or DataFrame of shape (n_samples, n_features)
            Rows that they were not fitted on.

        y : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        **options : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        display : object of this class
            The figure with its numbers.
        """
        if not isinstance(estimators, dict):
            estimators = {type(estimators).__name__: estimators}
        with no_values_in_errors():
            scores = {name: each.predict_proba(X) for name, each in estimators.items()}
        return cls.from_predictions(y, scores, **options)

    @classmethod
    def from_cv_results(cls, cv_results, X, y, **options):
        """Pool what each fold's model predicts for the rows that it did not see, and draw.

        Parameters
        ----------
        cv_results : dict, or dict of str to dict
            What :func:`~sklearn.model_selection.cross_validate` gives with
            ``return_estimator=True, return_indices=True``; or several of them by the model's name.

        X : array-like or DataFrame of shape (n_samples, n_features)
            The rows of the cross-validation.

        y : array-like of shape (n_samples, n_labels)
            Their labels, 0 or 1.

        **options : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        display : object of this class
            The figure with its numbers.
        """
        several = cv_results if "indices" not in cv_results else {"out of fold": cv_results}
        if options.get("target_names") is None and isinstance(y, pd.DataFrame):
            options["target_names"] = y.columns
        labels = np.asarray(y)
        scores = {}
        for name, results in several.items():
            rows, scores[name] = out_of_fold(results, X, y)
            if len(np.unique(rows)) != len(labels) or len(rows) != len(labels):
                raise ValueError(
                    f"the folds of {name!r} do not hold out every row once; use a splitter whose "
                    "test sets part the rows, not a repeated or random one."
                )
            scores[name] = scores[name][np.argsort(rows)]
        return cls.from_predictions(labels, scores, **options)
