"""What a fit of MaskedLabEncoder sets out with: its plan, its start and its checkpoint."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._checkpoint import Checkpoint
from .._state import for_inference, module_to_bytes
from .._version import __version__
from ._lab_cells import LabCells, LabResults
from ._lab_results import FEWEST_ROWS
from ._lab_scale import LabScale
from ._lab_start import LabKnowledge, LabStart
from ._masked_training import MaskedTrainer, TrainingPlan
from ._pretrained import read_pretrained

# parameters that say nothing of the result; the seed is looked at apart
_NOT_IN_FINGERPRINT = ("checkpoint_dir", "initial", "verbose", "absent", "output", "random_state")


def plan_of(encoder) -> TrainingPlan:
    """How an encoder's parameters say to train; ValueError for an impossible `mask_ratio`."""
    return TrainingPlan(
        mask_ratio=_checked_mask_ratio(encoder.mask_ratio),
        batch_size=encoder.batch_size,
        learning_rate=encoder.learning_rate,
        weight_decay=encoder.weight_decay,
        max_epochs=encoder.max_epochs,
        patience=encoder.n_iter_no_change,
    )


def _checked_mask_ratio(mask_ratio) -> tuple[float, float]:
    if isinstance(mask_ratio, Real):
        return float(mask_ratio), float(mask_ratio)
    bounds = tuple(mask_ratio)
    numbers = len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
    if not numbers or not 0 < bounds[0] <= bounds[1] < 1:
        raise ValueError(
            f"mask_ratio={mask_ratio!r} must be a number within (0, 1), or two of them, "
            "the lower first."
        )
    return bounds


def knowledge_before(encoder) -> LabKnowledge | None:
    """What `warm_start` or `initial` offer to begin with; to be asked before X changes anything."""
    if encoder.warm_start and encoder._get_module() is not None:
        return LabKnowledge.of(encoder)
    if encoder.initial is None:
        return None
    known = encoder.initial
    if not isinstance(known, type(encoder)):
        known = read_pretrained(type(encoder), known)
    check_is_fitted(known)
    return LabKnowledge.of(known)


def rows_to_learn(
    results: LabResults, weight: np.ndarray, start: LabStart | None
) -> tuple[LabResults, np.ndarray]:
    """Return each distinct row, without labs of which nothing is to be learned, and its weight.

    Those are the labs that too few rows have measured, if they were not known before: their mean
    would be a patient's result.
    """
    learned = results.rows_per_lab(weight) >= FEWEST_ROWS
    if start is not None:
        learned[start.shared[:, 0]] = True
    return results.of_labs(learned).distinct(weight)


def warn_of_rare_labs(scale: LabScale) -> None:
    """Say of how many labs nothing is learned."""
    rare = np.flatnonzero(~scale.known)
    if len(rare):
        warnings.warn(
            f"{len(rare)} of {len(scale.known)} lab columns have fewer than {FEWEST_ROWS} measured "
            f"values in fit, first at position {rare[0]}; nothing is learned of them: transform "
            "ignores them and impute fills them with 0.",
            UserWarning,
            stacklevel=5,
        )


def checkpoint_of(
    encoder, cells: LabCells, weight: np.ndarray, start: LabStart | None
) -> Checkpoint | None:
    """Where a fit on these rows keeps its state, if anywhere."""
    if encoder.checkpoint_dir is None:
        return None
    config = {
        name: value if isinstance(value, int | float | None) else str(value)
        for name, value in encoder.get_params(deep=False).items()
        if name not in _NOT_IN_FINGERPRINT
    }
    data = (cells.row_start, cells.lab, cells.value, cells.score, weight)
    before = b"" if start is None else module_to_bytes(start.module)
    seed = encoder.random_state if isinstance(encoder.random_state, Integral) else "drawn"
    return Checkpoint(
        encoder.checkpoint_dir,
        "labs",
        [config, str(seed), __version__, before, *(part.tobytes() for part in data)],
    )


def attributes_now(trainer: MaskedTrainer) -> dict:
    """Fitted attributes in the middle of a fit, for callbacks."""
    module = copy.deepcopy(trainer.module)
    return {
        "_module": for_inference(module, next(module.parameters()).device),
        "loss_curve_": list(trainer.loss_curve),
        "validation_scores_": list(trainer.validation_scores),
        "n_iter_": len(trainer.loss_curve),
    }
