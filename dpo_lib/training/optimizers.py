"""Optimisers: AdamW, or Muon for the kernels with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..models.parameterized import ParameterizedNetwork
from ..models.weight_learning import last_linear

OPTIMIZERS = ("muon", "adamw")
QUINTIC = (3.4445, -4.775, 2.0315)  # of the Newton-Schulz iteration, from reference [1] of `Optimizer`


def orthogonalised(x: torch.Tensor, *, iterations: int = 5) -> torch.Tensor:
    """Matrices (n, rows, columns) with all their singular values near 1.

    Notes
    -----
    Newton-Schulz: each iteration takes X to (a + b G + c G^2) X, where G = X X^T. As these factors commute, they are
    multiplied with one another first, as small as G, and then with X.

    Examples
    --------
    >>> x = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.1, 0.0]]])
    >>> torch.linalg.svdvals(orthogonalised(x)).round(decimals=1)
    tensor([[1.1000, 0.7000]])
    """
    if x.shape[1] > x.shape[2]:
        return orthogonalised(x.mT, iterations=iterations).mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    first, second, third = QUINTIC
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    gram, product = x @ x.mT, identity
    for _ in range(iterations):
        factor = first * identity + second * gram + third * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update of a matrix is made orthogonal.

    Matrices of one shape are updated together, in their own precision: torch.optim.Muon (2.13) takes them one by one in
    bfloat16, which on a processor without bfloat16 units takes longer than all the rest of a step.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in alike.items():
                gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
                for matrix in matrices:
                    if "momentum" not in self.state[matrix]:
                        self.state[matrix]["momentum"] = torch.zeros_like(matrix)
                momenta = [self.state[matrix]["momentum"] for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                updates = orthogonalised(torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"])))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(updates), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


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
        # views of the kernels' memory, one matrix each, that Muon can take for parameters
        self.matrices = [(parameter, view, nn.Parameter(view(parameter.data))) for parameter, view in kernels]
        self.parts: dict[str, tuple[torch.optim.Optimizer, float]] = {}
        if self.others:
            fused = self.others[0].device.type == "cuda"
            adamw = torch.optim.AdamW(self.others, lr=learning_rate, weight_decay=weight_decay, fused=fused)
            self.parts["adamw"] = (adamw, learning_rate)
        if self.matrices:
            matrices = [matrix for _, _, matrix in self.matrices]
            muon = Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
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
