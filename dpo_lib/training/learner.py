"""One step of training: the network, its arithmetic, its loss, its optimiser and the average of its weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..models.baselines import build_model
from ..models.network_config import NetworkConfig
from ..models.parameterized import ParameterizedNetwork
from ..models.transfer import copy_weights
from ..operators.operator import Operator, Operators, as_operators
from ..timing import time_ms
from .bank import Batch
from .config import TrainConfig
from .optimizers import Optimizer
from .workers import Workers

MARGINS_PX = {"edge": 0, "symmetric": 16, "wrap": 64}  # laid around the pictures of filters with such borders
LOG_FLOOR = 1e-5  # squared error below which log_l2 stops rewarding (50 dB)


def resolve_precision(precision: str, device: torch.device, network: NetworkConfig) -> torch.dtype:
    """Arithmetic of the convolutions: "auto" is bfloat16 where that is quicker, else float32.

    Notes
    -----
    On a CPU "auto" measures a convolution of both kinds. With the dilated base network only widths that are multiples
    of 16 count: for others, torch 2.13's gradient of grouped, dilated bfloat16 convolutions is not a number (found
    with widths 8, 20 and 24 on an AVX-512 machine).
    """
    fits = device.type != "cpu" or network.base == "pyramid" or network.width % 16 == 0
    if precision == "bfloat16" and not fits:
        raise ValueError(f"bfloat16 on a CPU needs a width that is a multiple of 16, got {network.width}: use float32")
    if precision == "auto" and fits:
        precision = "bfloat16" if bfloat16_pays(device) else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@functools.cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether a convolution with its gradient takes at most 0.8 of its time in bfloat16 (measured once, on CPUs)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return False

    def pass_both_ways(dtype: torch.dtype) -> None:
        x = torch.ones(1, 48, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        weight = torch.ones(48, 48, 3, 3, dtype=dtype, requires_grad=True)
        torch.conv2d(x, weight, padding=1).sum().backward()

    times = [
        time_ms(functools.partial(pass_both_ways, dtype), device=device, repeats=9)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    return times[1] < 0.8 * times[0]


def loss_of(prediction: torch.Tensor, target: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch and its mean PSNR in dB (no rounding, for the log); where the target is NaN, nothing counts."""
    known = ~target.isnan()
    squared = torch.where(known, prediction.float() - target, 0).square().flatten(1).sum(1) / known.flatten(1).sum(1)
    psnr_db = -10 * torch.log10(squared.detach().clamp_min(1e-10)).mean()
    return (squared.mean() if kind == "l2" else torch.log(squared + LOG_FLOOR).mean()), psnr_db


def build_network(operators: Operators, config: TrainConfig) -> ParameterizedNetwork:
    """The untrained network of a configuration; the same seed gives the same numbers on every device.

    Where the configuration leaves them open, a pyramid's border is that of its operators, if they have one in common,
    and its margin that of `MARGINS_PX`; without filters none.
    """
    operators = as_operators(operators)
    parameters = {name: operator.parameters for name, operator in operators.items()}
    form = config.network
    if form.base == "pyramid":
        borders = {operator.border for operator in operators.values()}
        border = form.border or (borders.pop() if len(borders) == 1 else "edge")
        usual = MARGINS_PX[border] if any(operator.kind == "filter" for operator in operators.values()) else 0
        form = replace(form, border=border, margin=usual if form.margin is None else form.margin)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_model(parameters, form)
    network.gray = tuple(name for name, operator in operators.items() if operator.is_gray)
    return network


class Learner:
    """The network, the running average of its weights, its optimiser, and one step of them."""

    def __init__(
        self,
        operators: Mapping[str, Operator],
        config: TrainConfig,
        device: torch.device,
        initial: ParameterizedNetwork | None,
        workers: Workers | None = None,
    ):
        self.operators, self.config, self.device, self.joint = operators, config, device, len(operators) > 1
        self.workers = workers or Workers(0, 1, device)
        self.dtype = resolve_precision(config.precision, device, config.network)
        self.network, self.average = (build_network(operators, config).to(device) for _ in range(2))
        if initial is not None:
            copy_weights(self.network, initial)
            copy_weights(self.average, initial)
        self.average.requires_grad_(False)
        if config.trained == "norm":
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(name in ("base_network.scale", "base_network.shift") or ".norm" in name)
        self.weights = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = Optimizer(
            self.network,
            kind=config.optimizer,
            learning_rate=config.learning_rate,
            muon_learning_rate=config.muon_learning_rate,
            weight_decay=config.weight_decay,
            gradient_clip=config.gradient_clip,
        )
        base = self.network.base_network
        self.rim = base.margin // 2  # crops lack what lies around them: their outer pixels do not count
        base.margin = 0  # crops show what lies beyond a border already
        if device.type == "cpu":
            base.together = True  # see `predict`
        self.modules = {"network": self.network, "average": self.average, "optimizer": self.optimizer}

    def step(self, batch: Batch, step: int) -> tuple[float, float]:
        """Learn from a batch; gives its loss and PSNR, over all processes."""
        loss, psnr_db = loss_of(self._inside(self.predict(batch)), self._inside(batch.target), self.config.loss)
        loss.backward()
        numbers = torch.stack([loss.detach(), psnr_db])
        self.workers.average([*(weight.grad for weight in self.weights if weight.grad is not None), numbers])
        mean_loss, mean_psnr_db = numbers.tolist()
        if not math.isfinite(mean_loss):
            raise FloatingPointError(
                f"the loss became {mean_loss} at step {step}: lower learning_rate (now {self.config.learning_rate:g})"
            )
        self.update(step)
        return mean_loss, mean_psnr_db

    def update(self, step: int) -> None:
        """Apply the gradients, then move the average of the weights."""
        config = self.config
        self.optimizer.step(config.rate_at(step))
        decay = min(config.ema, (step + 1) / (step + 10)) if config.ema else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)

    def predict(self, batch: Batch) -> torch.Tensor:
        """The network's answers, in the run's arithmetic; batches are not checked as a caller's images are.

        On a CPU, images of one code go through together, and others apart: so it is quickest.
        """
        value = batch.value if batch.value.shape[1] else None
        names = batch.operators if self.joint else None
        code = self.network.gamma_code(value, operator=names, batch=len(batch.input), check_range=False)
        low = self.dtype == torch.bfloat16
        # no cache: within an outer autocast it would hold the first step's weights for ever
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            if self.config.same_crop > 1:
                size = self.config.same_crop
                shared = zip(batch.input[::size].split(1), code.split(size), strict=True)
                return torch.cat([self.network.answers(image, own) for image, own in shared])
            if self.device.type != "cpu":
                return self.network.answer(batch.input, code)
            groups: dict[tuple, list[int]] = {}
            for position, row in enumerate(code.tolist()):
                groups.setdefault(tuple(row), []).append(position)
            answers = [self.network.answer(batch.input[rows], code[rows]) for rows in groups.values()]
            order = torch.tensor([position for rows in groups.values() for position in rows])
            return torch.cat(answers)[order.argsort()]

    def _inside(self, images: torch.Tensor) -> torch.Tensor:
        """The crops (B, C, side, side) without their rim, at most a quarter on each side."""
        side = images.shape[-1]
        rim = min(self.rim, side // 4)
        return images[..., rim : side - rim, rim : side - rim]
