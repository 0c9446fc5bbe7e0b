"""MaskedLabEncoder: masked lab-test modeling as a scikit-learn transformer."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._nn.masked_autoencoder import MaskedLabAutoencoder
from .._state import NetStateMixin, for_inference
from .._training import (
    check_heads,
    draw_seed,
    resolve_device,
    resolve_device_to_load,
    torch_seed,
)
from ._lab_input import fill_like, validate_labs
from ._lab_sparse import rows_with_labs, to_dense
from ._lab_values import LabCells, expand, lab_center_and_scale
from ._masked_training import MaskedTrainer, r2_hidden

_MIN_VALIDATION_ROWS = 10
_PREDICTION_BATCH = 1024
# impute asks for every lab of every row: of a wide table it takes fewer rows at once
_IMPUTED_CELLS_AT_ONCE = 65_536


class MaskedLabEncoder(
    NetStateMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Embed lab tests with a masked autoencoder that takes missing values as they are.

    Each measured lab test is a token, made of which lab it is and of its value. In training a
    share of the *observed* tests of every row is hidden; a transformer encodes the visible
    ones only, and a shallow decoder predicts the hidden ones. A test that was not measured
    is in neither part and nothing is ever filled in for it. The encoder's summary token,
    projected to `n_components`, is the embedding of the row.

    Parameters
    ----------
    n_components : int, default=64
        Width of the embedding.
    mask_ratio : float or tuple of two floats, default=0.75
        Share of a row's observed tests that is hidden in training, within (0, 1); of a tuple
        (low, high) each row draws its own share. At least one is hidden and, of two or more,
        at least one stays visible.
    d_model : int, default=64
        Width of a token; a multiple of `n_heads`.
    n_heads : int, default=4
        Number of attention heads.
    n_layers : int, default=3
        Number of encoder blocks.
    n_decoder_layers : int, default=1
        Number of decoder blocks.
    dropout : float, default=0.1
        Dropout probability.
    max_epochs : int, default=50
        Passes over the training rows at most.
    batch_size : int, default=128
        Rows per optimiser step.
    learning_rate : float, default=2e-3
        Peak learning rate of AdamW, reached after a tenth of the epochs and annealed to 0.
    weight_decay : float, default=1e-2
        Weight decay of AdamW.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not risen for
        `n_iter_no_change` epochs, and keep the best epoch's weights. Without effect when
        fewer than ten rows would be held out.
    validation_fraction : float, default=0.1
        Share of the rows held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without a better validation score before training stops.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row in which no lab was measured: NaN, which
        `MEDFuseClassifier` reads as an absent modality, or zeros.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, row order, masks, dropout and the validation split.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_in_ : int
        Number of lab columns seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.
    levels_ : list of (list of str, or None)
        For each lab its qualitative results from low to high, in the spelling most frequent in
        fit; None for a numeric lab.
    center_ : ndarray of shape (`n_features_in_`,)
        Mean of each lab in training, winsorised, in the lab's own unit or in positions in its
        levels; NaN where never measured.
    scale_ : ndarray of shape (`n_features_in_`,)
        Standard deviation likewise.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float
        R² on hidden cells of the validation rows after each epoch; empty without early stopping.
    n_iter_ : int
        Number of epochs run.
    best_epoch_ : int
        The epoch, counted from 1, whose weights were kept.

    See Also
    --------
    MEDFuseClassifier : Fuses this embedding with that of the notes.

    Notes
    -----
    The method is part 3 of MEDFuse [1]_ on the lines of masked autoencoders [2]_ and ReMasker
    [3]_.

    A DataFrame, or an array or list of objects, may hold results as hospitals write them. Numbers
    may be texts; a censored result ("<0.01", ">90", "≥ 3") counts as its limit. No text with a
    comma is a number, as 1,200 may mean 1.2. A column with more words than numbers is
    qualitative: its distinct results are levels, ordered as clinicians do where the words are
    known (negative < trace < 1+, small < 2+, moderate < 3+, large < 4+; negative < positive; normal
    < abnormal; case and blanks do not matter), then by their first number ("30" < "100"), then
    by the alphabet, and a level's position is standardised like a number. That keeps one way of
    embedding for all labs and gives neighbouring levels similar tokens; the price is equal steps
    between levels, and an arbitrary order of words without one, such as colours.

    A text in a numeric column, a level that fit did not see, and a word or number that a
    qualitative column holds only once in fit (known grades apart) count as not measured; one
    warning says how many there were and where, never what they were. Since `levels_` is
    saved with the model, a column of more than 50 levels, of long texts, or of mostly different
    ones is refused as free text.

    Sparse input is never made dense but by `impute`. An entry of 0 is a measured zero there.

    References
    ----------
    .. [1] Phan et al., "MEDFuse: Multimodal EHR Data Fusion with Masked Lab-Test Modeling and
       Large Language Models", CIKM 2024, arXiv 2407.12309.
    .. [2] He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
    .. [3] Du, Melis, Wang, "ReMasker: Imputing Tabular Data with Masked Autoencoding", ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse import MaskedLabEncoder
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 1)) + 0.1 * rng.normal(size=(60, 5))
    >>> X[rng.random(X.shape) < 0.3] = np.nan
    >>> encoder = MaskedLabEncoder(n_components=4, max_epochs=5, random_state=0).fit(X)
    >>> encoder.transform(X).shape
    (60, 4)
    >>> bool(np.isnan(encoder.impute(X)).any())
    False

    Results as the hospital writes them:

    >>> import pandas as pd
    >>> X = pd.DataFrame({"crp": ["<0.5", "12", None, "90"] * 9, "ketones": ["NEG", "2+"] * 18})
    >>> encoder.fit(X).levels_
    [None, ['NEG', '2+']]
    >>> encoder.impute(X)["crp"].iloc[[0, 1, 3]].tolist()
    ['<0.5', '12', '90']
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "mask_ratio": [Interval(Real, 0, 1, closed="neither"), tuple, list],
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "absent": [StrOptions({"nan", "zero"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _transient = ("_module",)

    def __init__(
        self,
        n_components=64,
        *,
        mask_ratio=0.75,
        d_model=64,
        n_heads=4,
        n_layers=3,
        n_decoder_layers=1,
        dropout=0.1,
        max_epochs=50,
        batch_size=128,
        learning_rate=2e-3,
        weight_decay=1e-2,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        absent="nan",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.mask_ratio = mask_ratio
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.n_decoder_layers = n_decoder_layers
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.absent = absent
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Learn the labs' distribution from their observed values.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in any unit, one column per lab: numbers, or results as the hospital
            writes them (see Notes). NaN, None, a blank text and, in a sparse matrix, an absent
            entry mean not measured.
        y : None
            Ignored.

        Returns
        -------
        MaskedLabEncoder
            The fitted encoder.

        Raises
        ------
        TypeError
            Where a cell is neither a number nor a text.
        ValueError
            Where a column looks like free text, X holds infinity, or a sparse X cannot tell an
            absent entry from a zero (BSR and DIA format) or holds a cell twice.
        """
        self._validate_params()
        mask_ratio = self._checked_mask_ratio()
        X, self.levels_ = validate_labs(self, X)
        self.center_, self.scale_ = lab_center_and_scale(X)
        self._warn_of_empty_labs()

        rng = check_random_state(self.random_state)
        train, validation = self._split(X, rng)
        device = resolve_device(self.device)
        with torch_seed(draw_seed(rng), device) as generator:
            module = self._build_module().to(device)
            trainer = MaskedTrainer(
                module,
                mask_ratio=mask_ratio,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                max_epochs=self.max_epochs,
                patience=self.n_iter_no_change,
                generator=generator,
            )
            if len(train):
                trainer.run(train, validation, self.verbose)
        self._module = for_inference(module, device)
        self.loss_curve_ = trainer.loss_curve
        self.validation_scores_ = trainer.validation_scores
        self.n_iter_ = len(trainer.loss_curve)
        self.best_epoch_ = trainer.best_epoch
        return self

    def transform(self, X):
        """Embed each row's observed lab values.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_components)
            One vector per row; where no lab was measured, NaN or zeros as `absent` says.
        """
        check_is_fitted(self)
        cells = self._cells(validate_labs(self, X, self.levels_)[0])
        embedding = np.full(
            (len(cells), self.n_components), np.nan if self.absent == "nan" else 0.0
        )
        for rows, batch in self._batches(cells, np.flatnonzero(cells.n_measured)):
            with torch.inference_mode():
                embedding[rows] = self._module.forward_encoder(batch)[2].cpu().numpy()
        return embedding

    def impute(self, X):
        """Fill in what was not measured by what the model expects.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.

        Returns
        -------
        ndarray or DataFrame of shape (n_rows, n_labs)
            A copy of X, a DataFrame when X is one, a dense array when X is sparse. Observed cells
            are unchanged, to the bit or the letter. A qualitative lab is filled with the nearest
            of its levels, a column of numbers as texts with texts of six digits; a column of
            integers with gaps becomes one of floats. A result that could not be read counts as
            not measured and is replaced. A lab that was never measured in fit is filled with 0.
        """
        check_is_fitted(self)
        values = to_dense(validate_labs(self, X, self.levels_)[0])
        filled = self._filled(values)
        return fill_like(X, values, filled, self.levels_)

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

    def _checked_mask_ratio(self) -> tuple[float, float]:
        if isinstance(self.mask_ratio, Real):
            return float(self.mask_ratio), float(self.mask_ratio)
        bounds = tuple(self.mask_ratio)
        numbers = len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
        if not numbers or not 0 < bounds[0] <= bounds[1] < 1:
            raise ValueError(
                f"mask_ratio={self.mask_ratio!r} must be a number within (0, 1), or two of them, "
                "the lower first."
            )
        return bounds

    def _warn_of_empty_labs(self) -> None:
        empty = np.flatnonzero(np.isnan(self.center_))
        if len(empty):
            warnings.warn(
                f"{len(empty)} of {len(self.center_)} lab columns have no measured value in fit, "
                f"first at position {empty[0]}; transform ignores them and impute fills them "
                "with 0.",
                UserWarning,
                stacklevel=3,
            )

    def _split(self, X, rng) -> tuple[LabCells, LabCells | None]:
        """Rows with any measured lab, split into training and validation rows."""
        X = rows_with_labs(X)
        n_validation = round(self.validation_fraction * X.shape[0])
        if not self.early_stopping or n_validation < _MIN_VALIDATION_ROWS:
            return self._cells(X), None
        order = rng.permutation(X.shape[0])
        return self._cells(X[order[n_validation:]]), self._cells(X[order[:n_validation]])

    def _cells(self, X) -> LabCells:
        read = LabCells.from_csr if sparse.issparse(X) else LabCells.from_dense
        return read(X, self.center_, self.scale_)

    def _build_module(self) -> MaskedLabAutoencoder:
        check_heads(self.d_model, self.n_heads)
        return MaskedLabAutoencoder(
            self.n_features_in_,
            n_components=self.n_components,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            n_decoder_layers=self.n_decoder_layers,
            dropout=self.dropout,
        )

    def _batches(self, cells: LabCells, rows: np.ndarray, size: int = _PREDICTION_BATCH):
        """Yield rows and their packed cells, rows of like length together."""
        rows = rows[np.argsort(cells.n_measured[rows], kind="stable")]
        device = next(self._module.parameters()).device
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield part, cells.batch(part, torch.float64, device)

    def _filled(self, X: np.ndarray) -> np.ndarray:
        filled = X.copy()
        known = np.isfinite(self.center_)
        missing = np.isnan(X)
        filled[missing & ~known] = 0.0
        missing &= known
        cells = self._cells(X)
        labs = torch.arange(self.n_features_in_)
        size = min(max(_IMPUTED_CELLS_AT_ONCE // self.n_features_in_, 1), _PREDICTION_BATCH)
        for rows, batch in self._batches(cells, np.flatnonzero(missing.any(axis=1)), size):
            with torch.inference_mode():
                encoded = self._module.forward_encoder(batch)
                queries = labs.to(batch.lab.device).expand(len(rows), -1)
                z = expand(self._module.forward_decoder(*encoded, queries)[0].cpu().numpy())
            expected = np.where(known, self.center_, 0.0) + z * self.scale_
            filled[rows] = np.where(missing[rows], expected, filled[rows])
        return filled

    @property
    def _n_features_out(self) -> int:
        return self.n_components

    def _get_module(self):
        return getattr(self, "_module", None)

    def _restore_module(self) -> MaskedLabAutoencoder:
        device = resolve_device_to_load(self.device)
        self._module = for_inference(self._build_module(), device)
        return self._module

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        # not `string`: to scikit-learn that means any object, a dict too, which is refused here
        return tags
