"""Fit the lab model, its linear part in closed form and its net by hiding cells, and predict."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, reduce
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy import sparse
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from .._checkpoint import Checkpoint, load_optimizer
from .._nn.masked_autoencoder import (
    FactorModel,
    LabBatch,
    LabPrior,
    MaskedLabAutoencoder,
    random_masking,
)
from .._training import (
    WARM_UP,
    Announcement,
    BestWeights,
    FittingRows,
    progress_bar,
    random_state,
    rows_of_prediction,
    rows_of_training,
    set_random_state,
)
from ._lab_cells import LabCells, LabScale
from ._lab_start import LabStart

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""

    def with_callbacks(method):
        """Return the method unchanged."""
        return method


Result = TypeVar("Result")

# The linear part predicts a row from what it has learned from the other folds
N_FOLDS = 5
# With fewer rows, a score says nothing
_MIN_VALIDATION_ROWS = 10
# Share of the observed cells hidden to score a model, as is usual for imputation
_SCORED_SHARE = 0.2
# Steps over which the learning rate of `partial_fit` rises before it falls with the inverse root
_STREAM_WARM_UP = 100
# Cells, with padding, of the rows of a batch that go through the net together
_CELLS_TOGETHER = 1_536
_ROWS_HIDDEN_TOGETHER = 512
# Precision of the Gaussian prior on a loading: strong enough for 300 rows of 50 labs, and without
# effect with 5,000
_LOADING_PRECISION = 50.0
_N_ITERATIONS = 15
_PAIRS_OF_A_PRIOR = 5.0
# More rows would change the loadings by less than the second digit
_MAX_ROWS = 10_000
_ROWS_AT_ONCE = 1024
_DENSE_ENOUGH = 0.3
# What was learned elsewhere counts as at most this many rows: hospitals differ little in how labs
# depend on each other, and more in their means
_MOST_ROWS_FOR_LOADINGS = 1_000.0
_MOST_ROWS_FOR_MEAN = 20.0
_PREDICTION_BATCH = 1024
# Imputation predicts every lab of every row, so a wide table goes through in fewer rows at once
_IMPUTED_CELLS_AT_ONCE = 65_536
_SAME_RESULT = "with the same result"


class LabTrainingRows(NamedTuple):
    """Distinct rows in random order, on the labs' scales."""

    cells: LabCells
    weight: np.ndarray  # (n_rows,)
    version: np.ndarray  # (n_rows,): the row's fold, whose version of the linear part predicts it


def training_rows(cells: LabCells, weight: np.ndarray) -> LabTrainingRows:
    """Put rows into folds."""
    return LabTrainingRows(cells, weight, np.arange(len(cells)) % N_FOLDS)


def split_rows(
    cells: LabCells, weight: np.ndarray, by_group, held_out: float, seed: int
) -> tuple[LabTrainingRows, LabCells | None]:
    """Return the rows to learn from and the held-out share, or None if that is too few rows.

    With groups, a share of the groups is held out: `by_group` (n_rows, n_groups) has each row's
    weight in each group. A row that also occurs in another group is learned from, with its weight
    there.
    """
    shares = sparse.diags_array(weight, dtype=np.float64) if by_group is None else by_group
    order = np.random.default_rng(seed).permutation(shares.shape[1])
    kept = np.ones(len(order))
    kept[order[: min(round(held_out * len(order)), len(order) - 1)]] = 0.0
    learned = shares @ kept
    validation = np.flatnonzero(learned == 0)
    if len(validation) < _MIN_VALIDATION_ROWS:
        return training_rows(cells, weight), None
    train = np.flatnonzero(learned)
    return training_rows(cells.take(train), learned[train]), cells.take(validation)


# The linear part: factor analysis of partly observed rows


class _Parameters(NamedTuple):
    loadings: np.ndarray  # (n_labs, r)
    mean: np.ndarray  # (n_labs,)
    noise: np.ndarray  # (n_labs,)


