"""Muon for the matrices inside the layers, AdamW for the rest, one learning rate for both.

Muon is the method of Keller Jordan (2024); the factor that makes its steps as large as
AdamW's is that of the Moonlight report (Liu et al. 2025).
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW:
    """Both optimisers behind one ``step``; the state can be saved and loaded."""

    def __init__(
        self, model: nn.Module, *, lanes: int = 1, momentum: float = 0.95, decay: float = 0.05
    ) -> None:
        self.momentum, self.decay = momentum, decay
        inner: dict[torch.Size, list[nn.Parameter]] = {}
        rest = []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and ".layers." in name:
                inner.setdefault(parameter.shape, []).append(parameter)
            else:
                rest.append(parameter)
        self.groups = [part for group in inner.values() for part in _cut(group, lanes) if part]
        self.velocity = [
            torch.zeros(len(group), *group[0].shape, device=group[0].device)
            for group in self.groups
        ]
        self.adam = torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, rate: float, pool: Executor) -> None:
        """Update every parameter from its gradient and clear the gradients."""
        rates = [rate] * len(self.groups)
        list(pool.map(self._muon, self.groups, self.velocity, rates))
        for settings in self.adam.param_groups:
            settings["lr"] = rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def _muon(self, group: list[nn.Parameter], velocity: Tensor, rate: float) -> None:
        with torch.no_grad():
            gradient = torch.stack([p.grad for p in group if p.grad is not None])
            velocity.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(velocity, self.momentum))
            update *= rate * 0.2 * max(update.shape[-2:]) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - rate * self.decay).sub_(change)
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs to go on."""
        return {"velocity": self.velocity, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.velocity = state["velocity"]
        self.adam.load_state_dict(state["adam"])


def _cut(group: list[nn.Parameter], lanes: int) -> list[list[nn.Parameter]]:
    """Divide a group evenly, so that threads can share it."""
    return [group[lane::lanes] for lane in range(lanes)]


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return ``matrices`` (count, rows, columns) with singular values near one.

    Newton-Schulz iteration with the quintic coefficients of Muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.transpose(-2, -1) if wide else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.transpose(-2, -1) if wide else x
    return result
