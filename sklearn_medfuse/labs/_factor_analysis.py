"""Fit the lab model's linear part: factor analysis of partly observed rows."""

from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from .._nn.factor_model import FactorModel, LabPrior
from ._lab_start import LabStart
from ._training_rows import N_FOLDS, TrainingRows

# precision of the Gaussian prior on a loading: strong enough for 300 rows of 50 labs, without
# effect on 5,000
_LOADING_PRECISION = 50.0
_N_ITERATIONS = 15
_PAIRS_OF_A_PRIOR = 5.0
# more rows would change the loadings less than the second digit
_MAX_ROWS = 10_000
_ROWS_AT_ONCE = 1024
_DENSE_ENOUGH = 0.3
# What was learned elsewhere counts as so many rows at most: how labs go together differs little
# between hospitals, where a lab lies differs more.
_MOST_ROWS_FOR_LOADINGS = 1_000.0
_MOST_ROWS_FOR_MEAN = 20.0


class _Parameters(NamedTuple):
    loadings: np.ndarray  # (n_labs, r)
    mean: np.ndarray  # (n_labs,)
    noise: np.ndarray  # (n_labs,)


class _Moments(NamedTuple):
    """Sums over rows that the maximisation step needs, with x = (f, 1).

    Attributes
    ----------
    second : array of shape (n_labs, r + 1, r + 1)
        Sum of E[x x'] over the rows in which the lab was measured.
    first : array of shape (n_labs, r + 1)
        Sum of z E[x] over them.
    """

    second: np.ndarray
    first: np.ndarray

    def plus(self, other: "_Moments") -> "_Moments":
        return _Moments(self.second + other.second, self.first + other.first)

    def minus(self, other: "_Moments") -> "_Moments":
        return _Moments(self.second - other.second, self.first - other.first)


