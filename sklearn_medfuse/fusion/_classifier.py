"""MEDFuseClassifier: the disentangled transformer as a scikit-learn classifier."""

from collections.abc import Callable, Iterator
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import accuracy_score, check_scoring
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from skorch.utils import noop

from .._input_data import no_values_in_errors
from .._nn.fusion import FUSIONS, FusionWithCritic
from .._state import NetStateMixin
from .._training import (
    WARM_UP,
    check_heads,
    draw_seed,
    for_inference,
    resolve_device,
    resolve_fitted_device,
    torch_seed,
    with_gradients,
)
from ._insight import ScoredModel, modality_importance, mutual_information
from ._model import BlockScaler, Decisions, FusedModel, fit_regressions
from ._rows import (
    TrainingRows,
    check_scaling,
    decode_targets,
    encode_targets,
    read_targets,
    resolve_modalities,
    resolve_tokens,
    take_out_missing,
    warn_of_constant_labels,
)
from ._training import EpochBar, FusionNet, ValidationScore, to_dataset


class MEDFuseClassifier(NetStateMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Predict diseases from several modalities, separating what they share from what they do not.

    Each modality's vector becomes a few tokens. Self-attention finds what is specific to a
    modality; cross-attention, queried by the Kronecker product of all modalities, finds what they
    share. Along with the prediction loss, training minimises a bound on the mutual information
    between the two, L = L_prediction + `mi_weight` · L_MI. Learned tokens represent an absent
    modality, a block of NaN; nothing is imputed.

    Parameters
    ----------
    mi_weight : float, default=0.001
        λ, the weight of the bound on the mutual information, in nats. The paper has 0.1, which
        costs scores here (see the user guide).
    fusion : str, default="disentangled"
        How the modalities are combined. "disentangled" is the paper's module. "kronecker" keeps
        its specific parts and the product of the modalities, without attention; "late" averages
        the logits of one net per modality; "concat" is one net over all modalities side by side.
        These three have no mutual information to minimise. A modality's name, such as "labs" or
        "notes", trains on that modality only and ignores the rest of X; if "auto" finds no names
        in X, all columns form the modality with this name.
    critic_steps : int, default=1
        Steps of the critic before each step of the fusion.
    modalities : "auto" or dict of str to int or slice, default="auto"
        Columns of each modality. "auto" reads the prefixes ``labs__``, ``notes__`` that
        ColumnTransformer gives the columns of a data frame (pandas, polars or Arrow). Without
        names, or without prefixes, all columns are one modality, "features"; 32 columns or more,
        as two encoders give, bring a warning. Prefixes on only some columns are an error. A dict
        gives the number of columns of each modality, in order, or slices. One modality is enough.
    input_tokens : "auto" or dict of str to int, default="auto"
        Modalities that come as several tokens of equal width, token by token in their columns;
        a token that is all NaN is absent. "auto" recognises them by column names that end in
        ``token<i>_<j>``; a dict gives numbers of tokens, and modalities not listed are vectors.
    input_scaling : {"column", "block"} or dict of str to these, default="column"
        "column" standardises each column. "block" centres the columns of a modality and divides
        them by one scale, which keeps their relative sizes, as the components of an SVD need. A
        dict chooses by modality; modalities not listed are standardised per column.
    modality_dropout : float, default=0.0
        Probability with which training treats a modality of a row as absent, but never the last
        one. It prepares the model for rows without a modality if few training rows lack one.
    d_model : int, default=64
        Width of a token and of each disentangled part; a multiple of `n_heads`.
    n_heads : int, default=4
        Number of attention heads.
    n_tokens : int, default=4
        Tokens per modality.
    dropout : float, default=0.3
        Dropout probability.
    n_estimators : int, default=4
        Nets trained side by side from different initial weights, their logits averaged.
    linear_weight : float, default=0.5
        Share, from 0 to 1, of the linear part in the logits: penalised logistic regressions, one on
        each modality. 0 leaves it out, as the paper does; 1 leaves only it.
    linear_C : float, default=0.5
        Inverse strength of their penalty, as in scikit-learn, with each modality scaled to unit
        length.
    class_weight : None, "balanced", dict or list of dict, default=None
        Weights of classes, as in scikit-learn. For labels, a dict gives the weights of 0 and 1;
        "balanced" and a list work label by label. Weights distort probabilities, which
        `calibration` corrects.
    threshold : float or "tune", default=0.5
        Probability from which `predict` says 1, for each label or for the second of two classes.
        "tune" chooses one per label on held-out predictions. Several classes have no threshold.
    false_negative_cost : float or None, default=None
        For threshold="tune": cost of a missed case, where a false alarm costs 1; None maximises F1.
    calibration : {"sigmoid", "temperature", "isotonic"} or None, default=None
        Calibrate probabilities on held-out predictions. "sigmoid" fits one slope for all logits and
        an intercept for each label or class, "temperature" the slope alone, "isotonic" a curve for
        each. To none of them do n held-out rows without an error prove certainty: each counts as
        wrong by 1 / (n + 2). A label missing in all held-out rows gets no intercept and no curve.
    decision_folds : int or None, default=3
        For `threshold` and `calibration`: number of folds, each predicted by a net of its own that
        has not seen it. None uses the `validation_fraction` that the net is not trained on. Folds
        keep groups together if `groups` are given to fit.
    max_epochs : int, default=12
        Maximum number of passes over the training rows. Twelve suit a thousand rows; fewer rows
        need more.
    batch_size : int, default=128
        Rows per optimiser step. If they do not fit into the device's memory, the gradients of
        parts are added up, with one warning; `mi_weight` then weighs the parts' own bounds.
    learning_rate : float, default=1e-3
        Peak learning rate of AdamW, reached after a tenth of the epochs and annealed to 0.
    weight_decay : float, default=0.05
        Weight decay of AdamW.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score has not improved for
        `n_iter_no_change` epochs, and keep the best epoch's weights. Groups are held out whole if
        `groups` are given to fit. No effect if fewer than ten rows would be held out.
    scoring : str or callable, default="loss"
        What early stopping watches: the prediction loss, a scikit-learn score by name, or a
        scorer.
    validation_fraction : float, default=0.1
        Share of the rows, or groups, held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without a better validation score before training stops.
    precision : {"float32", "bfloat16", "float64", "auto"}, default="float32"
        Arithmetic of training. "bfloat16" computes forward passes in mixed precision; "auto" does
        so on a GPU that supports it. "float64" makes training reproducible to the last digits.
        Prediction is always in float64.
    callbacks : list of skorch.callbacks.Callback or None, default=None
        Further callbacks of the net. They take part in fit and are not saved with a fitted
        estimator.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, otherwise the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, row order, dropout and the validation split.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels,)
        Class labels; for multi-label targets the label numbers, as in MLPClassifier.
    target_names_ : ndarray of shape (n_labels,)
        Column names of y, or the name of one label; only when y was a data frame or a named Series.
    modalities_ : dict of str to int64 ndarray
        Columns of each modality that the classifier reads.
    n_input_tokens_ : dict of str to int
        Tokens of each modality; 0 for a vector.
    part_names_ : list of str
        Parts that `contributions` distinguishes: the modalities, "shared" and "baseline".
    thresholds_ : ndarray of shape (n_labels,) or (1,)
        Probability from which each label, or the second class, is predicted.
    calibration_slope_ : float
        Factor of all logits; only with calibration="sigmoid" or "temperature".
    calibration_intercept_ : ndarray of shape (n_labels,), (n_classes,) or (1,)
        Added to the logits; only with calibration="sigmoid", or 0 with "temperature".
    n_features_in_ : int
        Number of columns of X in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Training prediction loss of each epoch.
    validation_losses_ : list of float
        Prediction loss of each epoch on the rows held out; empty if none are.
    validation_scores_ : list of float
        Validation score of each epoch; only with early stopping on a score other than the loss.
    net_ : skorch.NeuralNet
        The trained net. Once loaded from a file, it can predict but not resume training.

    See Also
    --------
    make_medfuse_pipeline : Encoders and classifier in one Pipeline.
    MaskedLabEncoder : Embeds lab tests.
    LLMNoteEncoder : Embeds notes.

    Notes
    -----
    The method is part 4 of MEDFuse [1]_, the bound that of CLUB [2]_. The page "The paper and this
    package" lists where the code departs from it.

    An integer weight equals repeating the row, and a weight of zero leaving it out: exactly if one
    batch holds all rows and `dropout` is 0, otherwise on average, as a repeated row falls into
    other batches and drops other units. So scikit-learn's
    ``check_sample_weight_equivalence_on_dense_data`` fails with the defaults and passes with
    ``dropout=0, batch_size=1000, precision="float64"``.

    References
    ----------
    .. [1] Phan et al., "MEDFuse: Multimodal EHR Data Fusion with Masked Lab-Test Modeling and
       Large Language Models", CIKM 2024, arXiv 2407.12309.
    .. [2] Cheng et al., "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information",
       ICML 2020, arXiv 2006.12013.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse import MEDFuseClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(80, 7))
    >>> y = (X[:, [0, 4]] > 0).astype(int)
    >>> X[:5, 3:] = np.nan  # five stays without notes
    >>> fuse = MEDFuseClassifier(modalities={"labs": 3, "notes": 4}, max_epochs=5, random_state=0)
    >>> fuse.fit(X, y).predict_proba(X).shape
    (80, 2)
    """

    # Requested by default under metadata routing, as by scikit-learn's group splitters
    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {
        "mi_weight": [Interval(Real, 0, None, closed="left")],
        "fusion": [str],
        "critic_steps": [Interval(Integral, 1, None, closed="left")],
        "modalities": [StrOptions({"auto"}), dict],
        "input_tokens": [StrOptions({"auto"}), dict],
        "input_scaling": [StrOptions({"column", "block"}), dict],
        "modality_dropout": [Interval(Real, 0, 1, closed="left")],
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "n_tokens": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "linear_weight": [Interval(Real, 0, 1, closed="both")],
        "linear_C": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "threshold": [Interval(Real, 0, 1, closed="both"), StrOptions({"tune"})],
        "false_negative_cost": [Interval(Real, 0, None, closed="neither"), None],
        "calibration": [StrOptions({"sigmoid", "temperature", "isotonic"}), None],
        "decision_folds": [Interval(Integral, 2, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "scoring": [str, callable],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions({"float32", "bfloat16", "float64", "auto"})],
        "callbacks": [list, None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _transient = ("net_", "_model", "_decisions")
    _n_parts = ("n_estimators",)

    def __init__(
        self,
        *,
        # NOTE[DIFF] (weight of the bound): 0.1 in the paper
        mi_weight=0.001,
        fusion="disentangled",
        critic_steps=1,
        modalities="auto",
        input_tokens="auto",
        input_scaling="column",
        modality_dropout=0.0,
        d_model=64,
        n_heads=4,
        n_tokens=4,
        dropout=0.3,
        n_estimators=4,
        linear_weight=0.5,
        linear_C=0.5,
        class_weight=None,
        threshold=0.5,
        false_negative_cost=None,
        calibration=None,
        decision_folds=3,
        max_epochs=12,
        batch_size=128,
        learning_rate=1e-3,
        weight_decay=0.05,
        early_stopping=False,
        scoring="loss",
        validation_fraction=0.1,
        n_iter_no_change=10,
        precision="float32",
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.mi_weight = mi_weight
        self.fusion = fusion
        self.critic_steps = critic_steps
        self.modalities = modalities
        self.input_tokens = input_tokens
        self.input_scaling = input_scaling
        self.modality_dropout = modality_dropout
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_tokens = n_tokens
        self.dropout = dropout
        self.n_estimators = n_estimators
        self.linear_weight = linear_weight
        self.linear_C = linear_C
        self.class_weight = class_weight
        self.threshold = threshold
        self.false_negative_cost = false_negative_cost
        self.calibration = calibration
        self.decision_folds = decision_folds
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.precision = precision
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the fusion.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors of all modalities side by side. A modality that a row lacks is NaN in all its
            columns.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes, or a 0/1 matrix of labels, of pandas, polars, Arrow or numpy; a missing value
            in a matrix of several labels is a label that is not known.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights of rows; rows of weight zero are left out.
        groups : array-like of shape (n_rows,) or None, default=None
            Patient of each row; every split inside then keeps patients together. A plain
            scikit-learn Pipeline passes groups only by metadata routing; that of
            `make_medfuse_pipeline` needs no routing.

        Returns
        -------
        MEDFuseClassifier
            The fitted classifier.
        """
        self._validate_params()
        # A, B, … side by side in X, y encoded, weights and patients
        rows = self._read_rows(X, y, sample_weight, groups)
        rng = check_random_state(self.random_state)
        # C = A ⊗ B, S_A, S_B, S_C, h and logits, trained with L = L_prediction + λ · L_MI
        net, model, held_out = self._train(rows, rng)
        # NOTE[DIFF] (decisions): the paper has no calibration and no thresholds but 0.5
        self._learn_decisions(rows, model, held_out, rng)
        self.net_, self._model = net, model
        self._describe_training(validated=held_out is not None)
        self._mean_contributions = self._model.contributions(rows.X).mean(axis=0)
        return self

    def predict(self, X):
        """Predict classes or labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_labels)
            Classes, or 0/1 where a label's probability reaches its threshold.
        """
        logits = self._logits(X)
        return self._decisions.predict(logits, self.thresholds_)

    def predict_proba(self, X):
        """Predict probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_classes) or (n_rows, n_labels)
            Probability of each class, or of each label being 1.
        """
        logits = self._logits(X)
        return self._decisions.probabilities(logits)

    def predict_log_proba(self, X):
        """Predict logarithms of probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_classes) or (n_rows, n_labels)
            Natural logarithms; minus infinity where a probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def decision_function(self, X):
        """Predict logits.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows,), (n_rows, n_classes) or (n_rows, n_labels)
            Logits, calibrated by a sigmoid if there is one; isotonic calibration does not change
            them.
        """
        logits = self._logits(X)
        return self._decisions.logits(logits)

    def transform(self, X):
        """Return the disentangled parts.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_parts * n_estimators * d_model)
            The part specific to each modality, then the shared part, if the fusion has them;
            `get_feature_names_out` names the columns.
        """
        X = self._validate_input(X)
        batches = []
        for members in self._model.parts(X):
            by_part = zip(*(member.vectors() for member in members), strict=True)
            side_by_side = torch.cat([vector for part in by_part for vector in part], dim=1)
            batches.append(side_by_side.cpu().numpy())
        return np.concatenate(batches)

    def get_feature_names_out(self, input_features=None):
        """Name the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names of fit, otherwise unused.

        Returns
        -------
        ndarray of str
            "labs_specific0", …, "notes_specific0", …, "shared0", ….
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        width = self.n_estimators * self.d_model
        parts = self.part_names_[:-1]
        stems = [part if part == "shared" else f"{part}_specific" for part in parts]
        return np.array([f"{stem}{i}" for stem in stems for i in range(width)], dtype=object)

    def contributions(self, X):
        """Return what each part adds to the logits of each row.

        A contribution is relative to its mean over the training rows, so that 0 means "as usual";
        the baseline is the mean logit of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_parts + 1, n_outputs)
            Contributions of the parts of `part_names_`, the baseline last. Their sum over the
            parts is `decision_function`, except for labels that had one value in fit. With two
            classes the one output is that of the second.
        """
        check_is_fitted(self)
        added = self._model.contributions(self._validate_input(X))
        centred = added - self._mean_contributions
        # The bias, last, is the same in every row; the baseline is the bias plus all means
        centred[:, -1] = self._mean_contributions.sum(axis=0)
        centred *= self._decisions.slope
        centred[:, -1] += self._decisions.intercept
        return centred

    def modality_importance(self, X, y, *, scoring=None, n_repeats=5, random_state=None):
        """Measure how much a score falls when a modality is shuffled among the rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit, preferably of rows that were not trained on.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Targets.
        scoring : str, callable or None, default=None
            Score, as in scikit-learn; None is "average_precision", or "neg_log_loss" for several
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
            of X unshuffled.
        """
        check_is_fitted(self)
        if scoring is None:
            several = self._target_kind == "multiclass"
            scoring = "neg_log_loss" if several else "average_precision"
        X = self._validate_input(X)
        # The names of X are checked; its shuffled copies are arrays and scored as such
        model = ScoredModel(self._decisions, self.thresholds_, self._model.logits)
        with no_values_in_errors():
            return modality_importance(
                model, self.modalities_, X, read_targets(y), scoring, n_repeats, random_state
            )

    def score(self, X, y, sample_weight=None):
        """Return the accuracy; for labels, the share of rows with every label right.

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
            return accuracy_score(read_targets(y), self.predict(X), sample_weight=sample_weight)

    def mutual_information(self, X):
        """Estimate the mutual information between the specific parts and the shared one.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit; a hundred rows or more give a steady estimate.

        Returns
        -------
        float
            Bound of I([S_A, S_B]; S_C) in nats, averaged over the nets. It is a bound only
            as far as the critic fits. Only `mi_weight` > 0 in fit trains the critic.
        """
        check_is_fitted(self)
        if self.fusion != "disentangled":
            raise ValueError(
                f"mutual_information needs fusion='disentangled'; fusion={self.fusion!r} has "
                "no critic."
            )
        if self.mi_weight == 0:
            raise ValueError(
                "mutual_information needs the critic, which mi_weight=0 leaves untrained; fit with "
                "a small positive mi_weight such as 1e-6 to measure without steering."
            )
        return mutual_information(self._model, self._validate_input(X))

    def _read_rows(self, X, y, sample_weight, groups) -> TrainingRows:
        """Validate X and y, find the modalities, encode the targets and weigh them."""
        y = read_targets(y)
        names = np.asarray(y.columns) if isinstance(y, pd.DataFrame) else None
        label = y.name if isinstance(y, pd.Series) else None
        y, observed = take_out_missing(y)
        with no_values_in_errors():
            X, y = validate_data(
                self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", multi_output=True
            )
            kind, classes, constant, y = encode_targets(y, observed)
        self._find_modalities()
        calibration = "calibration_slope_", "calibration_intercept_"
        for name in ("target_names_", "validation_scores_", *calibration):
            self.__dict__.pop(name, None)
        self.classes_, self._target_kind = classes, kind
        self._decisions = Decisions(kind, classes, constant)
        if label is not None and kind == "binary" and np.isin(classes, (0, 1)).all():
            names = np.array([label], dtype=object)
        if names is not None:
            self.target_names_ = names
        warn_of_constant_labels(kind, constant, names)
        return TrainingRows.weighted(
            X, y, kind, classes, observed, sample_weight, self.class_weight, groups
        )

    def _find_modalities(self) -> None:
        """Find columns and tokens of each modality; keep one if `fusion` names it."""
        one = None if self.fusion in FUSIONS else self.fusion
        names = getattr(self, "feature_names_in_", None)
        columns = resolve_modalities(self.modalities, names, self.n_features_in_, one)
        check_scaling(self.input_scaling, columns)
        if one is not None and one not in columns:
            raise ValueError(
                f"fusion={one!r} reads only the modality with that name, but the modalities of X "
                f"are {list(columns)}."
            )
        self.modalities_ = columns if one is None else {one: columns[one]}
        self.n_input_tokens_ = resolve_tokens(self.input_tokens, self.modalities_, names)

    def _train(self, rows: TrainingRows, rng) -> tuple[FusionNet, FusedModel, np.ndarray | None]:
        """Train the net on the rows, less those held out; return which these are."""
        holds_out = self.early_stopping or (self._decides() and self.decision_folds is None)
        split = rows.split(self.validation_fraction, rng) if holds_out else None
        kept, held_out = split or (slice(None), None)
        columns = self.modalities_
        scaler = BlockScaler.fit(
            columns, self.n_input_tokens_, rows.X, rows.row_weight, self.input_scaling
        )
        scaled = scaler.transform(rows.X)
        train, train_scaled = rows.take(kept), scaled.take(kept)
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        validation, score = None, None
        if held_out is not None:
            left = rows.take(held_out)
            validation = to_dataset(columns, scaled.take(held_out), left, dtype)
            if self.early_stopping and self.scoring != "loss":
                score = self._scorer(left, scaler)
        device = resolve_device(self.device)
        with torch_seed(draw_seed(rng), device), with_gradients():
            module = self._build_module().to(dtype)
            if module.linear is not None:
                fit_regressions(module.linear, train_scaled, train, self.linear_C)
            net = self._build_net(module, device, len(train.X), validation, score)
            net.fit(to_dataset(columns, train_scaled, train, dtype), y=None)
            net.forget_rows()
            # Weights are saved in float32: the model must predict now as it will once loaded
            for_inference(net.module_.float(), device)
        return net, FusedModel(net.module_, scaler), held_out

    def _build_module(self) -> FusionWithCritic:
        """Untrained fusion of this classifier's modalities, with its critic."""
        check_heads(self.d_model, self.n_heads)
        tokens = self.n_input_tokens_
        return FusionWithCritic(
            self.n_estimators,
            [len(block) // max(1, tokens[name]) for name, block in self.modalities_.items()],
            len(self._decisions.constant),
            d_model=self.d_model,
            # A modality's name asks for that modality alone: late fusion of one
            fusion=self.fusion if self.fusion in FUSIONS else "late",
            n_heads=self.n_heads,
            n_tokens=self.n_tokens,
            dropout=self.dropout,
            linear_weight=self.linear_weight,
            n_input_tokens=[tokens[name] for name in self.modalities_],
        )

    def _build_net(self, module, device, n_train: int, validation=None, score=None) -> FusionNet:
        """Untrained skorch net around a module; `score` replaces the loss in early stopping."""
        steps = -(-n_train // self.batch_size) * self.max_epochs
        callbacks = [
            LRScheduler(
                policy=torch.optim.lr_scheduler.OneCycleLR,
                max_lr=self.learning_rate,
                total_steps=steps + 1,
                pct_start=WARM_UP,
                step_every="batch",
            ),
            *([] if score is None else [ValidationScore(score)]),
            EpochBar(self.verbose),
            *(self.callbacks or []),
        ]
        if validation is not None and self.early_stopping:
            stop = EarlyStopping(
                monitor="valid_loss" if score is None else "valid_score",
                lower_is_better=score is None,
                threshold_mode="rel" if score is None else "abs",
                patience=self.n_iter_no_change,
                load_best=True,
                sink=noop,
            )
            callbacks.append(stop)
        autocast = self.precision == "bfloat16"
        if self.precision == "auto":
            # On a CPU, nets this small lose more to casting than they gain
            autocast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return FusionNet(
            module,
            criterion=torch.nn.BCEWithLogitsLoss,
            mi_weight=self.mi_weight,
            critic_steps=self.critic_steps,
            modality_dropout=self.modality_dropout,
            autocast=autocast,
            optimizer=torch.optim.AdamW,
            lr=self.learning_rate,
            optimizer__weight_decay=self.weight_decay,
            optimizer__fused=True,
            # Skorch refuses settings of an optimiser without parameters
            **({"critic_optimizer__lr": self.learning_rate} if len(module.critic) else {}),
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            iterator_train__shuffle=True,
            train_split=None if validation is None else predefined_split(validation),
            callbacks=callbacks,
            device=str(device),
            verbose=0,
        )

    def _scorer(self, held_out: TrainingRows, scaler) -> Callable:
        """Function from a module in training to its score on the rows held out."""
        # Scorers do not handle missing labels
        complete = (held_out.cell_weight > 0).all(axis=1)
        X = held_out.X[complete]
        y = decode_targets(self._target_kind, self.classes_, held_out.y[complete])

        def score(module):
            logits = FusedModel(module.eval(), scaler).logits
            model = ScoredModel(self._decisions, np.array([0.5]), logits)
            return check_scoring(model, self.scoring)(model, X, y)

        return score

    def _decides(self) -> bool:
        """Whether decisions are learned on rows held out of the training."""
        return self.threshold == "tune" or self.calibration is not None

    def _learn_decisions(self, rows: TrainingRows, model: FusedModel, held_out, rng) -> None:
        """Calibrate and tune thresholds on rows held out of training."""
        decisions = self._decisions
        labels = decisions.kind == "multilabel-indicator"
        tune = self.threshold == "tune"
        start = 0.5 if tune else float(self.threshold)
        self.thresholds_ = np.full(len(decisions.constant) if labels else 1, start)
        if not self._decides():
            return
        if self.decision_folds is not None:
            predictions = self._predict_folds(rows, rng)
        elif held_out is not None:
            rows = rows.take(held_out)
            predictions = iter([(slice(None), model.logits(rows.X))])
        else:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(rows.X)} rows is too "
                "few to tune decisions on; hold out more, or set decision_folds."
            )
        logits = np.zeros((len(rows.X), len(decisions.constant)))
        for left, found in predictions:
            logits[left] = found
        # Class weights would distort probabilities; missing labels still do not count
        weight = rows.row_weight[:, None] * (rows.cell_weight > 0)
        self._decisions = decisions.calibrated(self.calibration, logits, rows.y, weight)
        if self.calibration in ("sigmoid", "temperature"):
            self.calibration_slope_ = self._decisions.slope
            self.calibration_intercept_ = self._decisions.intercept
        if tune:
            self.thresholds_ = self._decisions.tuned_thresholds(
                logits, rows.y, weight, self.false_negative_cost
            )

    def _predict_folds(self, rows: TrainingRows, rng) -> Iterator[tuple]:
        """Yield the rows of each fold and their logits from a model trained on all others."""
        for kept, left in rows.folds(self.decision_folds, rng):
            _, model, _ = self._train(rows.take(kept), rng)
            yield left, model.logits(rows.X[left])

    def _describe_training(self, validated: bool) -> None:
        """Set the attributes that describe the training."""
        history, fusion = self.net_.history, self.net_.module_.fusion[0]
        self.part_names_ = [
            *(self.modalities_ if fusion.has_specific else []),
            *(["shared"] if fusion.has_shared else []),
            "baseline",
        ]
        self.n_iter_ = len(history)
        self.loss_curve_ = [float(loss) for loss in history[:, "train_loss"]]
        losses = history[:, "valid_loss"] if validated else []
        self.validation_losses_ = [float(loss) for loss in losses]
        if "valid_score" in history[-1]:
            self.validation_scores_ = [float(score) for score in history[:, "valid_score"]]

    def _validate_input(self, X) -> np.ndarray:
        check_is_fitted(self)
        with no_values_in_errors():
            return validate_data(
                self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan"
            )

    def _logits(self, X) -> np.ndarray:
        X = self._validate_input(X)
        logits = self._model.logits(X)
        if np.isnan(logits).any():
            raise ValueError(
                f"X has values too large to compute with in {np.isnan(logits).any(axis=1).sum()} "
                "of its rows; look for wrong units and for error codes of devices, and give NaN in "
                "all columns of a modality that is not known."
            )
        return logits

    def _get_module(self):
        return self.net_.module_ if hasattr(self, "net_") else None

    def _restore_module(self) -> FusionWithCritic:
        device = resolve_fitted_device(self.device)
        self.net_ = self._build_net(self._build_module(), device, 1).initialize_to_predict()
        return for_inference(self.net_.module_, device)

    def __getstate__(self):
        """Flatten the fitted parts to arrays; a fitted estimator leaves its callbacks behind."""
        state = super().__getstate__()
        if "_model" in vars(self):
            state["callbacks"] = None
            state["_fitted_parts"] = {
                "scaler": self._model.scaler._asdict(),
                "decisions": self._decisions._asdict(),
            }
        return state

    def __setstate__(self, state):
        """Rebuild the fitted parts around the net that was saved."""
        state = dict(state)
        parts = state.pop("_fitted_parts", None)
        if parts is not None:
            state["_decisions"] = Decisions(**parts["decisions"])
        super().__setstate__(state)
        if parts is not None:
            self._model = FusedModel(self.net_.module_, BlockScaler(**parts["scaler"]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # NaN only stands for an absent modality; a single missing value is refused
        tags.input_tags.allow_nan = False
        tags.classifier_tags.multi_label = True
        return tags
