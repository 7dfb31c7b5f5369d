"""Weights from one network to another."""

from __future__ import annotations

from dataclasses import replace

import torch

from .decoupled import DecoupledNetwork
from .parameterized import GammaCode, ParameterizedNetwork
from .weight_learning import last_linear


def copy_weights(network: ParameterizedNetwork, initial: ParameterizedNetwork) -> None:
    """Copy the weights of `initial`; its operators, and what is generated in it, may be others.

    Where only the number of codes differs (a joint network that begins with a single operator's), the columns of the
    parameters are copied, and those of the operator's code are zero: every operator begins with the same answers.

    Where other tensors are generated, or the parameters come another way (input channels, FiLM), the network begins
    with the weights that `initial` has in the middle of its range, for all operators and values (every A_i is zero).
    Extra input channels keep their random kernels. Gains begin at zero where `initial` has none ("residual").

    Raises
    ------
    ValueError
        Base networks with other layers.
    """
    own, given = network.state_dict(), _with_gains(initial.state_dict(), network, initial)
    codes = network.gamma_code, initial.gamma_code
    copied = {name: _copied(tensor, given.get(name), *codes) for name, tensor in own.items()}
    if own.keys() == given.keys() and all(tensor is not None for tensor in copied.values()):
        network.load_state_dict(copied)
        return
    layers, first = network.base_network.convolutions, initial.base_network.convolutions
    extra = layers[0].in_channels - first[0].in_channels
    if _gains(network, initial):
        first = [*first[:-1], replace(first[-1], out_channels=layers[-1].out_channels)]
    if extra < 0 or [replace(layers[0], in_channels=first[0].in_channels), *layers[1:]] != first:
        raise ValueError(
            f"the network to begin with ({initial.operator}: {initial.config}) has another form than the one to train "
            f"({network.operator}: {network.config}): choose one with the same width and layers"
        )
    _copy_mid_range(network, initial)


def _gains(network: ParameterizedNetwork, initial: ParameterizedNetwork) -> int:
    """How many channels of gains the last convolution of `network` has, where that of `initial` has none."""
    if initial.config.output != "residual" or network.config.output not in ("gain", "gate"):
        return 0
    return network.base_network.convolutions[-1].out_channels - initial.base_network.convolutions[-1].out_channels


def _with_gains(tensors: dict, network: ParameterizedNetwork, initial: ParameterizedNetwork) -> dict:
    """The tensors of `initial`, whose last convolution also gives gains of zero where `network` has some."""
    last, gains = initial.base_network.convolutions[-1], _gains(network, initial)
    found = {}
    for name, tensor in tensors.items():
        rows = gains * len(tensor) // last.out_channels if last.name in name.split(".") else 0
        found[name] = torch.cat([tensor.new_zeros(rows, *tensor.shape[1:]), tensor])
    return found


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
    weights = _with_gains(all_weights(initial), network, initial)
    learning = network.weight_learning_network
    layers = network.base_network.convolutions
    network.base_network.scale.copy_(torch.cat([weights[f"norm{k}"][0] for k in range(1, len(layers))]))
    network.base_network.shift.copy_(torch.cat([weights[f"norm{k}"][1] for k in range(1, len(layers))]))
    for name, weight in learning.fixed.items():
        weight[:, : weights[name].shape[1]] = weights[name]
    for tensor in learning.generated:
        last, whole = last_linear(learning.heads[tensor.name]), weights[f"{tensor.kind}{tensor.layer}"]
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
