"""The skorch net that trains the fusion with L = L_prediction + λ · L_MI."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import Dataset, unpack_data
from skorch.utils import to_device
from torch import Tensor

from .._nn.fusion import FusionParts, drop_modalities, information_loss
from .._nn.losses import log_loss
from .._training import FittingRows, progress_bar, rows_of_training
from ._model import ScaledInput
from ._rows import TrainingRows

# Tensors of a batch that are not blocks of modalities
_NOT_BLOCKS = ("present", "row_weight", "cell_weight")


def to_dataset(names, scaled: ScaledInput, rows: TrainingRows, dtype: torch.dtype) -> Dataset:
    """Tensors as the net takes them, a block per modality."""
    tensors = {
        f"block of {name}": torch.from_numpy(block).to(dtype)
        for name, block in zip(names, scaled.blocks, strict=True)
    }
    tensors["present"] = torch.from_numpy(scaled.present)
    tensors["row_weight"] = torch.from_numpy(rows.row_weight).to(dtype)
    tensors["cell_weight"] = torch.from_numpy(rows.cell_weight).to(dtype)
    target = torch.from_numpy(rows.y)
    return Dataset(tensors, target if target.dtype == torch.int64 else target.to(dtype))


class TensorBatches:
    """Batches sliced from tensors, in place of a DataLoader that collates row by row."""

    def __init__(self, dataset, batch_size: int, shuffle: bool = False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        n_rows = len(self.dataset)
        order = torch.randperm(n_rows) if self.shuffle else torch.arange(n_rows)
        for rows in order.split(self.batch_size):
            X = {name: tensor[rows] for name, tensor in self.dataset.X.items()}
            yield X, self.dataset.y[rows]


class BatchPart(NamedTuple):
    """As many rows of a batch as fit into the device's memory."""

    blocks: list[Tensor]  # A, B, …
    X: dict[str, Tensor]  # "present", "row_weight" and "cell_weight" of each row
    y: Tensor
    share: float  # Of the batch's rows, for means over rows
    weight_share: Tensor | float  # Of the batch's weight, for weighted means


def divide(blocks: list[Tensor], X: dict[str, Tensor], y: Tensor, size: int) -> list[BatchPart]:
    """Divide a batch into parts of at most `size` rows; a smaller batch is one part."""
    if size >= len(y):
        return [BatchPart(blocks, X, y, 1.0, 1.0)]
    weight = X["row_weight"]
    return [
        BatchPart(
            [block[rows] for block in blocks],
            {name: tensor[rows] for name, tensor in X.items()},
            y[rows],
            len(y[rows]) / len(y),
            weight[rows].sum() / weight.sum(),
        )
        for rows in FittingRows.slices(len(y), size)
    ]