class FactorAnalysis:
    r"""Expectation-maximisation for `FactorModel`, with a Gaussian prior on the loadings.

    The prior is :math:`w_j \sim N(0, I/50)`. Of labs that were learned elsewhere it is centred on
    the loadings learned there, and as narrow as the rows make it that they come from.

    Two other ways were weighed: a full covariance matrix (Schafer 1997) is as good on 50 labs, and
    takes 2 million entries for 1,505; learning the loadings by gradients needs a learning rate and
    many more passes.

    Parameters
    ----------
    row_start : int64 array of shape (n_rows + 1,)
        Where each row's cells begin.
    lab : int64 array of shape (n_cells,)
        Column of each cell.
    z : float array of shape (n_cells,)
        Standardised value of each cell.
    weight : array of shape (n_rows,)
        Weight of each row.
    n_labs : int
        Number of labs.
    n_factors : int
        Number of factors r.
    start : FactorModel or None
        Centre of the prior, and where the search begins.
    """

    def __init__(self, row_start, lab, z, weight, n_labs, n_factors, start=None):
        n_rows = min(len(row_start) - 1, _MAX_ROWS)  # the order of the rows is random already
        cells = slice(0, row_start[n_rows])
        shape = (n_rows, n_labs)
        parts = [
            sparse.csr_array((part, lab[cells], row_start[: n_rows + 1]), shape=shape)
            for part in (np.ones(cells.stop), z[cells])
        ]
        if cells.stop > _DENSE_ENOUGH * n_rows * n_labs:
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
        """Search the most probable loadings, means and noise."""
        parameters = self._first_guess()
        for _ in range(_N_ITERATIONS):
            moments = self._moments(parameters, np.arange(len(self._weight)))
            parameters = self._maximise(moments, parameters.noise)
        return parameters

    @property
    def evidence(self) -> np.ndarray:
        """Number of cells (n_labs,) that each lab was learned from, here and before."""
        return self._count + self._evidence

    def versions(self, parameters: _Parameters, fold: np.ndarray) -> list[_Parameters]:
        """Parameters without what each fold (n_rows,) has taught, then those from all rows.

        The rows of a fold are left out of the last maximisation step only, which costs one step
        for all folds together; what they say through other rows' factors stays.
        """
        rows = np.arange(len(self._weight))
        of_fold = [
            self._moments(parameters, rows[fold[: len(rows)] == each]) for each in range(N_FOLDS)
        ]
        total = reduce(_Moments.plus, of_fold)
        without = [
            self._maximise(total.minus(part), parameters.noise, keep_noise=True) for part in of_fold
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
        # of labs that are seldom measured together little is known
        covariance = products / (pairs + _PAIRS_OF_A_PRIOR)
        values, vectors = np.linalg.eigh(covariance)
        kept = slice(None, -min(self._n_factors, len(values)) - 1, -1)
        return np.maximum(values[kept], 0.0), vectors[:, kept]

    def _moments(self, parameters: _Parameters, rows: np.ndarray) -> _Moments:
        # in blocks, as each row takes r^2 numbers
        blocks = np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))
        return reduce(_Moments.plus, (self._moments_of(parameters, block) for block in blocks))

    def _moments_of(self, parameters: _Parameters, rows: np.ndarray) -> _Moments:
        r = self._n_factors
        observed, z, weight = self._observed[rows], self._z[rows], self._weight[rows]
        scaled = parameters.loadings / parameters.noise[:, None]
        # the posterior of each row's factors, over its measured cells
        outer = (scaled[:, :, None] * parameters.loadings[:, None, :]).reshape(-1, r * r)
        covariance = np.linalg.inv(np.eye(r) + (observed @ outer).reshape(-1, r, r))
        projected = z @ scaled - observed @ (parameters.mean[:, None] * scaled)
        factors = (covariance @ projected[:, :, None])[:, :, 0]

        x = np.concatenate([factors, np.ones((len(rows), 1))], axis=1)
        second = x[:, :, None] * x[:, None, :]
        second[:, :r, :r] += covariance
        second *= weight[:, None, None]
        second = observed.T @ second.reshape(len(rows), (r + 1) ** 2)
        second = second.reshape(-1, r + 1, r + 1)
        return _Moments(second, z.T @ (x * weight[:, None]))

    def _maximise(
        self, moments: _Moments, noise: np.ndarray, keep_noise: bool = False
    ) -> _Parameters:
        r = self._n_factors
        of_loadings = np.minimum(self._evidence, _MOST_ROWS_FOR_LOADINGS)
        of_mean = np.minimum(self._evidence, _MOST_ROWS_FOR_MEAN)
        ridge = (_LOADING_PRECISION * noise + of_loadings)[:, None]
        system = moments.second.copy()
        system[:, np.arange(r), np.arange(r)] += ridge
        system[:, r, r] += of_mean + 1e-6  # a lab that was never measured has mean 0
        target = moments.first.copy()
        target[:, :r] += ridge * self._centre.loadings
        target[:, r] += of_mean * self._centre.mean
        solution = np.linalg.solve(system, target[:, :, None])[:, :, 0]
        loadings, mean = solution[:, :r], solution[:, r]
        if keep_noise:
            return _Parameters(loadings, mean, noise)
        residual = (
            self._square
            - 2 * (solution * moments.first).sum(axis=1)
            + np.einsum("jr,jrs,js->j", solution, moments.second, solution)
        )
        # one pseudo-observation of the lab's own variance, and a floor: no lab is known exactly
        noise = residual + self._variance + of_loadings * self._centre.noise
        noise /= self._count + 1.0 + of_loadings
        return _Parameters(loadings, mean, np.maximum(noise, 1e-3 * self._variance))


def fill_factor_model(
    model: FactorModel, versions: list[_Parameters], evidence: np.ndarray
) -> None:
    """Put fitted parameters into a model made for as many versions."""
    device = model.noise.device
    for buffer, parts in (
        (model.loadings, np.stack([part.loadings for part in versions])),
        (model.mean, np.stack([part.mean for part in versions])),
        (model.noise, versions[-1].noise),
        (model.evidence, evidence),
    ):
        buffer.copy_(torch.from_numpy(parts).to(device))


def fit_prior(prior: LabPrior, rows: TrainingRows, start: LabStart | None) -> None:
    """Fit the linear part of a net, made for one version more than folds.

    Parameters
    ----------
    prior : LabPrior
        What is filled.
    rows : TrainingRows
        Distinct rows in random order; their versions are the folds.
    start : LabStart or None
        What is known of labs already.
    """
    cells = rows.cells

    def fit(part: str, z: np.ndarray) -> None:
        model: FactorModel = getattr(prior, part)
        _, n_labs, n_factors = model.loadings.shape
        known = None if start is None else start.factor_model(part, n_labs)
        analysis = FactorAnalysis(
            cells.row_start, cells.lab, z, rows.weight, n_labs, n_factors, known
        )
        versions = analysis.versions(analysis.fit(), rows.version)
        fill_factor_model(model, versions, analysis.evidence)

    # LAPACK inverts small matrices on one core and lets other threads run
    with ThreadPoolExecutor(min(2, torch.get_num_threads())) as pool:
        list(pool.map(fit, ("of_values", "of_scores"), (cells.value, cells.score)))
