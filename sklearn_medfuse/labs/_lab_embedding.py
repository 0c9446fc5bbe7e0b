"""Embeddings of rows of labs by a trained net."""

import numpy as np

from .._nn.masked_autoencoder import MaskedLabAutoencoder
from ._lab_cells import LabCells
from ._lab_imputation import in_batches


def embed_rows(
    module: MaskedLabAutoencoder, cells: LabCells, width: int, absent: float
) -> np.ndarray:
    """One vector per row (n_rows, width), its summary; `absent` where nothing was measured."""
    embedding = np.full((len(cells), width), absent)
    measured = np.flatnonzero(cells.n_measured)

    def summarise(batch):
        return module.forward_encoder(batch).summary.cpu().numpy()

    for rows, summary in in_batches(module, cells, measured, summarise):
        embedding[rows] = summary
    return embedding


def embed_labs(
    module: MaskedLabAutoencoder, cells: LabCells, n_labs: int, d_model: int, absent: float
) -> np.ndarray:
    """One vector per row and lab side by side, `absent` where the lab was not measured."""
    tokens = np.full((len(cells), n_labs, d_model), absent)

    def encode(batch):
        kept = batch.measured
        found = module.forward_encoder(batch).tokens[:, 1:][kept]
        return kept.cpu().numpy(), batch.lab[kept].cpu().numpy(), found.cpu().numpy()

    for rows, (kept, lab, found) in in_batches(
        module, cells, np.flatnonzero(cells.n_measured), encode
    ):
        row = np.broadcast_to(rows[:, None], kept.shape)[kept]
        tokens[row, lab] = found
    return tokens.reshape(len(cells), n_labs * d_model)
