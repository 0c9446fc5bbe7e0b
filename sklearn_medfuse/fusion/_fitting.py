"""Training of a MEDFuseClassifier's net: once, or once more per fold for held-out predictions."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import check_scoring
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from skorch.utils import noop

from .._nn.fusion_ensemble import FUSIONS, FusionWithCritic
from .._state import for_inference
from .._training import (
    WARM_UP,
    check_heads,
    draw_seed,
    resolve_device,
    torch_seed,
    with_gradients,
)
from ._decisions import Decisions
from ._fused_model import FusedModel
from ._linear_part import LinearPart
from ._mixing import choose_linear_weight
from ._modalities import BlockScaler
from ._net import EpochBar, FusionNet, ValidationScore
from ._scored_model import ScoredModel
from ._targets import Targets
from ._training_rows import TrainingRows


class FittedNet(NamedTuple):
    """A trained net, the model that predicts with it, and the rows held out of its training."""

    net: FusionNet
    model: FusedModel
    held_out: np.ndarray | None


def build_module(params, columns, n_tokens: dict[str, int], n_outputs: int) -> FusionWithCritic:
    """Untrained module for a classifier's parameters and its modalities."""
    check_heads(params.d_model, params.n_heads)
    widths = [len(block) // max(1, n_tokens[name]) for name, block in columns.items()]
    return FusionWithCritic(
        params.n_estimators,
        widths,
        n_outputs,
        d_model=params.d_model,
        # a modality's name asks for that modality alone: late fusion of one
        fusion=params.fusion if params.fusion in FUSIONS else "late",
        mi_estimator=params.mi_estimator,
        n_heads=params.n_heads,
        n_tokens=params.n_tokens,
        dropout=params.dropout,
        n_input_tokens=[n_tokens[name] for name in columns],
    )


def build_net(
    params, module, device, n_train: int, validation: Dataset | None = None, score=None
) -> FusionNet:
    """Untrained skorch net around a module."""
    steps = -(-n_train // params.batch_size) * params.max_epochs
    callbacks = [
        LRScheduler(
            policy=torch.optim.lr_scheduler.OneCycleLR,
            max_lr=params.learning_rate,
            total_steps=steps + 1,
            pct_start=WARM_UP,
            step_every="batch",
        ),
        *([] if score is None else [ValidationScore(score)]),
        EpochBar(params.verbose),
        *(params.callbacks or []),
    ]
    if validation is not None and params.early_stopping:
        stop = EarlyStopping(
            monitor="valid_loss" if score is None else "valid_score",
            lower_is_better=score is None,
            threshold_mode="rel" if score is None else "abs",
            patience=params.n_iter_no_change,
            load_best=True,
            sink=noop,
        )
        callbacks.append(stop)
    return FusionNet(
        module,
        criterion=torch.nn.BCEWithLogitsLoss,
        mi_weight=params.mi_weight,
        loss=params.loss,
        critic_steps=params.critic_steps,
        modality_dropout=params.modality_dropout,
        autocast=_uses_bfloat16(params.precision, device),
        optimizer=torch.optim.AdamW,
        lr=params.learning_rate,
        optimizer__weight_decay=params.weight_decay,
        optimizer__fused=True,
        # skorch refuses the settings of an optimiser that no parameter needs
        **({"critic_optimizer__lr": params.learning_rate} if len(module.critic) else {}),
        max_epochs=params.max_epochs,
        batch_size=params.batch_size,
        iterator_train__shuffle=True,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=callbacks,
        device=str(device),
        verbose=0,
    )


def train(params, rows: TrainingRows, targets: Targets, columns, n_tokens, rng) -> FittedNet:
    """Train a net on the rows, less those held out for early stopping or decisions."""
    split = rows.split(params.validation_fraction, rng) if _holds_out(params) else None
    scaler = BlockScaler.fit(columns, n_tokens, rows.X, rows.row_weight, params.input_scaling)
    dtype = torch.float64 if params.precision == "float64" else torch.float32
    kept = rows if split is None else rows.take(split[0])
    # half of it until rows held out have told how much
    weight = 0.5 if params.linear_weight == "auto" else params.linear_weight
    linear = LinearPart.fit(scaler, kept, targets, params.linear_C) if weight > 0 else None
    validation, score = None, None
    if split is not None:
        held_out = rows.take(split[1])
        validation = held_out.to_dataset(scaler, dtype)
        if params.early_stopping and params.scoring != "loss":
            score = _scorer(
                params.scoring,
                targets,
                held_out,
                lambda module: FusedModel(module.eval(), scaler, linear, weight),
            )
    device = resolve_device(params.device)
    with torch_seed(draw_seed(rng), device), with_gradients():
        module = build_module(params, columns, n_tokens, targets.n_outputs).to(dtype)
        net = build_net(params, module, device, len(kept.X), validation, score)
        net.fit(kept.to_dataset(scaler, dtype), y=None)
        net.forget_rows()
        # weights are saved in float32: what predicts now must be what predicts after loading
        for_inference(net.module_.float(), device)
    model = FusedModel(net.module_, scaler, linear, weight)
    return FittedNet(net, model, None if split is None else split[1])


class HeldOut(NamedTuple):
    """What a net and the linear part beside it say of rows that neither was trained on.

    Attributes
    ----------
    deep : float array of shape (n, n_outputs)
        Logits of the net.
    linear : float array of shape (n, n_outputs) or None
        Those of the linear part.
    rows : TrainingRows
        The rows.
    weight : float array of shape (n, n_outputs) or (n, 1)
        How much each label of each row counts.
    """

    deep: np.ndarray
    linear: np.ndarray | None
    rows: TrainingRows
    weight: np.ndarray


def learn_decisions(
    params, rows: TrainingRows, targets: Targets, fitted: FittedNet, rng
) -> tuple[FusedModel, Decisions]:
    """Weigh the linear part, calibrate and tune thresholds on rows held out of the training."""
    tune, model = params.threshold == "tune", fitted.model
    n_thresholds = targets.n_outputs if targets.kind == "multilabel-indicator" else 1
    decisions = Decisions(targets, np.full(n_thresholds, 0.5 if tune else float(params.threshold)))
    if not _decides(params):
        return model, decisions
    deep, linear, held_out, weight = _predict_held_out(params, rows, targets, fitted, rng)
    if params.linear_weight == "auto":
        share = choose_linear_weight(targets, deep, linear, held_out.y, weight)
        model = model._replace(weight=share)
    logits = model.mixed(deep, linear)
    decisions = decisions.calibrated(params.calibration, logits, held_out.y, weight)
    if tune:
        decisions = decisions.tuned(logits, held_out.y, weight, params.false_negative_cost)
    return model, decisions


def _predict_held_out(
    params, rows: TrainingRows, targets: Targets, fitted: FittedNet, rng
) -> HeldOut:
    """Predict rows by nets that were not trained on them."""
    if params.decision_folds is None:
        if fitted.held_out is None:
            raise ValueError(
                f"validation_fraction={params.validation_fraction} of {len(rows.X)} rows is too "
                "little to tune decisions on; hold out more, or set decision_folds."
            )
        rows = rows.take(fitted.held_out)
        parts = iter([(np.arange(len(rows.X)), fitted.model)])
    else:
        parts = _fold_models(params, rows, targets, fitted.model.scaler, rng)
    deep = np.zeros((len(rows.X), targets.n_outputs))
    linear = None if fitted.model.linear is None else np.zeros_like(deep)
    for left, model in parts:
        deep[left] = model.deep_logits(rows.X[left])
        if linear is not None:
            linear[left] = model.linear_logits(rows.X[left])
    # what weighs classes would distort probabilities; what is missing still does not count
    return HeldOut(deep, linear, rows, rows.row_weight[:, None] * (rows.cell_weight > 0))


def _fold_models(
    params, rows: TrainingRows, targets: Targets, scaler: BlockScaler, rng
) -> Iterator[tuple[np.ndarray, FusedModel]]:
    """Yield the rows of each fold and a model trained on all others, one at a time."""
    for kept, left in rows.folds(params.decision_folds, rng):
        part = train(params, rows.take(kept), targets, scaler.columns, scaler.n_tokens, rng)
        yield left, part.model


def _decides(params) -> bool:
    """Whether anything is learned on rows that are held out of the training."""
    tuned = params.threshold == "tune" or params.linear_weight == "auto"
    return tuned or params.calibration is not None


def _holds_out(params) -> bool:
    return params.early_stopping or (_decides(params) and params.decision_folds is None)


def _scorer(scoring, targets: Targets, held_out: TrainingRows, model_of):
    """Function from a module in training to its score on the rows held out."""
    # a scorer knows no missing labels
    complete = (held_out.cell_weight > 0).all(axis=1)
    X, y = held_out.X[complete], targets.decode(held_out.y[complete])

    def score(module):
        decisions = Decisions(targets, np.array([0.5]))
        model = ScoredModel(decisions, model_of(module).logits)
        return check_scoring(model, scoring)(model, X, y)

    return score


def _uses_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        # nets this small lose more to casting than they gain on a CPU
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