class FusionNet(NeuralNet):
    """Train a `FusionWithCritic` with L = L_prediction + λ · L_MI.

    The critic q(S_C | S_A, S_B) is fitted by maximum likelihood on detached features, with its own
    optimiser, before each step of L.
    """

    def __init__(
        self,
        *args,
        mi_weight,  # λ
        critic_steps=1,  # Before each step of the fusion
        modality_dropout=0.0,  # Probability of treating a modality as absent
        autocast=False,  # Forward passes in bfloat16 where torch deems it safe
        critic_optimizer=torch.optim.Adam,
        **kwargs,
    ):
        self.mi_weight = mi_weight
        self.critic_steps = critic_steps
        self.modality_dropout = modality_dropout
        self.autocast = autocast
        self.critic_optimizer = critic_optimizer
        super().__init__(
            *args, iterator_train=TensorBatches, iterator_valid=TensorBatches, **kwargs
        )

    def initialize_to_predict(self):
        """Initialise without optimisers: making one imports torch._dynamo, which takes 1-2 s."""
        self._predicts_only = True
        try:
            return self.initialize()
        finally:
            self._predicts_only = False

    def initialize_optimizer(self, triggered_directly=None):
        """Give the fusion and its critic an optimiser each."""
        if getattr(self, "_predicts_only", False):
            # Without these prefixes skorch refuses the parameters of optimisers
            self.prefixes_: list[str] = [*self.prefixes_, "optimizer", "critic_optimizer"]
            return self
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
        """Drop the held-out rows, which are patients' data, once training is done."""
        self.train_split = None
        for _, callback in self.callbacks_:
            if isinstance(callback, ValidationScore):
                callback.score = None

    def train_step(self, batch, **fit_params):
        """Fit the critic on the batch, then the fusion; in parts if memory is too small."""
        self._set_training(True)
        blocks, X, y = self._unpack(batch)
        if self.modality_dropout > 0:
            X = X | {"present": drop_modalities(X["present"], self.modality_dropout)}
        # If the fusion's step runs out of memory, the critic does not repeat its steps
        self._critic_steps_left = self.critic_steps if self._steers_information() else 0
        result = self._fitting_rows.run(
            len(y), lambda size: self._add_gradients(divide(blocks, X, y, size))
        )
        torch.nn.utils.clip_grad_norm_(self._fusion_parameters, 1.0)
        self.optimizer_.step()
        return result

    def _add_gradients(self, batch: list[BatchPart]) -> dict[str, Tensor]:
        """Fit the critic, then compute the gradient of L at the fusion's parameters.

        NOTE[DIFF] (batch in parts): for a batch in several parts, L_MI is the mean of the parts'
        own bounds, since the bound pairs rows that are in memory together.
        """
        # In an undivided batch the critic and the fusion see the same S_A, S_B, S_C
        whole = self._forward_parts(batch[0]) if len(batch) == 1 else None
        while self._critic_steps_left:
            self._fit_critic(batch, whole)
            self._critic_steps_left -= 1
        self.optimizer_.zero_grad(set_to_none=True)
        losses, predicted = [], []
        for part in batch:
            loss, prediction, logits = self.loss_of(part, whole or self._forward_parts(part))
            loss.backward()
            losses.append(prediction.detach() / len(logits))
            predicted.append(logits.detach().mean(dim=0))
        return {"loss": torch.stack(losses).sum(), "y_pred": torch.cat(predicted)}

    def loss_of(self, part: BatchPart, parts: list[FusionParts]) -> tuple[Tensor, Tensor, Tensor]:
        """L = L_prediction + λ · L_MI of a batch's part; L_prediction; logits of every member.

        Both terms are sums over members, not means, so each member learns as it would alone.
        L_prediction is the mean of two losses: that of the fusion's own logits, and that of its
        logits mixed with the linear part. The first alone would not learn what the linear part
        lacks, and the second alone would learn only that.
        """
        with self._precision():
            logits = self.module_.forward_logits(parts)
        logits = _at_least_single(logits)
        judged = [logits]
        if self.module_.linear is not None:
            judged.append(self.module_.linear.mix(logits, part.blocks, part.X["present"]))
        own = [
            self._prediction_loss(each, part.y, part.X["cell_weight"])
            for version in judged
            for each in version
        ]
        prediction = torch.stack(own).sum() / len(judged) * part.share
        if not self._steers_information():
            return prediction, prediction, logits
        with self._precision():
            bounds = self.module_.mutual_information(parts, part.X["row_weight"])
        information = information_loss(bounds) * part.weight_share
        return prediction + self.mi_weight * information, prediction, logits

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
        """Make one step of the critic's maximum likelihood."""
        self.critic_optimizer_.zero_grad(set_to_none=True)
        for part in batch:
            parts = whole or self._forward_parts(part)
            with self._precision():
                loss = self.module_.critic_loss(parts, part.X["row_weight"])
            (loss * part.weight_share).backward()
        self.critic_optimizer_.step()

    def _precision(self):
        """Context of a forward pass."""
        if not self.autocast:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def _unpack(self, batch) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
        X, y = unpack_data(batch)
        X, y = to_device(X, self.device), to_device(y, self.device)
        return [X[name] for name in X if name not in _NOT_BLOCKS], X, y

    def _prediction_loss(self, logits: Tensor, y: Tensor, cell_weight: Tensor) -> Tensor:
        return (log_loss(logits, y) * cell_weight).mean()


def _at_least_single(logits: Tensor) -> Tensor:
    """Logits in float32 if autocast left them in bfloat16: losses need the digits."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


class EpochBar(Callback):
    """Progress bar over epochs, with the losses; silent with verbose=0."""

    def __init__(self, verbose):
        self.verbose = verbose

    def on_train_begin(self, net, **kwargs):
        self.bar_ = progress_bar(net.max_epochs, "fusion", "epoch", self.verbose)

    def on_epoch_end(self, net, **kwargs):
        losses = {
            name: f"{net.history[-1, name]:.4f}"
            for name in ("train_loss", "valid_loss")
            if name in net.history[-1]
        }
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        self.bar_.close()


class ValidationScore(Callback):
    """Score the rows held out after each epoch by ``score(module)``, greater is better."""

    def __init__(self, score):
        self.score = score

    def on_epoch_end(self, net, **kwargs):
        if self.score is not None:
            net.history.record("valid_score", float(self.score(net.module_)))