class FactorAnalysis:
    r"""Expectation-maximisation for `FactorModel`, with a Gaussian prior on the loadings.

    The prior is :math:`w_j \sim N(0, I/50)`. For labs learned elsewhere it is centred on the
    loadings from there (`start`), and the more rows these come from, the narrower it is. Rows are
    in random order; `z` (n_cells,) is the quantity that is modelled, each cell's standardised value
    or its normal score.

    A full covariance matrix (Schafer 1997) does as well with 50 labs, but has 2 million entries for
    1,505; learning the loadings by gradients needs a learning rate and many more passes.
    """

    def __init__(self, cells, z, weight, n_factors, start=None):
        n_rows = min(len(cells), _MAX_ROWS)
        row_start = cells.row_start[: n_rows + 1]
        used, n_labs = slice(0, row_start[-1]), cells.n_labs
        parts = [
            sparse.csr_array((part, cells.lab[used], row_start), shape=(n_rows, n_labs))
            for part in (np.ones(used.stop), z[used])
        ]
        if used.stop > _DENSE_ENOUGH * n_rows * n_labs:
            parts = [part.toarray() for part in parts]
        self._observed, self._z = parts
        self._weight = weight[:n_rows]
        count = self._weight @ self._observed
        self._count = np.maximum(count, 1e-9)
        self._square = self._weight @ (self._z * self._z)
        self._variance = self._square / self._count + 1e-6
        self._n_factors = n_factors
        self._evidence = np.zeros(n_labs)
        self._centre = _Parameters(np.zeros((n_labs, n_factors)), np.zeros(n_labs), np.ones(n_labs))
        if start is not None:
            learned = (start.loadings[-1], start.mean[-1], start.noise)
            self._centre = _Parameters(*(part.double().cpu().numpy() for part in learned))
            self._evidence = start.evidence.double().cpu().numpy()

    def fit(self) -> _Parameters:
        """Find the most probable loadings, means and noise."""
        parameters = self._first_guess()
        for _ in range(_N_ITERATIONS):
            moments = self._moments(parameters, np.arange(len(self._weight)))
            parameters = self._maximise(moments, parameters.noise)
        return parameters

    @property
    def evidence(self) -> np.ndarray:
        """Number of cells (n_labs,) from which each lab was learned, here and before."""
        return self._count + self._evidence

    def versions(self, parameters: _Parameters, fold: np.ndarray) -> list[_Parameters]:
        """Parameters learned without each fold (n_rows,), and last those from all rows.

        Only the last maximisation step leaves the rows of a fold out, which costs one step for all
        folds together; their influence on other rows' factors stays.
        """
        rows = np.arange(len(self._weight))
        of_fold = [
            self._moments(parameters, rows[fold[: len(rows)] == each]) for each in range(N_FOLDS)
        ]
        total = reduce(np.add, of_fold)
        without = [
            self._maximise(total - part, parameters.noise, keep_noise=True) for part in of_fold
        ]
        return [*without, parameters]

    def _first_guess(self) -> _Parameters:
        n_labs = self._z.shape[1]
        if self._evidence.any():
            known = self._evidence > 0
            noise = np.where(known, self._centre.noise, self._variance)
            return self._centre._replace(noise=noise)
        loadings = np.zeros((n_labs, self._n_factors))
        variance, direction = self._principal_axes()
        loadings[:, : len(variance)] = direction * np.sqrt(variance)
        left = self._variance - (loadings**2).sum(axis=1)
        mean = (self._weight @ self._z) / self._count
        return _Parameters(loadings, mean, np.maximum(left, 0.1 * self._variance))

    def _principal_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Largest eigenvalues, less the noise, and eigenvectors of the pairwise covariance."""
        weighted = sparse.diags_array(self._weight)
        pairs = self._observed.T @ (weighted @ self._observed)
        products = self._z.T @ (weighted @ self._z)
        if sparse.issparse(pairs):
            pairs, products = pairs.toarray(), products.toarray()
        # Little is known about labs that are seldom measured together
        covariance = products / (pairs + _PAIRS_OF_A_PRIOR)
        values, vectors = np.linalg.eigh(covariance)
        kept = slice(None, -min(self._n_factors, len(values)) - 1, -1)
        return np.maximum(values[kept], 0.0), vectors[:, kept]

    def _moments(self, parameters: _Parameters, rows: np.ndarray) -> np.ndarray:
        """Sums over rows for the maximisation step, (n_labs, r + 1, r + 2).

        With x = (f, 1), they are E[x x'] and, as the last column, z E[x], over the rows in which
        the lab was measured.
        """
        # In blocks, as each row needs r^2 numbers
        blocks = np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))
        return reduce(np.add, (self._moments_of(parameters, block) for block in blocks))

    def _moments_of(self, parameters: _Parameters, rows: np.ndarray) -> np.ndarray:
        r = self._n_factors
        observed, z, weight = self._observed[rows], self._z[rows], self._weight[rows]
        scaled = parameters.loadings / parameters.noise[:, None]
        # The posterior of each row's factors, over its measured cells
        outer = (scaled[:, :, None] * parameters.loadings[:, None, :]).reshape(-1, r * r)
        covariance = np.linalg.inv(np.eye(r) + (observed @ outer).reshape(-1, r, r))
        projected = z @ scaled - observed @ (parameters.mean[:, None] * scaled)
        factors = (covariance @ projected[:, :, None])[:, :, 0]

        x = np.concatenate([factors, np.ones((len(rows), 1))], axis=1)
        second = x[:, :, None] * x[:, None, :]
        second[:, :r, :r] += covariance
        second *= weight[:, None, None]
        second = observed.T @ second.reshape(len(rows), (r + 1) ** 2)
        first = z.T @ (x * weight[:, None])
        return np.concatenate([second.reshape(-1, r + 1, r + 1), first[:, :, None]], axis=2)

    def _maximise(self, moments: np.ndarray, noise: np.ndarray, keep_noise=False) -> _Parameters:
        r = self._n_factors
        second, first = moments[:, :, :-1].copy(), moments[:, :, -1].copy()
        of_loadings = np.minimum(self._evidence, _MOST_ROWS_FOR_LOADINGS)
        of_mean = np.minimum(self._evidence, _MOST_ROWS_FOR_MEAN)
        ridge = (_LOADING_PRECISION * noise + of_loadings)[:, None]
        system = second.copy()
        system[:, np.arange(r), np.arange(r)] += ridge
        system[:, r, r] += of_mean + 1e-6  # Gives a lab that was never measured the mean 0
        target = first.copy()
        target[:, :r] += ridge * self._centre.loadings
        target[:, r] += of_mean * self._centre.mean
        solution = np.linalg.solve(system, target[:, :, None])[:, :, 0]
        loadings, mean = solution[:, :r], solution[:, r]
        if keep_noise:
            return _Parameters(loadings, mean, noise)
        residual = (
            self._square
            - 2 * (solution * first).sum(axis=1)
            + np.einsum("jr,jrs,js->j", solution, second, solution)
        )
        # One pseudo-observation of the lab's own variance, and a floor: no lab is known exactly
        noise = residual + self._variance + of_loadings * self._centre.noise
        noise /= self._count + 1.0 + of_loadings
        return _Parameters(loadings, mean, np.maximum(noise, 1e-3 * self._variance))


def fit_prior(prior: LabPrior, rows: LabTrainingRows, start: LabStart | None) -> None:
    """Fit the two factor models of a net, which has one version more than there are folds."""

    def fit(part: str, z: np.ndarray) -> None:
        model: FactorModel = getattr(prior, part)
        n_factors = model.loadings.shape[-1]
        known = None if start is None else start.factor_model(part)
        analysis = FactorAnalysis(rows.cells, z, rows.weight, n_factors, known)
        versions = analysis.versions(analysis.fit(), rows.version)
        fill_factor_model(model, versions, analysis.evidence)

    # LAPACK inverts small matrices on one core and lets other threads run
    with ThreadPoolExecutor(min(2, torch.get_num_threads())) as pool:
        list(pool.map(fit, ("of_values", "of_scores"), (rows.cells.value, rows.cells.score)))


def fill_factor_model(model: FactorModel, versions: list[_Parameters], evidence: np.ndarray):
    """Put fitted parameters into a model made for as many versions."""
    model.loadings.copy_(torch.from_numpy(np.stack([part.loadings for part in versions])))
    model.mean.copy_(torch.from_numpy(np.stack([part.mean for part in versions])))
    model.noise.copy_(torch.from_numpy(versions[-1].noise))
    model.evidence.copy_(torch.from_numpy(evidence))


# The net


class MaskedTrainer:
    """Fit a `MaskedLabAutoencoder` by hiding observed cells and predicting them.

    `mask_ratio` is the lowest and the highest share; `n_rows` is the number of rows for `run`, or
    None for a stream. Row order and masks are drawn from `generator`.
    """

    def __init__(
        self,
        module: MaskedLabAutoencoder,
        generator: torch.Generator,
        mask_ratio: tuple[float, float],
        n_rows: int | None,
        *,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        max_epochs: int,
        n_iter_no_change: int,
    ):
        self.module = module
        self.generator = generator
        self.loss_curve: list[float] = []
        self.validation_scores: list[float] = []
        self.device = next(module.parameters()).device
        self.fitting_rows = rows_of_training(
            self.device, "batch_size={size}", "lower d_model or n_layers, give fewer labs"
        )
        self._mask_ratio = mask_ratio
        self._batch_size = batch_size
        self._max_epochs = max_epochs
        self._patience = n_iter_no_change
        self._best = BestWeights(n_iter_no_change)
        self._optimizer = torch.optim.AdamW(
            module.parameters(), learning_rate, weight_decay=weight_decay, fused=True
        )
        self._schedule: LRScheduler
        if n_rows is None:
            self._schedule = LambdaLR(self._optimizer, _stream_rate)
        else:
            steps = max(math.ceil(n_rows / batch_size) * max_epochs, 1)
            self._schedule = OneCycleLR(
                self._optimizer, learning_rate, total_steps=steps, pct_start=WARM_UP
            )

    def run(
        self,
        train: LabTrainingRows,
        validation: LabCells | None,
        verbose: int,
        checkpoint: Checkpoint | None,
        after_epoch: Callable[[], bool],
    ) -> None:
        """Train for `max_epochs`, or until `after_epoch` is True or the validation score stalls.

        The state is saved in `checkpoint` after each epoch, and taken from there at the start.
        """
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            with checkpoint.restoring():
                self._load_state(state)
        try:
            with progress_bar(self._max_epochs, "labs", "epoch", verbose) as bar:
                bar.update(len(self.loss_curve))
                announcement, n_before = Announcement(bar), len(self.loss_curve)
                announcement.begin(f"Training on the labs of {len(train.cells):,} rows, at most")
                while len(self.loss_curve) < self._max_epochs and not self._out_of_patience():
                    self.one_pass(train)
                    bar.set_postfix(loss=f"{self.loss_curve[-1]:.4f}", refresh=False)
                    bar.update()
                    if validation is not None:
                        hidden = predict_hidden(self.module, validation, None, self.fitting_rows)
                        score = hidden.r2()
                        self.validation_scores.append(score)
                        self._best.update(len(self.loss_curve), score, self.module)
                    if checkpoint is not None:
                        checkpoint.save(self._state())
                    n_epochs = len(self.loss_curve) - n_before
                    announcement.update(n_epochs / (self._max_epochs - n_before))
                    if after_epoch():
                        break
        except KeyboardInterrupt:
            warnings.warn(
                f"Training was interrupted after {len(self.loss_curve)} of {self._max_epochs} "
                "epochs; the encoder keeps what it has learned.",
                UserWarning,
                stacklevel=4,
            )
        self._best.restore(self.module)

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, whose weights were kept."""
        return self._best.best_epoch if self.validation_scores else len(self.loss_curve)

    def one_pass(self, rows: LabTrainingRows) -> None:
        """Take one step per batch, over all rows once, in a new order."""
        self.module.train()
        order = torch.randperm(len(rows.cells), generator=self.generator).numpy()
        total = 0.0
        for part in np.split(order, range(self._batch_size, len(order), self._batch_size)):
            total += self._accumulate_gradient(rows, part) * len(part)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self._optimizer.step()
            self._schedule.step()
        self.loss_curve.append(total / len(rows.cells))

    def _accumulate_gradient(self, rows: LabTrainingRows, part: np.ndarray) -> float:
        """Set the parameters' gradients to that of a batch's loss, and return the loss."""
        parameter = next(self.module.parameters())
        batch = rows.cells.batch(part, parameter.dtype, parameter.device)
        # NOTE[DIFF] (mask share): each row draws its own, where the paper hides 75 % of every row
        low, high = self._mask_ratio
        ratio = low + (high - low) * torch.rand(len(part), generator=self.generator)
        visible, hidden = random_masking(batch, ratio.to(parameter.device), self.generator)
        version = torch.from_numpy(rows.version[part]).to(parameter.device)
        # Divided by the mean, so that the scale of the weights does not change the step
        weight = torch.from_numpy(rows.weight[part] / rows.weight.mean())
        weight = weight.to(parameter)
        n_hidden = hidden.measured.sum().clamp(min=1)
        alike = _alike(visible)

        def add_gradients(size: int) -> float:
            self._optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for piece in (each for together in alike for each in together.split(size)):
                seen, asked = visible.rows(piece), hidden.rows(piece)
                share = asked.measured.sum() / n_hidden
                piece_loss = self.module(seen, asked, version[piece], weight[piece]) * share
                piece_loss.backward()
                loss += piece_loss.item()
            return loss

        return self.fitting_rows.run(len(part), add_gradients)

    def _out_of_patience(self) -> bool:
        waited = len(self.loss_curve) - self._best.best_epoch
        return bool(self.validation_scores) and waited >= self._patience

    def _state(self) -> dict:
        return {
            "seed": self.generator.initial_seed(),
            "layers": random_state(self.device),
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self.generator.get_state(),
            "loss_curve": self.loss_curve,
            "validation_scores": self.validation_scores,
            "best": self._best.state_dict(),
        }

    def _load_state(self, state: dict) -> None:
        # The best weights come first: if they do not fit, the fit fails now and not at its end
        self._best.load_state_dict(state["best"])
        self._best.restore(self.module)
        self.module.load_state_dict(state["module"])
        load_optimizer(self._optimizer, self._schedule, state)
        self.loss_curve = [float(loss) for loss in state["loss_curve"]]
        self.validation_scores = [float(score) for score in state["validation_scores"]]
        set_random_state(state["layers"], self.device)
        self.generator.set_state(state["generator"])


def _stream_rate(step: int) -> float:
    return min((step + 1) / _STREAM_WARM_UP, math.sqrt(_STREAM_WARM_UP / (step + 1)))


def _alike(batch: LabBatch) -> list[torch.Tensor]:
    """Positions of rows, grouped by their number of cells so that there is little padding."""
    n_cells = batch.measured.sum(dim=1)
    order = n_cells.argsort(stable=True)
    if batch.lab.device.type != "cpu":
        # On a GPU, time depends on the number of calls and not on the size of the products
        return [order]
    pieces, start = [], 0
    for stop, width in enumerate(n_cells[order].tolist()):
        # One more for the summary token
        if stop > start and (stop - start + 1) * (width + 1) > _CELLS_TOGETHER:
            pieces.append(order[start:stop])
            start = stop
    return [*pieces, order[start:]]


@contextmanager
def epochs_of_fit(estimator, X, y, attributes: Callable[[], dict]) -> Iterator[Callable[[], bool]]:
    """Yield a function that reports an epoch to scikit-learn's callbacks; True means stop.

    `attributes` returns the current fitted attributes, with which a callback may predict.
    """
    if not hasattr(estimator, "_init_callback_context"):  # scikit-learn before 1.9
        yield lambda: False
        return
    fitted = {"estimator": estimator, "X": X, "y": y}
    context = estimator._init_callback_context(max_subtasks=estimator.max_epochs)
    context.call_on_fit_task_begin(**fitted)

    def after_epoch() -> bool:
        epoch = context.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(**fitted)
        return bool(epoch.call_on_fit_task_end(**fitted, reconstruction_attributes=attributes))

    yield after_epoch
    context.call_on_fit_task_end(**fitted, reconstruction_attributes=attributes)


# Predictions


class HiddenCells(NamedTuple):
    """Standardised values of hidden cells and their predictions, (n_hidden,) each."""

    lab: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    spread: np.ndarray  # Standard deviation of the prediction

    def r2(self) -> float:
        """Share of the variance around the training means that is explained."""
        total = (self.true**2).sum()
        left = ((self.true - self.predicted) ** 2).sum()
        return float(1.0 - left / total) if total > 0 else 0.0


@torch.no_grad()
def predict_hidden(
    module: MaskedLabAutoencoder, cells: LabCells, version=None, fitting: FittingRows | None = None
) -> HiddenCells:
    """Hide a fifth of the observed cells, the same at each call, and predict them from the rest."""
    module.eval()
    parameter = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    fitting = fitting or rows_of_prediction(parameter.device)
    found = []
    for part in fitting.slices(len(cells), _ROWS_HIDDEN_TOGETHER):
        rows = np.arange(part.start, part.stop)
        batch = cells.batch(rows, parameter.dtype, parameter.device)
        ratio = torch.full((len(rows),), _SCORED_SHARE, device=parameter.device)
        # Drawn for the whole part, as it must not depend on how many rows fit into memory
        visible, hidden = random_masking(batch, ratio, generator)
        by = None if version is None else torch.from_numpy(version[rows]).to(parameter.device)
        predict = partial(_predict, module, visible, hidden, by)
        found += [parts for _, parts in fitting.batches(len(rows), len(rows), predict)]
    fitting.warn()
    lab, *numbers = torch.cat(found, dim=1).numpy()
    return HiddenCells(lab.astype(np.int64), *numbers)


def _predict(module, visible: LabBatch, hidden: LabBatch, version, rows: slice) -> torch.Tensor:
    """Lab, value, prediction and its spread of the hidden cells of some rows, (4, n_hidden)."""
    seen, asked = (LabBatch(*(part[rows] for part in batch)) for batch in (visible, hidden))
    encoded = module.forward_encoder(seen, None if version is None else version[rows])
    value, _ = module.forward_decoder(encoded, asked.lab)
    parts = (asked.lab, asked.value, value, module.spread(encoded, asked.lab))
    return torch.stack([part[asked.measured].double() for part in parts]).cpu()


def calibrate_spread(module: MaskedLabAutoencoder, rows: LabTrainingRows, fitting: FittingRows):
    """Scale each lab's predicted standard deviation to the errors on re-hidden cells.

    The mean of all labs, which stabilises labs with few cells, counts as much as twenty cells.
    """
    hidden = predict_hidden(module, rows.cells, rows.version, fitting)
    if not len(hidden.lab):
        return
    ratio = ((hidden.true - hidden.predicted) / hidden.spread) ** 2
    # A single wrong entry must not widen a lab's spread
    ratio = np.minimum(ratio, 25.0)
    n_labs = len(module.spread_scale)
    count = np.bincount(hidden.lab, minlength=n_labs)
    total = np.bincount(hidden.lab, ratio, minlength=n_labs)
    scale = np.sqrt((total + 20.0 * ratio.mean()) / (count + 20.0))
    module.spread_scale.copy_(torch.from_numpy(scale).to(module.spread_scale.device))


def _in_batches(
    module: MaskedLabAutoencoder,
    cells: LabCells,
    rows: np.ndarray,
    run: Callable[[LabBatch], Result],
    size: int = _PREDICTION_BATCH,
    outcome: str = _SAME_RESULT,
) -> Iterator[tuple[np.ndarray, Result]]:
    """Yield rows, grouped by length, and the output of `run` on their packed cells.

    If batches do not fit into memory, `outcome` says in the warning what smaller ones change.
    """
    rows = rows[np.argsort(cells.n_measured[rows], kind="stable")]
    device = next(module.parameters()).device
    fitting = rows_of_prediction(device, outcome)

    def run_rows(part: slice) -> Result:
        return run(cells.batch(rows[part], torch.float64, device))

    for part, result in fitting.batches(len(rows), size, run_rows):
        yield rows[part], result
    fitting.warn()


def embed_rows(module: MaskedLabAutoencoder, cells: LabCells, width: int, absent: float):
    """Summary of each row (n_rows, width); `absent` where nothing was measured."""
    embedding = np.full((len(cells), width), absent)
    measured = np.flatnonzero(cells.n_measured)

    def summarise(batch):
        return module.forward_encoder(batch).summary.cpu().numpy()

    for rows, summary in _in_batches(module, cells, measured, summarise):
        embedding[rows] = summary
    return embedding


def embed_labs(module: MaskedLabAutoencoder, cells: LabCells, d_model: int, absent: float):
    """Token of each lab, side by side; `absent` where the lab was not measured."""
    tokens = np.full((len(cells), cells.n_labs, d_model), absent)
    measured = np.flatnonzero(cells.n_measured)

    def encode(batch):
        kept = batch.measured
        found = module.forward_encoder(batch).tokens[:, 1:][kept]
        return [part.cpu().numpy() for part in (kept, batch.lab[kept], found)]

    for rows, (kept, lab, found) in _in_batches(module, cells, measured, encode):
        row = np.broadcast_to(rows[:, None], kept.shape)[kept]
        tokens[row, lab] = found
    return tokens.reshape(len(cells), cells.n_labs * d_model)


class LabImputer:
    """Predict the missing cells of a table (n_rows, n_labs) with a trained net."""

    def __init__(self, module: MaskedLabAutoencoder, scale: LabScale, values: np.ndarray):
        # In single precision the net takes half the time, and predictions change by 1e-6 standard
        # deviations; the linear part solves systems that need double precision
        self._module = copy.deepcopy(module).float()
        self._module.prior = module.prior
        self._scale = scale
        self._values = values

    def expected(self) -> np.ndarray:
        """Return a copy of the table filled with expected values."""

        def predict(encoded, labs):
            value, _ = self._module.forward_decoder(encoded, labs)
            return self._scale.possible(value[None].cpu().numpy(), labs.cpu().numpy())

        return self._fill(self._values[None], predict)[0]

    def draws(self, n_draws: int, seed: int) -> np.ndarray:
        """Return copies of the table, each filled with its own draw."""
        generator = torch.Generator().manual_seed(seed)

        def draw(encoded, labs):
            drawn = self._module.draw(encoded, labs, n_draws, generator).cpu().numpy()
            return self._scale.possible(drawn, labs.cpu().numpy())

        copies = np.repeat(self._values[None], n_draws, axis=0)
        return self._fill(copies, draw, "with other draws of the same distribution")

    def spread(self) -> np.ndarray:
        """Return standard deviations in the labs' units, 0 where measured."""

        def predict(encoded, labs):
            value, _ = self._module.forward_decoder(encoded, labs)
            parts = (value, self._module.spread(encoded, labs), labs)
            return self._scale.spread_in_units(*(part.cpu().numpy() for part in parts))[None]

        return self._fill(np.zeros((1, *self._values.shape)), predict)[0]

    def _fill(self, copies: np.ndarray, predict, outcome: str = _SAME_RESULT) -> np.ndarray:
        """Return copies (n_copies, n_rows, n_labs) with predictions in the unmeasured cells."""
        filled, missing = copies.copy(), np.isnan(self._values)
        cells = self._scale.cells(LabCells.from_table(self._values))
        size = min(max(_IMPUTED_CELLS_AT_ONCE // cells.n_labs, 1), _PREDICTION_BATCH)

        def run(batch):
            labs = torch.arange(cells.n_labs).to(batch.lab.device).expand(len(batch.lab), -1)
            return predict(self._module.forward_encoder(batch), labs)

        needed = np.flatnonzero(missing.any(axis=1))
        for rows, found in _in_batches(self._module, cells, needed, run, size, outcome):
            filled[:, rows] = np.where(missing[rows], found, filled[:, rows])
        return filled
