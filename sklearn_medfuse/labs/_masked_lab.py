"""MaskedLabEncoder: masked lab-test modeling as a scikit-learn transformer."""

import copy
import warnings
from contextlib import nullcontext
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_consistent_length, check_random_state, check_scalar
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from .._checkpoint import Checkpoint
from .._input_data import no_values_in_errors, to_pandas
from .._nn.masked_autoencoder import MaskedLabAutoencoder
from .._state import NetStateMixin, module_to_bytes
from .._training import (
    check_heads,
    draw_seed,
    for_inference,
    resolve_device,
    resolve_fitted_device,
    torch_seed,
    with_gradients,
)
from .._version import __version__
from ._lab_cells import FEWEST_ROWS, LabCells, LabScale
from ._lab_model import (
    N_FOLDS,
    CallbackSupportMixin,
    LabImputer,
    LabTrainingRows,
    MaskedTrainer,
    calibrate_spread,
    embed_labs,
    embed_rows,
    epochs_of_fit,
    fit_prior,
    predict_hidden,
    split_rows,
    training_rows,
    with_callbacks,
)
from ._lab_start import LabStart
from ._lab_table import fill_like, to_dense, validate_labs

# Parameters that must agree with those of the encoder with which a fit begins
_ARCHITECTURE = ("d_model", "n_components", "n_layers", "n_decoder_layers", "n_factors")
_OF_TRAINER = ("batch_size", "learning_rate", "weight_decay", "max_epochs", "n_iter_no_change")
# Parameters without effect on the result; the seed is treated separately
_NOT_IN_FINGERPRINT = ("checkpoint_dir", "initial", "verbose", "absent", "output", "random_state")


