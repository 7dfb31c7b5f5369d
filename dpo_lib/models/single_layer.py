"""Cheap parameter tuning: what does not depend on the parameters is computed once per image (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ..images import as_batch
from ..parameters import Value
from .base_network import INPUT_RANGE, MINIMUM_SIZE, Features, channels_apart, channels_together
from .fused import activate_and_convolve, working_room
from .parameterized import ParameterizedNetwork
from .weight_learning import Generated


def first_generated(generated: Sequence[Generated]) -> tuple[int, bool]:
    """Number (from 0) of the first layer that depends on gamma, and whether its convolution does, too."""
    first = min(tensor.layer for tensor in generated)
    return first - 1, any(tensor.layer == first and tensor.kind == "conv" for tensor in generated)


class SingleLayerTuner:
    """The answers of a network to one image, at one parameter value after the other.

    Everything before the first generated tensor is run once, here; a call runs the rest. Where only the scale and
    shift of the last normalisation are generated, that is these two and one convolution to three channels: 0.74 % of
    the network's multiplications.

    Parameters
    ----------
    network : DecoupledNetwork
        Its generated tensors should lie near the end, such as ``generated="norm(last)"``. Weights that change later
        need a new tuner.
    image : tensor (B, 3, H, W) floating in [0, 1], or ndarray (H, W, 3) or (B, H, W, 3), floating or uint8

    Raises
    ------
    ValueError
        Nothing can be shared, because the first convolution is generated; or no tensor is generated. A colour picture
        for a network of which only some operators were learned on gray ones.

    Notes
    -----
    Keeps C x H x W numbers per image, C the width of the layer before the first generated tensor; see
    `memory_bytes`. Three times as many where a network learned on gray pictures answers channel by channel. Several
    threads may call one tuner.

    Examples
    --------
    >>> from dpo_lib.models import DecoupledNetwork
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0, 1)], operator="l0", width=8, generated="norm(last)").eval()
    >>> tuner = net.tuner(torch.rand(1, 3, 33, 40))
    >>> tuner(0.2).shape, tuner(value=0.8, operator="l0").shape
    (torch.Size([1, 3, 33, 40]), torch.Size([1, 3, 33, 40]))
    """

    def __init__(self, network: ParameterizedNetwork, image: torch.Tensor | np.ndarray):
        base, generated = network.base_network, network.weight_learning_network.generated
        if not generated:
            raise ValueError("a tuner needs a network with a generated tensor, got generated='none': call the network")
        layer, convolution = first_generated(generated)
        if layer == 0 and convolution:
            raise ValueError(
                f"a tuner shares what comes before the first generated tensor, but {network.config.generated} "
                "generates the first convolution: use a network with generated='norm(last)' or another late layer"
            )
        batch, self._restore = as_batch(image, minimum_size=MINIMUM_SIZE, low=INPUT_RANGE[0], high=INPUT_RANGE[1])
        self.network, self.layer = network, layer
        self.channel_by_channel = bool(network.gray) and bool((batch != batch[:, :1]).any())
        if self.channel_by_channel and set(network.gray) != set(network.operators):
            raise ValueError(
                f"a colour picture's channels are shared by {', '.join(network.gray)} only: call the network"
            )
        self.batch = len(batch)
        with torch.no_grad():
            batch = channels_apart(batch) if self.channel_by_channel else batch
            self.image = batch.to(base.scale if isinstance(image, np.ndarray) else base.scale.dtype)
            fixed = dict(network.weight_learning_network.fixed.items())
            features = base.advance(base.begin(self.image), fixed, until=layer, standardise=not convolution)
        self.features = _without_needless_skip(features, base.convolutions)
        kept = base.convolutions[layer]
        self.only_activation = [tensor.layer for tensor in generated] == [len(base.convolutions) - 1] and not (
            convolution or kept.closes_block or kept.joins or kept.shuffles
        )
        if self.only_activation and self.image.device.type == "cpu":
            self.features.x = self.features.skip = self.features.x.contiguous(memory_format=torch.channels_last)
            self._rooms: list[list[torch.Tensor]] = []  # of the threads that call

    @property
    def memory_bytes(self) -> int:
        """Memory of the features that are kept."""
        kept = {id(x): x for x in (self.features.x, self.features.skip, *self.features.saved)}
        return sum(x.numel() * x.element_size() for x in kept.values())

    @torch.no_grad()
    def __call__(
        self, value: Value = None, *, operator: str | Sequence[str] | None = None, check_range: bool = True
    ) -> np.ndarray | torch.Tensor:
        """Answer at the parameter value(s): as ``network(image, value, operator=operator)``.

        Parameters
        ----------
        value, operator, check_range
            See `ParameterizedNetwork.forward`.

        Returns
        -------
        Same kind as the image.
        """
        network, base = self.network, self.network.base_network
        code = network.gamma_code(value, operator=operator, batch=self.batch, check_range=check_range)
        code = code.repeat_interleave(len(self.image) // self.batch, dim=0)
        weights = network.generate(code)  # type: ignore[operator]  # of DecoupledNetwork, which knows this module
        if self.only_activation and self.image.device.type == "cpu":
            scale, shift = base.scale_and_shift(self.layer, weights)
            last = weights[base.convolutions[-1].name]
            try:
                room = self._rooms.pop()
            except IndexError:
                with torch.inference_mode(False):  # later calls write into it, too
                    room = working_room(self.features.x, last)
            x = activate_and_convolve(
                self.features.x, last, scale=scale, shift=shift, padding=base.convolutions[-1].padding, room=room
            )
            self._rooms.append(room)
            x = F.pixel_shuffle(x, 2) if base.convolutions[-1].shuffles else x
            done = Features(x, x, self.layer + 2, batch=len(self.image))
        else:
            done = base.advance(self.features, weights)
        answer = base.finish(self.image, done)
        return self._restore(channels_together(answer) if self.channel_by_channel else answer)


def _without_needless_skip(features: Features, layers: Sequence) -> Features:
    """The features laid out for reuse; the skip connection is kept only inside a residual block."""
    start = features.layer + (features.standardised and layers[features.layer].opens_block)
    marks = (layer for layer in layers[start:] if layer.opens_block or layer.closes_block)
    mark = next(marks, None)
    needed = mark is not None and mark.closes_block
    x = features.x.contiguous()
    skip = features.skip.contiguous() if needed else x
    return replace(features, x=x, skip=skip)
