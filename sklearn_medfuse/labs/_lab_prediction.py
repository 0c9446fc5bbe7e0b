"""Predictions of a trained net: embeddings of rows, and values for what was not measured."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

from .._nn.masked_autoencoder import LabBatch, MaskedLabAutoencoder
from .._training import rows_of_prediction
from ._lab_cells import LabCells, LabScale

Result = TypeVar("Result")

_PREDICTION_BATCH = 1024
# Imputation predicts every lab of every row: of a wide table it takes fewer rows at once.
_IMPUTED_CELLS_AT_ONCE = 65_536
_SAME_RESULT = "with the same result"


def _in_batches(
    module: MaskedLabAutoencoder,
    cells: LabCells,
    rows: np.ndarray,
    run: Callable[[LabBatch], Result],
    size: int = _PREDICTION_BATCH,
    outcome: str = _SAME_RESULT,
) -> Iterator[tuple[np.ndarray, Result]]:
    """Yield rows, grouped by length, and the output of `run` on their packed cells.

    Batches that do not fit into the device's memory are divided, with one warning that says by
    `outcome` what that changes.
    """
    rows = rows[np.argsort(cells.n_measured[rows], kind="stable")]
    device = next(module.parameters()).device
    fitting = rows_of_prediction(device, outcome)

    def run_rows(part: slice) -> Result:
        return run(cells.batch(rows[part], torch.float64, device))

    for part, result in fitting.batches(len(rows), size, run_rows):
        yield rows[part], result
    fitting.warn()


def embed_rows(
    module: MaskedLabAutoencoder, cells: LabCells, width: int, absent: float
) -> np.ndarray:
    """One vector per row (n_rows, width), its summary; `absent` where nothing was measured."""
    embedding = np.full((len(cells), width), absent)
    measured = np.flatnonzero(cells.n_measured)

    def summarise(batch):
        return module.forward_encoder(batch).summary.cpu().numpy()

    for rows, summary in _in_batches(module, cells, measured, summarise):
        embedding[rows] = summary
    return embedding


def embed_labs(
    module: MaskedLabAutoencoder, cells: LabCells, d_model: int, absent: float
) -> np.ndarray:
    """One vector per row and lab side by side, `absent` where the lab was not measured."""
    tokens = np.full((len(cells), cells.n_labs, d_model), absent)
    measured = np.flatnonzero(cells.n_measured)

    def encode(batch):
        kept = batch.measured
        found = module.forward_encoder(batch).tokens[:, 1:][kept]
        return kept.cpu().numpy(), batch.lab[kept].cpu().numpy(), found.cpu().numpy()

    for rows, (kept, lab, found) in _in_batches(module, cells, measured, encode):
        row = np.broadcast_to(rows[:, None], kept.shape)[kept]
        tokens[row, lab] = found
    return tokens.reshape(len(cells), cells.n_labs * d_model)


class LabImputer:
    """Fill the missing cells of a table (n_rows, n_labs) with what a trained net expects."""

    def __init__(self, module: MaskedLabAutoencoder, scale: LabScale, values: np.ndarray):
        self._module = module
        self._scale = scale
        self._values = values
        self._missing = np.isnan(values)

    def expected(self) -> np.ndarray:
        """Return a copy of the table, filled with expected values."""

        def predict(encoded, labs):
            return self._module.forward_decoder(encoded, labs)[0][None].cpu().numpy()

        return self._fill(predict, 1, _SAME_RESULT)[0]

    def draws(self, n_draws: int, seed: int) -> np.ndarray:
        """Return copies of the table, each filled by a draw of its own."""
        generator = torch.Generator().manual_seed(seed)

        def draw(encoded, labs):
            return self._module.draw(encoded, labs, n_draws, generator).cpu().numpy()

        return self._fill(draw, n_draws, "with other draws of the same distribution")

    def spread(self) -> np.ndarray:
        """Return standard deviations in the labs' units, 0 where measured."""
        spread = np.zeros(self._values.shape)

        def predict(encoded, labs):
            value, _ = self._module.forward_decoder(encoded, labs)
            return value.cpu().numpy(), self._module.spread(encoded, labs).cpu().numpy()

        for rows, (labs, (value, width)) in self._predict(predict, _SAME_RESULT):
            in_units = self._scale.spread_in_units(value, width, labs)
            spread[rows] = np.where(self._missing[rows], in_units, 0.0)
        return spread

    def _fill(self, predict, n_copies: int, outcome: str) -> np.ndarray:
        filled = np.repeat(self._values[None], n_copies, axis=0)
        for rows, (labs, standard) in self._predict(predict, outcome):
            in_units = self._scale.in_units(standard, labs)
            filled[:, rows] = np.where(self._missing[rows], in_units, filled[:, rows])
        return filled

    def _predict(self, predict, outcome: str) -> Iterator[tuple[np.ndarray, tuple]]:
        """Yield rows with gaps, and positions and predictions of all their labs."""
        cells = self._scale.cells(LabCells.from_table(self._values))
        n_labs = cells.n_labs
        size = min(max(_IMPUTED_CELLS_AT_ONCE // n_labs, 1), _PREDICTION_BATCH)

        def run(batch):
            labs = torch.arange(n_labs).to(batch.lab.device).expand(len(batch.lab), -1)
            return labs.cpu().numpy(), predict(self._module.forward_encoder(batch), labs)

        needed = np.flatnonzero(self._missing.any(axis=1))
        return _in_batches(self._module, cells, needed, run, size, outcome)
