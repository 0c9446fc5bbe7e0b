"""Expected values, their spread and draws for the cells that were not measured."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

from .._device_memory import rows_of_prediction
from .._nn.masked_autoencoder import EncodedLabs, LabBatch, MaskedLabAutoencoder
from ._lab_cells import LabCells
from ._lab_scale import LabScale

Result = TypeVar("Result")

_PREDICTION_BATCH = 1024
# impute asks for every lab of every row: of a wide table it takes fewer rows at once
_IMPUTED_CELLS_AT_ONCE = 65_536


def in_batches(
    module: MaskedLabAutoencoder,
    cells: LabCells,
    rows: np.ndarray,
    run: Callable[[LabBatch], Result],
    size: int = _PREDICTION_BATCH,
    outcome: str = "with the same result",
) -> Iterator[tuple[np.ndarray, Result]]:
    """Yield rows, those of like length together, and what `run` makes of their packed cells.

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


class LabImputer:
    """Fill in missing cells of a table by what a trained net expects.

    Parameters
    ----------
    module : MaskedLabAutoencoder
        The trained net.
    scale : LabScale
        The labs' scales.
    cells : LabCells
        The measured cells of the table.
    missing : bool array of shape (n_rows, n_labs)
        True where a cell was not measured.
    """

    def __init__(
        self,
        module: MaskedLabAutoencoder,
        scale: LabScale,
        cells: LabCells,
        missing: np.ndarray,
    ):
        self._module = module
        self._scale = scale
        self._cells = cells
        self._missing = missing

    def expected(self, values: np.ndarray) -> np.ndarray:
        """Return a copy of `values` (n_rows, n_labs), the missing cells filled."""

        def predict(encoded, labs):
            return self._module.forward_decoder(encoded, labs)[0][None]

        return self._filled(values, predict, 1, "with the same result")[0]

    def draws(self, values: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Return `n_draws` copies of `values`, each filled by a draw of its own."""
        generator = torch.Generator().manual_seed(seed)

        def draw(encoded, labs):
            return self._module.draw(encoded, labs, n_draws, generator)

        return self._filled(values, draw, n_draws, "with other draws of the same distribution")

    def spread(self) -> np.ndarray:
        """Return standard deviations in the labs' units (n_rows, n_labs), 0 where measured."""
        spread = np.zeros(self._missing.shape)

        def predict(encoded, labs):
            value, _ = self._module.forward_decoder(encoded, labs)
            return value.cpu().numpy(), self._module.spread(encoded, labs).cpu().numpy()

        for rows, ((value, width), labs) in self._asked(predict, "with the same result"):
            # along the curve from standardised values to units
            low, high = (self._scale.in_units(value + sign * width / 2, labs) for sign in (-1, 1))
            spread[rows] = np.where(self._missing[rows], high - low, 0.0)
        return spread

    def _asked(
        self, predict: Callable[[EncodedLabs, torch.Tensor], Result], outcome: str
    ) -> Iterator[tuple[np.ndarray, tuple[Result, np.ndarray]]]:
        """Yield rows with gaps, what is predicted of all their labs, and the labs' positions."""
        n_labs = self._missing.shape[1]
        size = min(max(_IMPUTED_CELLS_AT_ONCE // n_labs, 1), _PREDICTION_BATCH)

        def run(batch):
            labs = torch.arange(n_labs).to(batch.lab.device).expand(len(batch.lab), -1)
            return predict(self._module.forward_encoder(batch), labs), labs.cpu().numpy()

        needed = np.flatnonzero(self._missing.any(axis=1))
        return in_batches(self._module, self._cells, needed, run, size, outcome)

    def _filled(self, values: np.ndarray, predict, n_copies: int, outcome: str) -> np.ndarray:
        filled = np.repeat(values[None], n_copies, axis=0)

        def standardised(encoded, labs):
            return predict(encoded, labs).cpu().numpy()

        for rows, (standard, labs) in self._asked(standardised, outcome):
            in_units = self._scale.in_units(standard, labs)
            filled[:, rows] = np.where(self._missing[rows], in_units, filled[:, rows])
        return filled
