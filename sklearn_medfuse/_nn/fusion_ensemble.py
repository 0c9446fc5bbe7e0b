"""An ensemble of fusions side by side, each with the critic of its mutual information."""

from typing import cast

import torch
from torch import Tensor, nn

from .club import GaussianCritic, LeaveOneOut, SampledCLUB, VariationalCLUB
from .concat_fusion import ConcatFusion
from .disentangled_fusion import DisentangledFusion
from .fusion_parts import Fusion, FusionParts
from .kronecker_fusion import KroneckerFusion
from .late_fusion import LateFusion

FUSIONS: dict[str, type[Fusion]] = {
    "concat": ConcatFusion,
    "disentangled": DisentangledFusion,
    "kronecker": KroneckerFusion,
    "late": LateFusion,
}
MI_ESTIMATORS: dict[str, type[GaussianCritic]] = {
    "club_sample": SampledCLUB,
    "l1out": LeaveOneOut,
    "vclub": VariationalCLUB,
}


class FusionWithCritic(nn.Module):
    """Members of an ensemble of fusions, each with its critic.

    Members share nothing but the batches; their logits are averaged, so a prediction stays a sum
    over the parts.

    Parameters
    ----------
    n_members : int
        Number of members.
    widths : list of int
        Width of each modality's vector.
    n_outputs : int
        Number of logits.
    d_model : int
        Width of a token.
    fusion : str
        One of `FUSIONS`; those without mutual information have no critic.
    mi_estimator : str
        One of `MI_ESTIMATORS`.
    **options : dict
        Further parameters of `Fusion`.

    Examples
    --------
    >>> import torch
    >>> net = FusionWithCritic(2, [5, 7], 3, d_model=8, n_heads=2)
    >>> net([torch.zeros(4, 5), torch.zeros(4, 7)], torch.ones(4, 2, dtype=torch.bool)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        n_members: int,
        widths: list[int],
        n_outputs: int,
        d_model: int = 64,
        fusion: str = "disentangled",
        mi_estimator: str = "vclub",
        **options,
    ):
        super().__init__()
        members = [FUSIONS[fusion](widths, n_outputs, d_model, **options) for _ in range(n_members)]
        self.fusion = nn.ModuleList(members)
        self.critic = nn.ModuleList(
            MI_ESTIMATORS[mi_estimator](len(widths) * d_model, d_model)
            for member in members
            if member.has_information
        )

    def _fusions(self) -> list[Fusion]:
        return cast(list[Fusion], list(self.fusion))

    def _critics(self) -> list[GaussianCritic]:
        return cast(list[GaussianCritic], list(self.critic))

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> list[FusionParts]:
        """Parts of every member."""
        return [member.forward_parts(blocks, present) for member in self._fusions()]

    def forward_logits(self, parts: list[FusionParts]) -> Tensor:
        """Logits of every member, shape (n_members, n, n_outputs)."""
        members = zip(self._fusions(), parts, strict=True)
        return torch.stack([member.forward_head(own) for member, own in members])

    def forward_contributions(self, parts: list[FusionParts]) -> tuple[Tensor, Tensor]:
        """Mean over members of what each part adds, (n_parts, n, n_outputs), and of the bias."""
        members = list(zip(self._fusions(), parts, strict=True))
        added = torch.stack([member.forward_contributions(own) for member, own in members])
        bias = torch.stack([member.head.bias for member, _ in members])
        return added.mean(dim=0), bias.mean(dim=0)

    def critic_loss(self, parts: list[FusionParts], weight: Tensor | None = None) -> Tensor:
        """-log q(S_C | S_A, S_B), summed over members, on detached features."""
        losses = []
        for critic, own in zip(self._critics(), parts, strict=True):
            specific, shared = _specific_and_shared(own)
            loss = critic.negative_log_likelihood(specific.detach(), shared.detach(), weight)
            losses.append(loss)
        return torch.stack(losses).sum()

    def mutual_information(self, parts: list[FusionParts], weight: Tensor | None = None) -> Tensor:
        """Bound of I([S_A, S_B]; S_C) of every member, in nats, shape (n_members,)."""
        members = zip(self._critics(), parts, strict=True)
        return torch.stack([critic(*_specific_and_shared(own), weight) for critic, own in members])

    def forward(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """Logits averaged over members, shape (n, n_outputs)."""
        return self.forward_logits(self.forward_parts(blocks, present)).mean(dim=0)


def _specific_and_shared(parts: FusionParts) -> tuple[Tensor, Tensor]:
    return torch.cat(parts.specific, dim=1), cast(Tensor, parts.shared)
