"""The skorch net that trains the fusion module and, in a step of its own, its critic."""

import torch
import torch.nn.functional as F
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from skorch.utils import to_device
from torch import Tensor

from .._training import TensorBatches, progress_bar


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
    critic_optimizer : type
        Optimiser of the critic.
    """

    def __init__(self, *args, mi_weight, critic_optimizer=torch.optim.Adam, **kwargs):
        self.mi_weight = mi_weight
        self.critic_optimizer = critic_optimizer
        super().__init__(
            *args, iterator_train=TensorBatches, iterator_valid=TensorBatches, **kwargs
        )

    def initialize_optimizer(self, triggered_directly=None):
        """Give the fusion and its critic an optimiser each."""
        for name, parameters in (
            ("optimizer", self.module_.fusion.named_parameters()),
            ("critic_optimizer", self.module_.critic.named_parameters()),
        ):
            args, kwargs = self.get_params_for_optimizer(name, parameters)
            setattr(self, f"{name}_", getattr(self, name)(*args, **kwargs))
        return self

    def train_step(self, batch, **fit_params):
        """Fit the critic on the batch, then the fusion."""
        self._set_training(True)
        blocks, present, y = self._unpack(batch)
        parts = self.module_.forward_parts(blocks, present)
        if self.mi_weight > 0:
            self.critic_optimizer_.zero_grad(set_to_none=True)
            self.module_.critic_loss(parts).backward()
            self.critic_optimizer_.step()

        self.optimizer_.zero_grad(set_to_none=True)
        logits = self.module_.forward_logits(parts)
        # summed, not averaged: each member learns as it would alone
        loss = torch.stack([self._prediction_loss(member, y) for member in logits]).sum()
        if self.mi_weight > 0:
            # NOTE[DIFF]: per shared dimension, so that one mi_weight suits any d_model; and a bound
            # below zero only says that the critic lags behind
            information = self.module_.mutual_information(parts).clamp(min=0.0)
            per_dimension = information.sum() / parts[0].shared.shape[1]
            (loss + self.mi_weight * per_dimension).backward()
        else:
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module_.fusion.parameters(), 1.0)
        self.optimizer_.step()
        return {"loss": loss.detach() / len(logits), "y_pred": logits.detach().mean(dim=0)}

    def validation_step(self, batch, **fit_params):
        """Prediction loss of the averaged logits."""
        self._set_training(False)
        blocks, present, y = self._unpack(batch)
        with torch.no_grad():
            logits = self.module_(blocks, present)
            return {"loss": self._prediction_loss(logits, y), "y_pred": logits}

    def _unpack(self, batch) -> tuple[list[Tensor], Tensor, Tensor]:
        X, y = unpack_data(batch)
        X, y = to_device(X, self.device), to_device(y, self.device)
        names = [name for name in X if name != "present"]
        return [X[name] for name in names], X["present"], y

    @staticmethod
    def _prediction_loss(logits: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy over labels, cross-entropy where y holds class numbers."""
        if y.dtype == torch.int64:
            return F.cross_entropy(logits, y)
        return F.binary_cross_entropy_with_logits(logits, y)


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
