"""MaskedLabEncoder: masked lab-test modeling as a scikit-learn transformer."""

import copy
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._callbacks import CallbackSupportMixin, epochs_of_fit, with_callbacks
from .._checkpoint import Checkpoint
from .._doc_link import DocLinkMixin
from .._nn.masked_autoencoder import MaskedLabAutoencoder
from .._private_errors import no_values_in_errors
from .._state import NetStateMixin, for_inference
from .._training import (
    check_heads,
    draw_seed,
    resolve_device,
    resolve_device_to_load,
    torch_seed,
    with_gradients,
)
from ._factor_analysis import fit_prior
from ._lab_cells import LabResults
from ._lab_embedding import embed_labs, embed_rows
from ._lab_input import validate_labs
from ._lab_learning import (
    attributes_now,
    checkpoint_of,
    knowledge_before,
    plan_of,
    rows_to_learn,
    warn_of_rare_labs,
)
from ._lab_predictions import LabPredictionsMixin
from ._lab_scale import LabScale
from ._lab_start import LabStart
from ._masked_training import MaskedTrainer, calibrate_spread
from ._pretrained import PretrainedMixin
from ._training_rows import N_FOLDS, TrainingRows, split_rows, training_rows


class MaskedLabEncoder(
    LabPredictionsMixin,
    PretrainedMixin,
    DocLinkMixin,
    NetStateMixin,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed lab tests with a masked autoencoder that takes missing values as they are.

    Each measured lab test is a token, made of which lab it is and of its value. In training a
    share of the *observed* tests of every row is hidden; a transformer encodes the visible
    ones only, and a shallow decoder predicts the hidden ones. A test that was not measured
    is in neither part and nothing is ever filled in for it. The encoder's summary token,
    projected to `n_components`, is the embedding of the row.

    What linear dependence says of a hidden test comes from two factor models, of the tests'
    values and of their ranks, fitted in closed form before the net, which learns the rest. So
    tables of a few hundred rows are imputed well, and large ones gain from the net.

    Parameters
    ----------
    n_components : int, default=64
        Width of the embedding.
    mask_ratio : float or tuple of two floats, default=(0.1, 0.7)
        Share of a row's observed tests that is hidden in training, within (0, 1); of a tuple
        (low, high) each row draws its own share. At least one is hidden and, of two or more,
        at least one stays visible.
    masking : {"uniform", "variation"}, default="uniform"
        Which tests are hidden: all alike, or sooner those with a large coefficient of variation
        [4]_, up to three times as soon as the median test.
    kinds : dict or None, default=None
        By column name, of an X without names by position: "numeric" or "qualitative", for
        columns whose kind is not that of most of their cells (see Notes). Of a numeric column
        the words are lost; a qualitative one may hold 50 different results.
    d_model : int, default=64
        Width of a token; a multiple of `n_heads`.
    n_heads : int, default=4
        Number of attention heads.
    n_layers : int, default=3
        Number of encoder blocks.
    n_decoder_layers : int, default=1
        Number of decoder blocks.
    n_factors : int, default=32
        Number of factors of each factor model; 0 leaves the linear part out.
    dropout : float, default=0.1
        Dropout probability.
    max_epochs : int, default=15
        Passes over the training rows at most.
    batch_size : int, default=128
        Rows per optimiser step. Where they do not fit into the device's memory, the gradients of
        parts are added up, with one warning.
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
    warm_start : bool, default=False
        Let a second fit begin with what the first has learned of the labs in both, as `initial`
        does.
    initial : MaskedLabEncoder, path or None, default=None
        Encoder, or folder of `save_pretrained`, of another hospital to begin with. Labs of the
        same name (and, if qualitative, the same levels) keep their scale and what was learned of
        them, so they must be in the same unit; the others begin fresh. `d_model`, `n_components`,
        `n_layers`, `n_decoder_layers` and `n_factors` must be the same.
    checkpoint_dir : path or None, default=None
        Folder, for the owner alone, in which fit keeps its state after each epoch. After a crash
        the same fit on the same data goes on from there, to the result that it would have had;
        at its end the file is removed. It holds weights and a hash of the data, no row. A state
        for which the disk has no room is warned of, and training goes on.
    output : {"pooled", "tokens"}, default="pooled"
        What `transform` gives: one vector per row, or the encoded token of each lab, side by
        side.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row in which no lab was measured, and for the token of a
        lab that was not: NaN, which `MEDFuseClassifier` reads as absent, or zeros.
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
        levels; NaN where fewer than five rows had it measured.
    scale_ : ndarray of shape (`n_features_in_`,)
        Standard deviation likewise.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float
        R² on hidden cells of the validation rows after each epoch; empty without early stopping.
    validation_score_ : float or None
        The best of them.
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
    comma is a number, as 1,200 may mean 1.2. A column with more words than numbers, or one of which
    `kinds` says so, is qualitative: its distinct results are levels, ordered as clinicians do where
    the words are known (negative < trace < 1+, small < 2+, moderate < 3+, large < 4+; negative <
    positive; normal < abnormal; case and blanks do not matter), then by their first number ("30" <
    "100"), then by the alphabet, and a level's position is standardised like a number. That keeps
    one way of embedding for all labs and gives neighbouring levels similar tokens; the price is
    equal steps between levels, and an arbitrary order of words without one, such as colours.

    A text in a numeric column, a level that fit did not see, and a word or number that fewer than
    three rows of a qualitative column hold in fit (known grades apart) count as not measured; one
    warning says how many there were and where, never what they were. Since `levels_` is
    saved with the model, a column of more than 50 levels, of long texts, or of mostly different
    ones is refused as free text.

    Nothing is learned of a lab that fewer than five rows of fit have measured, since its scale
    would tell those patients' values: it is ignored, and `impute` fills it with 0.

    Fitting depends neither on the order of the rows nor on how often a row is repeated, other than
    by its weight: each distinct row is taken once, in the order of a hash.

    Sparse input is never made dense but by `impute`. An entry of 0 is a measured zero there.

    References
    ----------
    .. [1] Phan et al., "MEDFuse: Multimodal EHR Data Fusion with Masked Lab-Test Modeling and
       Large Language Models", CIKM 2024, arXiv 2407.12309.
    .. [2] He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
    .. [3] Du, Melis, Wang, "ReMasker: Imputing Tabular Data with Masked Autoencoding", ICLR 2024.
    .. [4] "Coefficient of variation masking" of lab tests, arXiv 2512.05216.

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
        "masking": [StrOptions({"uniform", "variation"})],
        "kinds": [None, dict],
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_decoder_layers": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "initial": [None, str, Path, BaseEstimator],
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
        masking="uniform",
        kinds=None,
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
        self.masking = masking
        self.kinds = kinds
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
    def fit(self, X, y=None, sample_weight=None):
        """Learn the labs' distribution from their observed values.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in any unit, one column per lab: numbers, or results as the hospital
            writes them (see Notes). NaN, None, a blank text and, in a sparse matrix, an absent
            entry mean not measured.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weight of each row. A row of weight 2 counts as the row given twice.

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
            absent entry from a zero (BSR and DIA format) or holds a cell twice; where `initial`
            has another architecture or shares no lab with X.
        """
        self._validate_params()
        plan = plan_of(self)
        before = knowledge_before(self)
        results, weight = self._read_to_learn(X, sample_weight)
        start = None if before is None else before.shared_with(self)
        results, weight = self._set_scale(results, weight, start)
        cells = self._scale.cells(results)
        order = cells.fixed_order()
        cells, weight = cells.take(order), weight[order]
        checkpoint = checkpoint_of(self, cells, weight, start)
        seed = self._seed(checkpoint)
        held_out = self.validation_fraction if self.early_stopping else 0.0
        train, validation = split_rows(cells, weight, held_out, seed)
        device = resolve_device(self.device)
        going_on = nullcontext() if checkpoint is None else checkpoint.going_on()
        with torch_seed(seed, device) as generator, with_gradients(), going_on:
            module = self._begin(train, start, device)
            trainer = MaskedTrainer(module, plan, generator, len(train.cells), self._mask_weight())
            with epochs_of_fit(
                self, X, y, self.max_epochs, lambda: attributes_now(trainer)
            ) as after_epoch:
                if len(train.cells):
                    trainer.run(
                        train,
                        validation,
                        verbose=self.verbose,
                        checkpoint=checkpoint,
                        after_epoch=after_epoch,
                    )
            self._finish(trainer, train)
        if checkpoint is not None:
            checkpoint.remove()
        self._stream = None
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from one chunk of a table that is larger than memory: one pass over it.

        The first chunk sets levels, scales and the linear part, so it should be a fair sample.
        After `fit`, or on a loaded encoder, learning goes on from what is known.

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
        self._validate_params()
        plan = plan_of(self)
        first = self._get_module() is None
        before = knowledge_before(self) if first else None
        results, weight = self._read_to_learn(X, sample_weight, reset=first)
        start = None if before is None else before.shared_with(self)
        if first:
            results, weight = self._set_scale(results, weight, start)
        else:
            results, weight = results.distinct(weight)
        cells = self._scale.cells(results)
        order = cells.fixed_order()
        rows = training_rows(cells.take(order), weight[order])
        device = resolve_device(self.device)
        # each chunk has its own draws
        seed = draw_seed(check_random_state(self.random_state)) + getattr(self, "n_iter_", 0)
        with torch_seed(seed, device) as generator, with_gradients():
            if first:
                self._stream = MaskedTrainer(
                    self._begin(rows, start, device), plan, generator, None, self._mask_weight()
                )
            else:
                rows = rows._replace(version=np.zeros_like(rows.version))
                self._stream = self._stream_so_far(plan, generator, device)
            if len(rows.cells):
                self._stream.one_pass(rows)
            self._finish(self._stream, rows, keep=True)
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
            One vector per row, or one per row and lab side by side, as `output` says. Where no
            lab, or the token's lab, was not measured, NaN or zeros as `absent` says.
        """
        check_is_fitted(self)
        cells = self._cells(validate_labs(self, X, self.levels_)[0])
        absent = np.nan if self.absent == "nan" else 0.0
        if self.output == "pooled":
            return embed_rows(self._module, cells, self.n_components, absent)
        return embed_labs(self._module, cells, self.n_features_in_, self.d_model, absent)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : None or array of the names seen in fit, default=None
            Only checked.

        Returns
        -------
        ndarray of str
            "maskedlabencoder0" and so on; of tokens, "token0_0" and so on by lab and component.
        """
        if self.output == "pooled":
            return super().get_feature_names_out(input_features)
        check_is_fitted(self)
        return np.array(
            [
                f"token{lab}_{component}"
                for lab in range(self.n_features_in_)
                for component in range(self.d_model)
            ],
            dtype=object,
        )

    def _read_to_learn(self, X, sample_weight, reset=True) -> tuple[LabResults, np.ndarray]:
        """Read the results of X and the weight of each row."""
        X, levels = validate_labs(self, X, None if reset else self.levels_)
        weight = np.ones(X.shape[0])
        if sample_weight is not None:
            with no_values_in_errors():
                weight = _check_sample_weight(
                    sample_weight, X, dtype=np.float64, ensure_non_negative=True
                )
            # Scikit-learn before 1.9 accepts this.
            if not weight.any():
                raise ValueError("sample_weight is zero in every row; give some row a weight.")
            # weights that add up to 1, say, must not count as one row's worth of evidence
            weight = weight * max(1.0, (weight > 0).sum() / weight.sum())
        self.levels_: list = levels
        return LabResults.from_table(X), weight

    def _set_scale(
        self, results: LabResults, weight: np.ndarray, start: LabStart | None
    ) -> tuple[LabResults, np.ndarray]:
        """Set the labs' scales; return each distinct row of what is learned, and its weight."""
        results, weight = rows_to_learn(results, weight, start)
        scale = LabScale.fit(results, weight)
        scale = scale if start is None else start.merge_scale(scale)
        warn_of_rare_labs(scale)
        # the net of an earlier fit does not go with these scales
        self.__dict__.pop("_module", None)
        self.center_, self.scale_, self._knots = scale
        return results, weight

    def _build_module(self, n_versions: int = 1) -> MaskedLabAutoencoder:
        check_heads(self.d_model, self.n_heads)
        return MaskedLabAutoencoder(
            self.n_features_in_,
            n_components=self.n_components,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            n_decoder_layers=self.n_decoder_layers,
            dropout=self.dropout,
            n_factors=self.n_factors,
            n_versions=n_versions,
        )

    def _begin(
        self, rows: TrainingRows, start: LabStart | None, device: torch.device
    ) -> MaskedLabAutoencoder:
        """Build the net, take over what is known and fit the linear part."""
        module = self._build_module(N_FOLDS + 1).to(device)
        if start is not None:
            start.fill(module)
        if module.prior is not None:
            curves = self._scale.curves(module.prior.values_at.shape[1])
            module.prior.values_at.copy_(torch.from_numpy(curves))
            if len(rows.cells):
                fit_prior(module.prior, rows, start)
        return module

    def _stream_so_far(self, plan, generator, device) -> MaskedTrainer:
        """Trainer of the chunk before; after fit or on a loaded encoder a new one."""
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.generator = generator
            return stream
        module = copy.deepcopy(self._module).float().requires_grad_(True).to(device)
        trainer = MaskedTrainer(module, plan, generator, None, self._mask_weight())
        trainer.loss_curve = list(self.loss_curve_)
        return trainer

    def _mask_weight(self) -> np.ndarray | None:
        return None if self.masking == "uniform" else self._scale.variation()

    def _seed(self, checkpoint: Checkpoint | None) -> int:
        """Seed of all draws of fit: of the interrupted fit, where there was one."""
        seed = draw_seed(check_random_state(self.random_state))
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            with checkpoint.restoring():
                seed = int(saved["seed"])
        return seed

    def _finish(self, trainer: MaskedTrainer, rows: TrainingRows, keep: bool = False) -> None:
        """Make the trained net ready to predict, and note how training went."""
        module = trainer.module
        if len(rows.cells):
            calibrate_spread(module, rows, trainer.fitting_rows)
        if module.prior is not None:
            module.prior.keep_last_version()
        module = copy.deepcopy(module) if keep else module
        self._module = for_inference(module, next(module.parameters()).device)
        self.loss_curve_ = list(trainer.loss_curve)
        self.validation_scores_ = trainer.validation_scores
        self.validation_score_ = max(trainer.validation_scores, default=None)
        self.n_iter_ = len(trainer.loss_curve)
        self.best_epoch_ = trainer.best_epoch

    @property
    def _n_features_out(self) -> int:
        if self.output == "pooled":
            return self.n_components
        return self.n_features_in_ * self.d_model

    def _get_module(self):
        return getattr(self, "_module", None)

    def _restore_module(self) -> MaskedLabAutoencoder:
        self._module = for_inference(self._build_module(), resolve_device_to_load(self.device))
        return self._module

    def __sklearn_is_fitted__(self):
        # a fit that was broken off before the net began has set names and scales already
        return self._get_module() is not None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        # not `string`: to scikit-learn that means any object, a dict too, which is refused here
        return tags
