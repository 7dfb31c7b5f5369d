"""Optimisers: AdamW, or Muon for the kernels with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..models.parameterized import ParameterizedNetwork
from ..models.weight_learning import last_linear

OPTIMIZERS = ("muon", "adamw")


class Optimizer:
    """What a training step updates a network with.

    Parameters
    ----------
    network : ParameterizedNetwork
    kind : {"muon", "adamw"}
    learning_rate, weight_decay
        AdamW's.
    muon_learning_rate : float
        Of Muon, which orthogonalises the update of each kernel as a matrix, output channels by the rest: B_i, and A_i
        for each coordinate of the code.
    gradient_clip : float
        The largest norm of AdamW's gradients together (Muon's updates have a fixed norm).

    References
    ----------
    .. [1] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
       https://kellerjordan.github.io/posts/muon/
    """

    def __init__(
        self,
        network: ParameterizedNetwork,
        *,
        kind: str = "muon",
        learning_rate: float,
        muon_learning_rate: float = 1e-2,
        weight_decay: float = 0.0,
        gradient_clip: float = 1.0,
    ):
        self.gradient_clip = gradient_clip
        kernels = _kernels(network) if kind == "muon" else []
        taken = {id(parameter) for parameter, _ in kernels}
        self.others = [p for p in network.parameters() if p.requires_grad and id(p) not in taken]
        # views of the kernels' memory, one matrix each, that torch's Muon can take for parameters
        self.matrices = [(parameter, view, nn.Parameter(view(parameter.data))) for parameter, view in kernels]
        self.parts: dict[str, tuple[torch.optim.Optimizer, float]] = {}
        if self.others:
            fused = self.others[0].device.type == "cuda"
            adamw = torch.optim.AdamW(self.others, lr=learning_rate, weight_decay=weight_decay, fused=fused)
            self.parts["adamw"] = (adamw, learning_rate)
        if self.matrices:
            matrices = [matrix for _, _, matrix in self.matrices]
            muon = torch.optim.Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
            self.parts["muon"] = (muon, muon_learning_rate)

    def step(self, rate: float) -> None:
        """Apply the gradients, at `rate` times the learning rates, and clear them."""
        for parameter, view, matrix in self.matrices:
            gradient = None if parameter.grad is None else view(parameter.grad)
            # a column of an operator that the batch does not hold: no step, not one along old momentum
            matrix.grad = gradient if gradient is not None and bool(gradient.any()) else None
        torch.nn.utils.clip_grad_norm_(self.others, self.gradient_clip)
        for optimizer, learning_rate in self.parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * learning_rate
            optimizer.step()
        for parameter in (*self.others, *(parameter for parameter, _, _ in self.matrices)):
            parameter.grad = None

    def state_dict(self) -> dict:
        """For checkpoints."""
        return {name: optimizer.state_dict() for name, (optimizer, _) in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a checkpoint."""
        for name, (optimizer, _) in self.parts.items():
            optimizer.load_state_dict(state[name])


def _kernels(network: ParameterizedNetwork) -> list:
    """Every trained kernel as a matrix: pairs of a parameter and a function that gives the matrix inside it."""
    learning = network.weight_learning_network
    found: list[tuple] = []

    def add(parameter: torch.Tensor, view: Callable[..., torch.Tensor]) -> None:
        if parameter.requires_grad:
            found.append((parameter, view))

    for weight in learning.fixed.values():
        add(weight, lambda tensor: tensor.flatten(1))
    for tensor in learning.generated:
        if tensor.kind == "conv" and not tensor.part:
            rows = learning.layers[tensor.layer - 1].weight_shape[0]
            head = last_linear(learning.heads[tensor.name])
            add(head.bias, lambda bias, rows=rows: bias.view(rows, -1))
            for column in range(head.in_features):
                add(head.weight, lambda weight, rows=rows, column=column: weight[:, column].view(rows, -1))
    return found
