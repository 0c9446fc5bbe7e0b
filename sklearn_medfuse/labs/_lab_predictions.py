"""What a fitted lab encoder says of labs: imputed values, scores, errors and dependence."""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from .._nn.masked_autoencoder import MaskedLabAutoencoder
from .._training import draw_seed
from ._lab_cells import LabCells, LabResults
from ._lab_imputation import LabImputer
from ._lab_input import fill_like, validate_labs
from ._lab_scale import LabScale
from ._lab_sparse import to_dense
from ._masked_training import predict_hidden, r2_hidden


class LabPredictionsMixin:
    """Methods of `MaskedLabEncoder` that answer in labs rather than in vectors."""

    n_features_in_: int
    levels_: list
    random_state: Any
    center_: np.ndarray
    scale_: np.ndarray
    _knots: np.ndarray
    _module: MaskedLabAutoencoder

    @property
    def _scale(self) -> LabScale:
        return LabScale(self.center_, self.scale_, self._knots)

    def _cells(self, X) -> LabCells:
        return self._scale.cells(LabResults.from_table(X))

    def impute(self, X, return_std=False, n_imputations=None):
        """Fill in what was not measured by what the model expects.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.
        return_std : bool, default=False
            Return standard deviations too.
        n_imputations : int, default=None
            Return so many tables, whose missing cells are drawn from the predictive distribution,
            a row's cells jointly, for multiple imputation (Rubin 1987). None returns one, of
            expected values. The draws come from `random_state`.

        Returns
        -------
        imputed : ndarray or DataFrame of shape (n_rows, n_labs), or a list of them
            A copy of X, a DataFrame when X is one, a dense array when X is sparse. Observed cells
            are unchanged, to the bit or the letter. A qualitative lab is filled with the nearest
            of its levels, a column of numbers as texts with texts of six digits; a column of
            integers with gaps becomes one of floats. A result that could not be read counts as
            not measured and is replaced. A lab that fewer than five rows of fit have measured is
            filled with 0.
        std : ndarray of shape (n_rows, n_labs)
            Only with `return_std`: standard deviation of each filled cell in the lab's unit, or
            in positions in its levels; 0 where measured.
        """
        check_is_fitted(self)
        values = to_dense(validate_labs(self, X, self.levels_)[0])
        imputer = LabImputer(self._module, self._scale, self._cells(values), np.isnan(values))
        if n_imputations is None:
            imputed = fill_like(X, values, imputer.expected(values), self.levels_)
        else:
            check_scalar(n_imputations, "n_imputations", Integral, min_val=1)
            seed = draw_seed(check_random_state(self.random_state))
            imputed = [
                fill_like(X, values, drawn, self.levels_)
                for drawn in imputer.draws(values, n_imputations, seed)
            ]
        return (imputed, imputer.spread()) if return_std else imputed

    def score(self, X, y=None):
        """Hide a fifth of the observed cells and score their prediction from the rest.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.
        y : None
            Ignored.

        Returns
        -------
        float
            R² over all hidden cells, each lab in its standard deviations, against predicting the
            training mean: 1 is perfect, 0 no better than the mean. The same cells are hidden at
            every call on the same X. NaN when nothing was measured.
        """
        check_is_fitted(self)
        cells = self._cells(validate_labs(self, X, self.levels_)[0])
        return r2_hidden(self._module, cells, seed=0) if len(cells.lab) else np.nan

    def reconstruct(self, X):
        """Hide a fifth of the observed cells, those of `score`, and predict them from the rest.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.

        Returns
        -------
        DataFrame of shape (n_hidden, 4)
            Of each hidden cell its `lab`, by name, by position where labs have no names; its
            `true` and `predicted` value in the lab's unit, or in positions in its levels; and the
            prediction's standard deviation `std` likewise.
        """
        check_is_fitted(self)
        cells = self._cells(validate_labs(self, X, self.levels_)[0])
        if not len(cells.lab):
            return pd.DataFrame({"lab": [], "true": [], "predicted": [], "std": []})
        hidden = predict_hidden(self._module, cells, seed=0)
        in_units = self._scale.in_units
        low, high = (
            in_units(hidden.predicted + sign * hidden.spread / 2, hidden.lab) for sign in (-1, 1)
        )
        names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))
        return pd.DataFrame(
            {
                "lab": names[hidden.lab],
                "true": in_units(hidden.true, hidden.lab),
                "predicted": in_units(hidden.predicted, hidden.lab),
                "std": high - low,
            }
        )

    def lab_correlation(self):
        """Correlation of the labs' values, and of their ranks, that the linear part has learned.

        Returns
        -------
        DataFrame of shape (n_labs, n_labs)
            Mean of the two, by name, by position where labs have no names; NaN for a lab of which
            nothing was learned.

        Raises
        ------
        ValueError
            Where `n_factors` is 0, so that there is no linear part.
        """
        check_is_fitted(self)
        prior = self._module.prior
        if prior is None:
            raise ValueError("lab_correlation needs the linear part; fit with n_factors above 0.")
        both = [model.correlation() for model in (prior.of_values, prior.of_scores)]
        correlation = ((both[0] + both[1]) / 2).cpu().numpy()
        unknown = ~self._scale.known
        correlation[unknown] = correlation[:, unknown] = np.nan
        names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))
        return pd.DataFrame(correlation, index=names, columns=names)
