"""Weights from one network to another."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from .base_network import OUTPUTS
from .decoupled import DecoupledNetwork
from .parameterized import GammaCode, ParameterizedNetwork
from .weight_learning import last_linear


def copy_weights(network: ParameterizedNetwork, initial: ParameterizedNetwork) -> None:
    """Copy the weights of `initial`; its operators, and what is generated in it, may be others.

    Where only the number of codes differs (a joint network that begins with a single operator's), the columns of the
    parameters are copied, and those of the operator's code are zero: every operator begins with the same answers.

    Where other tensors are generated, or the parameters come another way (input channels, FiLM), the network begins
    with the weights that `initial` has in the middle of its range, for all operators and values (every A_i is zero).
    Extra input channels keep their random kernels, or begin at zero where these are generated. Gains begin at zero
    where `initial` has none ("residual"), and one gain for all colours ("gain") as the mean of three ("gate").

    Raises
    ------
    ValueError
        Base networks with other layers.
    """
    own, given = network.state_dict(), initial.state_dict()
    layers, first = network.base_network.convolutions, initial.base_network.convolutions
    outputs = initial.config.output, network.config.output
    if "direct" not in outputs:
        before, after = (OUTPUTS[output] for output in outputs)
        for name in own.keys() & given.keys():
            if layers[-1].name in name.split(".") and len(given[name]) * after == len(own[name]) * before:
                given[name] = _with_gains(given[name], *outputs)
        first = [*first[:-1], replace(first[-1], out_channels=layers[-1].out_channels)]
    codes = network.gamma_code, initial.gamma_code
    copied = {name: _copied(tensor, given.get(name), *codes) for name, tensor in own.items()}
    if own.keys() == given.keys() and all(tensor is not None for tensor in copied.values()):
        network.load_state_dict(copied)
        return
    extra = layers[0].in_channels - first[0].in_channels
    if extra < 0 or [replace(layers[0], in_channels=first[0].in_channels), *layers[1:]] != first:
        raise ValueError(
            f"the network to begin with ({initial.operator}: {initial.config}) has another form than the one to train "
            f"({network.operator}: {network.config}): choose one with the same width and layers"
        )
    _copy_mid_range(network, initial)


def _with_gains(tensor: torch.Tensor, given: str, wanted: str) -> torch.Tensor:
    """A tensor of the last convolution, whose first rows are the gains' and the others the residual's, for another form
    of the output.
    """
    if given == wanted or "direct" in (given, wanted):
        return tensor
    before, after = (OUTPUTS[output] - 3 for output in (given, wanted))
    rows = tensor.unflatten(0, (before + 3, -1))
    gain = rows[:before].mean(0, keepdim=True) if before else torch.zeros_like(rows[:1])
    return torch.cat([gain.expand(after, *rows.shape[1:]), rows[before:]]).flatten(0, 1)


def _copied(own: torch.Tensor, given: torch.Tensor | None, own_code: GammaCode, given_code: GammaCode):
    """One tensor of `copy_weights`; None where it does not fit."""
    if given is None or own.shape == given.shape:
        return given
    if own.shape != (len(given), own_code.codes) or given.shape != (len(own), given_code.codes):
        return None
    columns = min(own_code.parameter_codes, given_code.parameter_codes)
    first, source = (code.codes - code.parameter_codes for code in (own_code, given_code))
    copied = torch.zeros_like(own)
    copied[:, first : first + columns] = given[:, source : source + columns]
    return copied


def base_at_mid_range(network: ParameterizedNetwork) -> DecoupledNetwork:
    """The base network alone, with the weights for code zero: a beginning that favours no way to hand the parameter on.

    Raises
    ------
    ValueError
        The network has input channels for its parameters.
    """
    if not isinstance(network, DecoupledNetwork):
        raise ValueError(f"expected a decoupled network to begin with, got a {type(network).__name__}")
    form = replace(network.config, model="base_only", generated="none", hidden=0, trunk=())
    plain = DecoupledNetwork(network.operators, form)
    _copy_mid_range(plain, network)
    plain.card, plain.gray = network.card, network.gray
    return plain


@torch.no_grad()
def _copy_mid_range(network: ParameterizedNetwork, initial: ParameterizedNetwork) -> None:
    """Give every value of every operator the weights that `initial` has for code zero."""
    weights = all_weights(initial)
    learning = network.weight_learning_network
    layers = network.base_network.convolutions
    network.base_network.scale.copy_(torch.cat([weights[f"norm{k}"][0] for k in range(1, len(layers))]))
    network.base_network.shift.copy_(torch.cat([weights[f"norm{k}"][1] for k in range(1, len(layers))]))
    end = layers[-1].name
    weights[end] = _with_gains(weights[end], initial.config.output, network.config.output)
    for name, weight in learning.fixed.items():
        weight[:, : weights[name].shape[1]] = weights[name]
    for tensor in learning.generated:
        last, whole = last_linear(learning.heads[tensor.name]), weights[f"{tensor.kind}{tensor.layer}"]
        if tensor.kind == "conv":
            extra = layers[tensor.layer - 1].weight_shape[1] - whole.shape[1]
            whole = F.pad(whole, (0, 0, 0, 0, 0, extra))
        whole = {"": whole, "in": whole[:, :1], "out": whole[:1]}[tensor.part]
        last.bias.copy_(whole.flatten())
        last.weight.zero_()


def all_weights(network: ParameterizedNetwork) -> dict[str, torch.Tensor]:
    """A network's weights for code zero, the middle of all ranges: convolutions "conv1" ..., and scale and shift (2, C)
    of each normalisation, "norm1" ...
    """
    base, learning = network.base_network, network.weight_learning_network
    code = base.scale.new_zeros(1, network.gamma_code.codes)
    found = {
        name: tensor if tensor is learning.fixed.get(name) else tensor[0] for name, tensor in learning(code).items()
    }
    norms = {f"norm{k + 1}": torch.stack(base.scale_and_shift(k, found)) for k in range(len(base.norm_channels))}
    return found | norms
