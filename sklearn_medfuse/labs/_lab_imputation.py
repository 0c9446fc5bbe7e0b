"""Expected values, their spread and draws for the cells that were not measured."""

from collections.abc import Iterator

import numpy as np
import torch

from .._nn.lab_batch import LabBatch
from .._nn.masked_autoencoder import MaskedLabAutoencoder
from ._lab_cells import LabCells
from ._lab_scale import LabScale

_PREDICTION_BATCH = 1024
# impute asks for every lab of every row: of a wide table it takes fewer rows at once
_IMPUTED_CELLS_AT_ONCE = 65_536


def batches(
    module: MaskedLabAutoencoder, cells: LabCells, rows: np.ndarray, size: int = _PREDICTION_BATCH
) -> Iterator[tuple[np.ndarray, LabBatch]]:
    """Yield rows and their packed cells, rows of like length together."""
    rows = rows[np.argsort(cells.n_measured[rows], kind="stable")]
    device = next(module.parameters()).device
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, cells.batch(part, torch.float64, device)


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

        return self._filled(values, predict, 1)[0]

    def draws(self, values: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Return `n_draws` copies of `values`, each filled by a draw of its own."""
        generator = torch.Generator().manual_seed(seed)

        def draw(encoded, labs):
            return self._module.draw(encoded, labs, n_draws, generator)

        return self._filled(values, draw, n_draws)

    def spread(self) -> np.ndarray:
        """Return standard deviations in the labs' units (n_rows, n_labs), 0 where measured."""
        spread = np.zeros(self._missing.shape)
        for rows, encoded, labs in self._encoded():
            # along the curve from standardised values to units
            value, _ = self._module.forward_decoder(encoded, labs)
            width = self._module.spread(encoded, labs)
            ends = [(value + sign * width / 2).cpu().numpy() for sign in (-1, 1)]
            low, high = (self._scale.in_units(end, labs.cpu().numpy()) for end in ends)
            spread[rows] = np.where(self._missing[rows], high - low, 0.0)
        return spread

    def _encoded(self):
        n_labs = self._missing.shape[1]
        size = min(max(_IMPUTED_CELLS_AT_ONCE // n_labs, 1), _PREDICTION_BATCH)
        labs = torch.arange(n_labs)
        needed = np.flatnonzero(self._missing.any(axis=1))
        for rows, batch in batches(self._module, self._cells, needed, size):
            encoded = self._module.forward_encoder(batch)
            yield rows, encoded, labs.to(batch.lab.device).expand(len(rows), -1)

    def _filled(self, values: np.ndarray, predict, n_copies: int) -> np.ndarray:
        filled = np.repeat(values[None], n_copies, axis=0)
        for rows, encoded, labs in self._encoded():
            standard = predict(encoded, labs).cpu().numpy()
            in_units = self._scale.in_units(standard, labs.cpu().numpy())
            filled[:, rows] = np.where(self._missing[rows], in_units, filled[:, rows])
        return filled
