"""The skorch net that trains the fusion module and, in a step of its own, its critic."""

from contextlib import nullcontext

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from skorch.utils import to_device
from torch import Tensor

from .._device_memory import rows_of_training
from .._nn.losses import LOSSES
from .._nn.modality_dropout import drop_modalities
from .._training import TensorBatches, progress_bar
from ._batch_parts import BatchPart, divide

# tensors of a batch beside the modalities' blocks, which have names of another form
NOT_BLOCKS = ("present", "row_weight", "cell_weight")


class FusionNet(NeuralNet):
    """Train with  L = L_prediction + mi_weight · L_MI.

    The critic q(S_C | S_A, S_B) is fitted by maximum likelihood on detached features, with its own
    optimiser, before each step of the main loss.

    Parameters
    ----------
    *args, **kwargs
        Of `skorch.NeuralNet`.
    mi_weight : float
        λ, the weight of the bound of mutual information.
    loss : str
        Prediction loss, one of `LOSSES`.
    critic_steps : int
        Steps of the critic before each step of the fusion.
    modality_dropout : float
        Probability with which a modality is taken for absent in training.
    autocast : bool
        Compute the forward passes in bfloat16 where torch deems it safe.
    critic_optimizer : type
        Optimiser of the critic.
    """

    def __init__(
        self,
        *args,
        mi_weight,
        loss="log_loss",
        critic_steps=1,
        modality_dropout=0.0,
        autocast=False,
        critic_optimizer=torch.optim.Adam,
        **kwargs,
    ):
        self.mi_weight = mi_weight
        self.loss = loss
        self.critic_steps = critic_steps
        self.modality_dropout = modality_dropout
        self.autocast = autocast
        self.critic_optimizer = critic_optimizer
        super().__init__(
            *args, iterator_train=TensorBatches, iterator_valid=TensorBatches, **kwargs
        )

    def initialize_optimizer(self, triggered_directly=None):
        """Give the fusion and its critic an optimiser each."""
        self._fusion_parameters = list(self.module_.fusion.parameters())
        for name, half in (("optimizer", "fusion"), ("critic_optimizer", "critic")):
            parameters = list(getattr(self.module_, half).named_parameters())
            args, kwargs = self.get_params_for_optimizer(name, parameters)
            made = getattr(self, name)(*args, **kwargs) if parameters else None
            setattr(self, f"{name}_", made)
        self._fitting_rows = rows_of_training(
            torch.device(self.device),
            "batch_size={size}",
            "lower d_model, n_tokens or n_estimators",
        )
        return self

    def forget_rows(self):
        """Let go of the rows held out, which are patients' data, once training is done."""
        self.train_split = None
        for _, callback in self.callbacks_:
            if isinstance(callback, ValidationScore):
                callback.score = None

    def train_step(self, batch, **fit_params):
        """Fit the critic on the batch, then the fusion; in parts where the batch does not fit."""
        self._set_training(True)
        blocks, X, y = self._unpack(batch)
        if self.modality_dropout > 0:
            X = X | {"present": drop_modalities(X["present"], self.modality_dropout)}
        # a step that the critic has made is not made again where the fusion's does not fit
        self._critic_steps_left = self.critic_steps if self._steers_information() else 0
        result = self._fitting_rows.run(
            len(y), lambda size: self._add_gradients(divide(blocks, X, y, size))
        )
        torch.nn.utils.clip_grad_norm_(self._fusion_parameters, 1.0)
        self.optimizer_.step()
        return result

    def _add_gradients(self, batch: list[BatchPart]) -> dict[str, Tensor]:
        """Fit the critic, and leave the gradient of the main loss at the fusion's parameters.

        NOTE[DIFF]: of a batch in several parts the bound of mutual information is the mean of the
        parts' own bounds, as its pairs are those of rows that are there together.
        """
        # of a batch that is whole the critic and the fusion see the same parts
        whole = self._forward_parts(batch[0]) if len(batch) == 1 else None
        while self._critic_steps_left:
            self._fit_critic(batch, whole)
            self._critic_steps_left -= 1
        self.optimizer_.zero_grad(set_to_none=True)
        losses, predicted = [], []
        for part in batch:
            parts = whole or self._forward_parts(part)
            with self._precision():
                logits = self.module_.forward_logits(parts)
            logits = _at_least_single(logits)
            # summed, not averaged: each member learns as it would alone
            own_losses = [
                self._prediction_loss(own, part.y, part.X["cell_weight"]) for own in logits
            ]
            loss = torch.stack(own_losses).sum() * part.share
            total = loss
            if self._steers_information():
                information = self._information(parts, part.X["row_weight"])
                total = loss + self.mi_weight * part.weight_share * information
            total.backward()
            losses.append(loss.detach() / len(logits))
            predicted.append(logits.detach().mean(dim=0))
        return {"loss": torch.stack(losses).sum(), "y_pred": torch.cat(predicted)}

    def validation_step(self, batch, **fit_params):
        """Prediction loss of the averaged logits."""
        self._set_training(False)
        blocks, X, y = self._unpack(batch)

        def predict(size):
            parts = divide(blocks, X, y, size)
            found = [self.module_(part.blocks, part.X["present"]) for part in parts]
            return _at_least_single(torch.cat(found))

        with torch.no_grad(), self._precision():
            logits = self._fitting_rows.run(len(y), predict)
            loss = self._prediction_loss(logits, y, X["cell_weight"])
            return {"loss": loss, "y_pred": logits}

    def _steers_information(self) -> bool:
        return self.mi_weight > 0 and self.critic_optimizer_ is not None

    def _forward_parts(self, part: BatchPart):
        with self._precision():
            return self.module_.forward_parts(part.blocks, part.X["present"])

    def _fit_critic(self, batch: list[BatchPart], whole) -> None:
        """Make one step of the critic."""
        self.critic_optimizer_.zero_grad(set_to_none=True)
        for part in batch:
            parts = whole or self._forward_parts(part)
            with self._precision():
                loss = self.module_.critic_loss(parts, part.X["row_weight"])
            (loss * part.weight_share).backward()
        self.critic_optimizer_.step()

    def _information(self, parts, row_weight: Tensor) -> Tensor:
        # NOTE[DIFF]: per shared dimension, so that one mi_weight suits any d_model; and a bound
        # below zero only says that the critic lags behind
        with self._precision():
            information = self.module_.mutual_information(parts, row_weight)
        return information.clamp(min=0.0).sum() / parts[0].shared.shape[1]

    def _precision(self):
        """Context of a forward pass."""
        if not self.autocast:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def _unpack(self, batch) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
        X, y = unpack_data(batch)
        X, y = to_device(X, self.device), to_device(y, self.device)
        return [X[name] for name in X if name not in NOT_BLOCKS], X, y

    def _prediction_loss(self, logits: Tensor, y: Tensor, cell_weight: Tensor) -> Tensor:
        return (LOSSES[self.loss](logits, y) * cell_weight).mean()


def _at_least_single(logits: Tensor) -> Tensor:
    """Logits in float32 where autocast left them in bfloat16: losses need the digits."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


class EpochBar(Callback):
    """Progress bar over epochs, with the losses.

    Parameters
    ----------
    verbose : int
        0 shows nothing.
    """

    def __init__(self, verbose):
        self.verbose = verbose

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = progress_bar(net.max_epochs, "fusion", "epoch", self.verbose)

    def on_epoch_end(self, net, **kwargs):
        """Advance it."""
        losses = {
            name: f"{net.history[-1, name]:.4f}"
            for name in ("train_loss", "valid_loss")
            if name in net.history[-1]
        }
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close it."""
        self.bar_.close()


class ValidationScore(Callback):
    """Score the rows held out after each epoch.

    Parameters
    ----------
    score : callable
        ``score(module)`` gives a float, greater is better; None scores nothing.
    """

    def __init__(self, score):
        self.score = score

    def on_epoch_end(self, net, **kwargs):
        """Record the score."""
        if self.score is not None:
            net.history.record("valid_score", float(self.score(net.module_)))