class MaskedLabEncoder(
    NetStateMixin,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed lab tests with a masked autoencoder that takes missing values as they are.

    Each measured lab test is a token that encodes the lab and its value. Training hides a share of
    each row's *observed* tests; a transformer encodes the visible ones only, and a shallow decoder
    predicts the hidden ones. A test that was not measured takes no part, and nothing is filled in
    for it. The summary token, projected to `n_components`, is the row's embedding.

    Two factor models, of the tests' values and of their ranks, are fitted in closed form before the
    net. They predict hidden tests as far as linear dependence allows, and the net learns the rest,
    so that small tables are imputed well too.

    Parameters
    ----------
    n_components : int, default=64
        Width of the embedding.
    mask_ratio : float or tuple of two floats, default=(0.1, 0.7)
        Share of a row's observed tests that is hidden in training, within (0, 1); with a tuple
        (low, high) each row draws its own. If a row has two or more tests, at least one stays
        visible.
    kinds : dict or None, default=None
        "numeric" or "qualitative" by column name (by position if X has no names), for columns
        whose kind is not that of most of their cells (see Notes). Words in a numeric column count
        as not measured; a qualitative column may hold up to 50 different results.
    levels : dict or None, default=None
        Results of qualitative labs from low to high, a list by column name or position, as in
        ``{"colour": ["straw", "amber", "red"]}``. Any other result counts as not measured.
    d_model : int, default=64
        Width of a token; a multiple of `n_heads`.
    n_heads : int, default=4
        Number of attention heads.
    n_layers : int, default=3
        Number of encoder blocks.
    n_decoder_layers : int, default=1
        Number of decoder blocks.
    n_factors : int, default=32
        Number of factors of each factor model; 0 leaves out this linear part.
    dropout : float, default=0.1
        Dropout probability.
    max_epochs : int, default=15
        Maximum number of passes over the training rows. 0 fits only the linear part, which takes a
        fraction of the time and is enough for `impute`, but gives no embedding.
    batch_size : int, default=128
        Rows per optimiser step. A step that does not fit into the device's memory is divided, with
        one warning.
    learning_rate : float, default=2e-3
        Peak learning rate of AdamW, reached after a tenth of the epochs and annealed to 0.
    weight_decay : float, default=1e-2
        Weight decay of AdamW.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, or of the patients if fit gets `groups`; stop
        when their score has not risen for `n_iter_no_change` epochs, and keep the best epoch's
        weights. It has no effect if fewer than ten rows would be held out.
    validation_fraction : float, default=0.1
        Share of the rows, or groups, held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without a better validation score before training stops.
    warm_start : bool, default=False
        Let a second fit start from what the first has learned, as with `initial`.
    initial : MaskedLabEncoder or None, default=None
        Fitted encoder to start from, such as another hospital's, read by `load_model`. Labs of the
        same name (and, if qualitative, the same levels) keep their scale and weights, so they
        must be in the same unit; the others start afresh. `d_model`, `n_components`, `n_layers`,
        `n_decoder_layers` and `n_factors` must be the same.
    checkpoint_dir : path or None, default=None
        Folder in which fit saves its state after each epoch: weights and a hash of the data, no
        rows, readable by the owner alone. After a crash the same fit on the same data resumes from
        there with the same result; at the end it removes the file. If the disk is full, training
        continues, with a warning.
    output : {"pooled", "tokens"}, default="pooled"
        Output of `transform`: one vector per row, or the encoded tokens of all labs side by side.
    absent : {"nan", "zero"}, default="nan"
        Output for a row without any measured lab, and for the token of a lab that was not
        measured: NaN, which `MEDFuseClassifier` reads as absent, or zeros.
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
        Results of each qualitative lab from low to high, in their most frequent spelling in fit;
        None for a numeric lab.
    center_ : ndarray of shape (`n_features_in_`,)
        Winsorised mean of each lab in its own unit, or in positions in its levels; NaN if it was
        measured in fewer than five rows of fit.
    scale_ : ndarray of shape (`n_features_in_`,)
        Standard deviation likewise.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float
        R² on hidden cells of the validation rows after each epoch; empty without early stopping.
    validation_score_ : float or None
        The best validation score.
    n_iter_ : int
        Number of epochs run.
    best_epoch_ : int
        The epoch, counted from 1, whose weights were kept.

    See Also
    --------
    MEDFuseClassifier : Fuses this embedding with that of the notes.

    Notes
    -----
    The method is part 3 of MEDFuse [1]_, after masked autoencoders [2]_ and ReMasker [3]_.

    A pandas, polars or Arrow table, or an array or list of objects, may hold results as hospitals
    write them. Numbers may be texts; a censored result ("<0.01", ">90", "≥ 3") counts as its limit,
    a mark after a number ("7.9 H") is ignored, and "1,5" is 1.5, but "1,200", which may mean 1.2,
    is not read, nor is a number with a unit. A column is qualitative if it has more words than
    numbers, if `kinds` or `levels` says so, or if it is an ordered Categorical, whose order it
    keeps. Its distinct results are levels, in clinical order where the words are known: negative
    < trace < 1+, small < 2+, moderate < 3+, large < 4+; none seen < rare < few < many; nonreactive
    < weakly reactive < reactive; low < normal < high; clear < hazy < cloudy. Case, blanks, hyphens
    and common abbreviations ("TR", "SM", "LO") do not matter. Numbers, ranges and titers are
    ordered by size ("<1:40" < "1:80" < "1:160"), other words alphabetically. A level's position is
    standardised like a number, so steps between levels are equal.

    Text in a numeric column, a level that fit did not see, and one that is not a known grade and
    occurs in fewer than three rows of fit count as not measured. One warning says how many there
    are and where, never what they are. As `levels_` is saved with the model, a column of more than
    50 levels, of long texts, or of mostly different ones is refused as free text. A lab that was
    measured in fewer than five rows of fit is ignored, since its scale would reveal those patients'
    values.

    Fit uses each distinct row once, with its total weight and in the order of a hash, so that the
    order of the rows does not matter. An entry of 0 in sparse input is a measured zero.

    References
    ----------
    .. [1] Phan et al., "MEDFuse: Multimodal EHR Data Fusion with Masked Lab-Test Modeling and
       Large Language Models", CIKM 2024, arXiv 2407.12309.
    .. [2] He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
    .. [3] Du, Melis, Wang, "ReMasker: Imputing Tabular Data with Masked Autoencoding", ICLR 2024.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse import MaskedLabEncoder
    >>> X = pd.DataFrame({"crp": ["<0.5", "12", None, "90"] * 9, "ketones": ["NEG", "2+"] * 18})
    >>> encoder = MaskedLabEncoder(n_components=4, max_epochs=5, random_state=0)
    >>> encoder.fit_transform(X).shape
    (36, 4)
    >>> encoder.levels_
    [None, ['NEG', '2+']]
    >>> encoder.impute(X)["crp"].iloc[[0, 1, 3]].tolist()
    ['<0.5', '12', '90']
    """

    # Requested by default under metadata routing, as by scikit-learn's group splitters
    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "mask_ratio": [Interval(Real, 0, 1, closed="neither"), tuple, list],
        "kinds": [None, dict],
        "levels": [None, dict],
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_layers": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "initial": [None, HasMethods(["impute", "lab_correlation"])],
        "checkpoint_dir": [None, str, Path],
        "output": [StrOptions({"pooled", "tokens"})],
        "absent": [StrOptions({"nan", "zero"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _transient = ("_module", "_stream")
    _n_parts = ("n_layers", "n_decoder_layers")

    def __init__(
        self,
        n_components=64,
        *,
        mask_ratio=(0.1, 0.7),
        kinds=None,
        levels=None,
        d_model=64,
        n_heads=4,
        n_layers=3,
        n_decoder_layers=1,
        n_factors=32,
        dropout=0.1,
        max_epochs=15,
        batch_size=128,
        learning_rate=2e-3,
        weight_decay=1e-2,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        initial=None,
        checkpoint_dir=None,
        output="pooled",
        absent="nan",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.mask_ratio = mask_ratio
        self.kinds = kinds
        self.levels = levels
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.n_decoder_layers = n_decoder_layers
        self.n_factors = n_factors
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.initial = initial
        self.checkpoint_dir = checkpoint_dir
        self.output = output
        self.absent = absent
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X, y=None, sample_weight=None, groups=None):
        """Learn the labs' distribution from their observed values.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in any unit, numbers or as the hospital writes them (see Notes). NaN,
            None, a blank text and, in a sparse matrix, an absent entry mean not measured.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row. A row of weight 2 counts as the row given twice.
        groups : array-like of shape (n_rows,), default=None
            Patient of each row. Early stopping holds out all rows of a patient or none; a row that
            a patient in training has too is used for training. Metadata routing requests groups by
            default.

        Returns
        -------
        MaskedLabEncoder
            The fitted encoder.

        Raises
        ------
        TypeError
            If a cell is neither a number nor text.
        ValueError
            If a column looks like free text, X holds infinity, a sparse X cannot tell an absent
            entry from a zero (BSR and DIA format) or holds a cell twice, or `initial` has another
            architecture or shares no lab with X.
        """
        mask_ratio = self._check_params()
        start = self._find_start()
        cells, weight = self._read(X, sample_weight)
        if groups is not None:
            groups = column_or_1d(groups)
            check_consistent_length(cells, groups)
        cells, weight, by_group = self._learn_scale(cells, weight, groups, start)
        checkpoint = self._make_checkpoint(cells, weight, by_group, start)
        seed = self._draw_seed(checkpoint)
        held_out = self.validation_fraction if self.early_stopping else 0.0
        train, validation = split_rows(cells, weight, by_group, held_out, seed)
        device = resolve_device(self.device)
        # The numbers in a forged checkpoint may have the right shapes and yet no solution
        failing = torch.linalg.LinAlgError
        restoring = nullcontext() if checkpoint is None else checkpoint.restoring(failing)
        with torch_seed(seed, device) as generator, with_gradients(), restoring:
            module = self._begin(train, start, device)
            trainer = self._make_trainer(module, generator, mask_ratio, len(train.cells))
            attributes = partial(self._attributes_now, trainer)
            with epochs_of_fit(self, X, y, attributes) as after_epoch:
                if len(train.cells) and self.max_epochs:
                    trainer.run(train, validation, self.verbose, checkpoint, after_epoch)
            self._finish(trainer, train)
        if checkpoint is not None:
            checkpoint.remove()
        self._stream = None
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from one chunk of a table that is larger than memory, in one pass.

        The first chunk, which sets levels, scales and the linear part, should be a fair sample.
        After `fit`, or on a loaded encoder, learning continues.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results as in fit.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row of the chunk.

        Returns
        -------
        MaskedLabEncoder
            The encoder.
        """
        mask_ratio = self._check_params()
        first = self._get_module() is None
        start = self._find_start() if first else None
        cells, weight = self._read(X, sample_weight, reset=first)
        if first:
            cells, weight, _ = self._learn_scale(cells, weight, None, start)
        else:
            cells, weight, _ = self._standardise(*cells.distinct(weight))
        rows = training_rows(cells, weight)
        device = resolve_device(self.device)
        # Each chunk has its own draws
        seed = self._draw_seed() + getattr(self, "n_iter_", 0)
        with torch_seed(seed, device) as generator, with_gradients():
            if first:
                module = self._begin(rows, start, device)
                trainer = self._make_trainer(module, generator, mask_ratio)
            else:
                rows = rows._replace(version=np.zeros_like(rows.version))
                trainer = self._continued_trainer(generator, mask_ratio, device)
            self._stream = trainer
            if len(rows.cells):
                trainer.one_pass(rows)
            self._finish(trainer, rows, keep=True)
        return self

    def transform(self, X):
        """Embed each row's observed lab values.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_components) or (n_rows, n_labs * d_model)
            One vector per row, or one per row and lab side by side, as set by `output`.

        Raises
        ------
        ValueError
            If the net was not trained because `max_epochs` is 0 and there is no `initial`.
        """
        check_is_fitted(self)
        if self.max_epochs == self.n_iter_ == 0 and self.initial is None:
            raise ValueError(
                "With max_epochs=0 the embedding is not trained, and only impute, score and "
                "reconstruct work; fit with max_epochs of 1 or more."
            )
        cells = self._cells(X)
        absent = np.nan if self.absent == "nan" else 0.0
        if self.output == "pooled":
            return embed_rows(self._module, cells, self.n_components, absent)
        return embed_labs(self._module, cells, self.d_model, absent)

    def impute(self, X, return_std=False, n_imputations=None):
        """Fill in what was not measured with what the model expects, for the labs it has learned.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.
        return_std : bool, default=False
            Return standard deviations too.
        n_imputations : int, default=None
            Return this many tables for multiple imputation (Rubin 1987), with missing cells drawn
            from the predictive distribution, a row's jointly, by `random_state`. None returns one
            table of expected values.

        Returns
        -------
        imputed : ndarray or DataFrame of shape (n_rows, n_labs), or a list of them
            A copy of X: a pandas DataFrame when X is a table, a dense array when it is sparse.
            Observed cells are unchanged, to the bit or the letter; a result that could not be read
            is replaced. No value is below the lowest that fit saw of the lab or far above the
            highest. A qualitative lab is filled with its nearest level, a column of numbers as text
            with text of six digits, integers with gaps as floats. A lab that was measured in fewer
            than five rows of fit stays missing.
        std : ndarray of shape (n_rows, n_labs)
            Only with `return_std`: standard deviation of each filled cell in the lab's unit, or
            in positions in its levels; 0 where measured, NaN where it stays missing.
        """
        check_is_fitted(self)
        X = to_pandas(X)
        values = to_dense(validate_labs(self, X, self.levels_)[0])
        imputer = LabImputer(self._module, self._scale, values)
        if n_imputations is None:
            imputed = fill_like(X, values, imputer.expected(), self.levels_)
        else:
            check_scalar(n_imputations, "n_imputations", Integral, min_val=1)
            drawn = imputer.draws(n_imputations, self._draw_seed())
            imputed = [fill_like(X, values, filled, self.levels_) for filled in drawn]
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
            R² over all hidden cells, each lab in its standard deviations, compared with predicting
            the training mean. Every call on the same X hides the same cells. NaN if nothing was
            measured.
        """
        cells = self._cells(X)
        return predict_hidden(self._module, cells).r2() if len(cells.lab) else np.nan

    def reconstruct(self, X):
        """Hide a fifth of the observed cells, those of `score`, and predict them from the rest.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the units of fit.

        Returns
        -------
        DataFrame of shape (n_hidden, 4)
            One row per hidden cell: its `lab`, by name or position; its `true` and `predicted`
            value and the prediction's standard deviation `std`, in the lab's unit or in positions
            in its levels.
        """
        cells = self._cells(X)
        if not len(cells.lab):
            return pd.DataFrame({"lab": [], "true": [], "predicted": [], "std": []})
        hidden = predict_hidden(self._module, cells)
        scale = self._scale
        return pd.DataFrame(
            {
                "lab": self._lab_names()[hidden.lab],
                "true": scale.in_units(hidden.true, hidden.lab),
                "predicted": scale.possible(hidden.predicted, hidden.lab),
                "std": scale.spread_in_units(hidden.predicted, hidden.spread, hidden.lab),
            }
        )

    def lab_correlation(self):
        """Correlation of the labs' values and of their ranks that the linear part has learned.

        Returns
        -------
        DataFrame of shape (n_labs, n_labs)
            Mean of the two, by name or position; NaN for a lab about which nothing was learned.

        Raises
        ------
        ValueError
            If `n_factors` is 0, so that there is no linear part.
        """
        check_is_fitted(self)
        prior = self._module.prior
        if prior is None:
            raise ValueError("lab_correlation needs the linear part; fit with n_factors above 0.")
        both = [model.correlation() for model in (prior.of_values, prior.of_scores)]
        correlation = ((both[0] + both[1]) / 2).cpu().numpy()
        unknown = ~self._scale.known
        correlation[unknown] = correlation[:, unknown] = np.nan
        return pd.DataFrame(correlation, index=self._lab_names(), columns=self._lab_names())

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : None or array of the names seen in fit, default=None
            Only checked.

        Returns
        -------
        ndarray of str
            "maskedlabencoder0" and so on; for tokens, "token0_0" and so on by lab and component.
        """
        if self.output == "pooled":
            return super().get_feature_names_out(input_features)
        check_is_fitted(self)
        labs, components = range(self.n_features_in_), range(self.d_model)
        names = [f"token{lab}_{component}" for lab in labs for component in components]
        return np.array(names, dtype=object)

    # Steps of fit, in the order in which they are called

    def _check_params(self) -> tuple[float, float]:
        """Return the lowest and highest mask ratio."""
        self._validate_params()
        check_heads(self.d_model, self.n_heads)
        if self.max_epochs == self.n_factors == 0:
            raise ValueError(
                "max_epochs=0 with n_factors=0 leaves nothing to fit; raise one of them."
            )
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

    def _find_start(self) -> LabStart | None:
        """Return what `warm_start` or `initial` offers, before X changes anything."""
        known = self if self.warm_start and self._get_module() is not None else self.initial
        if known is None:
            return None
        check_is_fitted(known)
        names = getattr(known, "feature_names_in_", None)
        architecture = {name: getattr(known, name) for name in _ARCHITECTURE}
        return LabStart(known._module, known._scale, names, known.levels_, architecture)

    def _read(self, X, sample_weight, reset=True) -> tuple[LabCells, np.ndarray]:
        """Read the results of X in their units, and the weight of each row."""
        X, levels = validate_labs(self, X, None if reset else self.levels_)
        weight = np.ones(X.shape[0])
        if sample_weight is not None:
            with no_values_in_errors():
                weight = _check_sample_weight(
                    sample_weight, X, dtype=np.float64, ensure_non_negative=True
                )
            # Scikit-learn before 1.9 accepts this
            if not weight.any():
                raise ValueError("sample_weight is zero in every row; give some row a weight.")
            # Weights that add up to 1, say, must not count as the evidence of one row
            weight = weight * max(1.0, (weight > 0).sum() / weight.sum())
        self.levels_: list = levels
        return LabCells.from_table(X), weight

    def _learn_scale(self, cells: LabCells, weight: np.ndarray, groups, start: LabStart | None):
        """Set the labs' scales; return distinct rows on them, their weights, those by group."""
        # A lab measured in too few rows is left out: its mean would reveal a patient's result
        used = np.repeat(weight > 0, cells.n_measured)
        learned = np.bincount(cells.lab[used], minlength=cells.n_labs) >= FEWEST_ROWS
        if start is not None:
            names = getattr(self, "feature_names_in_", None)
            start.match(names, self.levels_, {name: getattr(self, name) for name in _ARCHITECTURE})
            learned[start.shared[:, 0]] = True
        cells, weight, by_group = cells.of_labs(learned).distinct(weight, groups)
        scale = LabScale.fit(cells, weight)
        scale = scale if start is None else start.merge_scale(scale)
        rare = np.flatnonzero(~scale.known)
        if len(rare):
            warnings.warn(
                f"{len(rare)} of {len(scale.known)} lab columns have fewer than {FEWEST_ROWS} "
                f"measured values in fit, first at position {rare[0]}; nothing is learned from "
                "them: transform ignores them and impute leaves them missing.",
                UserWarning,
                stacklevel=4,
            )
        # The net of an earlier fit does not match these scales
        self.__dict__.pop("_module", None)
        self.center_, self.scale_, self._knots = scale
        return self._standardise(cells, weight, by_group)

    def _standardise(self, cells: LabCells, weight: np.ndarray, by_group):
        """Put rows on the scales, in an order that does not depend on the given one."""
        cells = self._scale.cells(cells)
        order = cells.fixed_order()
        return cells.take(order), weight[order], None if by_group is None else by_group[order]

    def _make_checkpoint(
        self, cells: LabCells, weight: np.ndarray, by_group, start: LabStart | None
    ) -> Checkpoint | None:
        if self.checkpoint_dir is None:
            return None
        config = {
            name: value if isinstance(value, int | float | None) else str(value)
            for name, value in self.get_params(deep=False).items()
            if name not in _NOT_IN_FINGERPRINT
        }
        data = [cells.row_start, cells.lab, cells.value, cells.score, weight]
        if by_group is not None:
            data += [by_group.indptr, by_group.indices, by_group.data]
        before = b"" if start is None else module_to_bytes(start.module)
        seed = self.random_state if isinstance(self.random_state, Integral) else "drawn"
        return Checkpoint(
            self.checkpoint_dir,
            "labs",
            [config, str(seed), __version__, before, *(part.tobytes() for part in data)],
        )

    def _draw_seed(self, checkpoint: Checkpoint | None = None) -> int:
        """Seed of all draws of fit, or that of the interrupted fit if there was one."""
        seed = draw_seed(check_random_state(self.random_state))
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            with checkpoint.restoring():
                seed = int(saved["seed"])
        return seed

    def _build_module(self, n_versions: int = 1) -> MaskedLabAutoencoder:
        options = {name: getattr(self, name) for name in (*_ARCHITECTURE, "n_heads", "dropout")}
        return MaskedLabAutoencoder(self.n_features_in_, n_versions=n_versions, **options)

    def _begin(
        self, rows: LabTrainingRows, start: LabStart | None, device: torch.device
    ) -> MaskedLabAutoencoder:
        """Build the net, copy what is known and fit the linear part."""
        module = self._build_module(N_FOLDS + 1).to(device)
        if start is not None:
            start.fill(module)
        if module.prior is not None:
            curves = self._scale.curves(module.prior.values_at.shape[1])
            module.prior.values_at.copy_(torch.from_numpy(curves))
            if len(rows.cells):
                fit_prior(module.prior, rows, start)
        return module

    def _make_trainer(self, module, generator, mask_ratio, n_rows=None) -> MaskedTrainer:
        options = {name: getattr(self, name) for name in _OF_TRAINER}
        return MaskedTrainer(module, generator, mask_ratio, n_rows, **options)

    def _continued_trainer(self, generator, mask_ratio, device) -> MaskedTrainer:
        """The trainer of the previous chunk; after fit or loading, a new one."""
        trainer = getattr(self, "_stream", None)
        if trainer is None:
            module = copy.deepcopy(self._module).float().requires_grad_(True).to(device)
            trainer = self._make_trainer(module, generator, mask_ratio)
            trainer.loss_curve = list(self.loss_curve_)
        trainer.generator = generator
        return trainer

    def _attributes_now(self, trainer: MaskedTrainer, keep: bool = True) -> dict:
        """Fitted attributes at this point of a fit; `keep` copies the net, which trains on."""
        module = copy.deepcopy(trainer.module) if keep else trainer.module
        return {
            "_module": for_inference(module, trainer.device),
            "loss_curve_": list(trainer.loss_curve),
            "validation_scores_": list(trainer.validation_scores),
            "n_iter_": len(trainer.loss_curve),
        }

    def _finish(self, trainer: MaskedTrainer, rows: LabTrainingRows, keep: bool = False) -> None:
        """Make the trained net ready to predict, and note how training went."""
        module = trainer.module
        if len(rows.cells):
            calibrate_spread(module, rows, trainer.fitting_rows)
        if module.prior is not None:
            module.prior.keep_last_version()
        for name, value in self._attributes_now(trainer, keep).items():
            setattr(self, name, value)
        self.validation_score_ = max(trainer.validation_scores, default=None)
        self.best_epoch_ = trainer.best_epoch

    @property
    def _scale(self) -> LabScale:
        return LabScale(self.center_, self.scale_, self._knots)

    def _lab_names(self) -> np.ndarray:
        return getattr(self, "feature_names_in_", np.arange(self.n_features_in_))

    def _cells(self, X) -> LabCells:
        """Standardised cells of X."""
        check_is_fitted(self)
        values, _ = validate_labs(self, X, self.levels_)
        return self._scale.cells(LabCells.from_table(values))

    # State and tags

    @property
    def _n_features_out(self) -> int:
        if self.output == "pooled":
            return self.n_components
        return self.n_features_in_ * self.d_model

    def _get_module(self):
        return getattr(self, "_module", None)

    def _restore_module(self) -> MaskedLabAutoencoder:
        self._module = for_inference(self._build_module(), resolve_fitted_device(self.device))
        return self._module

    def __sklearn_is_fitted__(self):
        # A fit that was interrupted before training has already set names and scales
        return self._get_module() is not None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        # Not `string`, which to scikit-learn means any object, even a dict, which is refused here
        return tags
