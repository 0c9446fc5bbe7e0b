"""What a fitted MEDFuseClassifier remembers, and the objects that predict, made of it."""

from typing import Any

import numpy as np

from .._nn.fusion_ensemble import FusionWithCritic
from .._state import NetStateMixin, for_inference
from .._training import resolve_device_to_load
from . import _fitting
from ._decisions import Decisions
from ._fused_model import FusedModel
from ._linear_part import LinearPart
from ._modalities import BlockScaler
from ._targets import Targets


class FittedStateMixin(NetStateMixin):
    """Fitted attributes of a MEDFuseClassifier, plain values that any file format keeps."""

    # what the classifier brings
    device: Any
    loss: str
    modalities_: dict[str, np.ndarray]
    n_input_tokens_: dict[str, int]

    def _remember_targets(self, targets: Targets, names) -> None:
        if targets.kind == "multiclass" and self.loss == "asymmetric":
            raise ValueError(
                "loss='asymmetric' is one of labels, and y has several classes; use 'log_loss' or "
                "'focal'."
            )
        self.classes_ = targets.classes
        self._target_kind = targets.kind
        self._constant_labels = targets.constant
        if names is not None:
            self.target_names_ = names
        elif hasattr(self, "target_names_"):
            del self.target_names_
        targets.warn_of_constant_labels(np.arange(targets.n_outputs) if names is None else names)

    def _remember_model(self, fitted: _fitting.FittedNet, model: FusedModel) -> None:
        net = fitted.net
        self.net_ = net
        self._input_mean, self._input_scale = model.scaler.mean, model.scaler.scale
        self._linear = None if model.linear is None else list(model.linear)
        self.linear_weight_ = float(model.weight)
        parts = [
            *(self.modalities_ if net.module_.fusion[0].has_specific else []),
            *(["shared"] if net.module_.fusion[0].has_shared else []),
        ]
        self.part_names_ = [*parts, "baseline"]
        self.n_iter_ = len(net.history)
        self.loss_curve_ = [float(loss) for loss in net.history[:, "train_loss"]]
        validated = fitted.held_out is not None
        self.validation_losses_ = (
            [float(loss) for loss in net.history[:, "valid_loss"]] if validated else []
        )
        if "valid_score" in net.history[-1]:
            self.validation_scores_ = [float(score) for score in net.history[:, "valid_score"]]
        elif hasattr(self, "validation_scores_"):
            del self.validation_scores_

    def _remember_decisions(self, decisions: Decisions) -> None:
        self.thresholds_ = decisions.thresholds
        for name, value in (
            ("temperatures_", decisions.temperatures),
            ("_isotonic", decisions.isotonic),
        ):
            if value is not None:
                setattr(self, name, value)
            elif hasattr(self, name):
                delattr(self, name)

    def _decisions(self) -> Decisions:
        return Decisions(
            Targets(self._target_kind, self.classes_, self._constant_labels),
            self.thresholds_,
            getattr(self, "temperatures_", None),
            getattr(self, "_isotonic", None),
        )

    def _model(self) -> FusedModel:
        scaler = BlockScaler(
            self.modalities_, self.n_input_tokens_, self._input_mean, self._input_scale
        )
        linear = None
        if self._linear is not None:
            linear = LinearPart(*self._linear)
        return FusedModel(self.net_.module_, scaler, linear, self.linear_weight_)

    def _get_module(self):
        return self.net_.module_ if hasattr(self, "net_") else None

    def _build_module(self) -> FusionWithCritic:
        return _fitting.build_module(
            self, self.modalities_, self.n_input_tokens_, len(self._constant_labels)
        )

    def _restore_module(self) -> FusionWithCritic:
        device = resolve_device_to_load(self.device)
        self.net_ = _fitting.build_net(self, self._build_module(), device, 1).initialize()
        return for_inference(self.net_.module_, device)
