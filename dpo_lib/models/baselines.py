"""What the decoupled network is compared with, on the same base network and behind the same call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..parameters import Parameter
from .decoupled import DecoupledNetwork
from .network_config import NetworkConfig
from .parameterized import ParameterizedNetwork
from .transfer import all_weights
from .weight_learning import WeightLearningNetwork, last_linear

# the last two are trained at the two ends of the range and interpolated between
END_POINT_MODELS = {"interpolation": "conv(all)+norm(all)", "adafm": "norm(all)"}


class InputChannelNetwork(ParameterizedNetwork):
    """The parameters as extra input channels: one constant picture per coordinate of the code (Chen et al. 2017).

    Parameters
    ----------
    parameters, operator, config, **settings
        See `ParameterizedNetwork`.

    Notes
    -----
    Instance normalisation takes away whatever is constant over the image, and so would lose the code. As in the
    reference, every layer gives IN(x) + lambda x with a learned number lambda instead (there batch normalisation);
    lambda starts at 1 in the first layer and at 0 in the others.

    References
    ----------
    .. [1] Q. Chen, J. Xu, V. Koltun, "Fast image processing with fully-convolutional networks", ICCV 2017.
       doi:10.1109/ICCV.2017.273
    """

    def __init__(
        self,
        parameters: Sequence[Parameter] | Mapping[str, Sequence[Parameter]],
        config: NetworkConfig | None = None,
        *,
        operator: str = "",
        **settings,
    ):
        super().__init__(parameters, config, operator=operator, **{"model": "input_channels", **settings})
        self.base_network = self.config.base_network(self.gamma_code.codes)
        self.weight_learning_network = WeightLearningNetwork(
            self.base_network, codes=self.gamma_code.codes, generated="none", last_is_zero=self.config.last_is_zero
        )

    def answer(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) and codes (B, codes) to images."""
        return self.base_network(image, self.weight_learning_network(code), code)


def build_model(
    parameters: Sequence[Parameter] | Mapping[str, Sequence[Parameter]],
    config: NetworkConfig | None = None,
    *,
    operator: str = "",
    **settings,
) -> ParameterizedNetwork:
    """An untrained network of one kind, as ``config.model`` says.

    "decoupled"
        `DecoupledNetwork` (the paper).
    "input_channels"
        `InputChannelNetwork`.
    "film"
        Conditional instance normalisation: the code generates the scale and shift of every normalisation, and no
        convolution (Perez et al. 2018).
    "base_only"
        The base network alone: it takes no parameter, and answers the same for all (Table 13, where it is
        trained on a single value).
    "interpolation", "adafm"
        One net for the low end of the range, and a second one that starts from it for the high end; in between
        the weights are interpolated, linearly in the code (deep network interpolation, Wang et al. 2019). With
        "adafm" the convolutions stay as they are and only the scale and shift of the normalisations follow the
        high end (He et al. 2019, feature modification with filters of size 1). This function gives one end;
        `train` trains both and joins them with `interpolated`.

    Parameters
    ----------
    parameters, operator, config, **settings
        See `ParameterizedNetwork`. `generated` counts for "decoupled" only; `hidden`, `relu` and `trunk` for "film" as
        well.

    References
    ----------
    .. [1] E. Perez et al., "FiLM: visual reasoning with a general conditioning layer", AAAI 2018.
       doi:10.1609/aaai.v32i1.11671
    .. [2] X. Wang, K. Yu, C. Dong, X. Tang, C. C. Loy, "Deep network interpolation for continuous imagery effect
       transition", CVPR 2019. doi:10.48550/arXiv.1811.10515
    .. [3] J. He, C. Dong, Y. Qiao, "Modulating image restoration with continual levels via adaptive feature
       modification layers", CVPR 2019. doi:10.48550/arXiv.1904.08118

    Examples
    --------
    >>> net = build_model([Parameter("lambda", 0, 1)], model="film", operator="l0", width=8)
    >>> [tensor.name for tensor in net.weight_learning_network.generated][:3]
    ['norm1', 'norm2', 'norm3']
    """
    config = replace(config or NetworkConfig(), **settings)
    if config.model == "input_channels":
        return InputChannelNetwork(parameters, config, operator=operator)
    if config.model == "film":
        config = replace(config, generated="norm(all)")
    elif config.model != "decoupled":
        config = replace(config, generated="none", hidden=0, trunk=())
    return DecoupledNetwork(parameters, config, operator=operator)


def interpolated(
    low: ParameterizedNetwork, high: ParameterizedNetwork, *, generated: str = "conv(all)+norm(all)"
) -> DecoupledNetwork:
    """One network out of two for the ends of the range: its weights run linearly from the first's to the second's.

    That is a decoupled network with A = (W_high - W_low) / 2 and B = (W_high + W_low) / 2, for the code runs from -1
    to 1: linear in the parameter, or in its logarithm, as the two networks' `rescaling` says.

    Parameters
    ----------
    low, high : DecoupledNetwork
        Of the same form, with ``generated="none"``, for one operator with one parameter.
    generated : str
        Which tensors run (the others are the first network's), see `generated_names`.

    Raises
    ------
    ValueError
        Networks of different forms, or with something generated, or not of one parameter.
    """
    operators = low.operators
    if operators != high.operators or low.config != high.config or low.config.generated != "none":
        raise ValueError("interpolated needs two networks of the same form with generated='none'")
    check_one_parameter(operators)
    net = DecoupledNetwork(operators, replace(low.config, model="decoupled", generated=generated))
    with torch.no_grad():
        net.base_network.load_state_dict(low.base_network.state_dict())
        ends = [all_weights(one) for one in (low, high)]
        for name, weight in net.weight_learning_network.fixed.items():
            weight.copy_(ends[0][name])
        for name, module in net.weight_learning_network.heads.items():
            head = last_linear(module)
            first, second = (end[name].flatten() for end in ends)
            head.bias.copy_((second + first) / 2)
            head.weight.copy_((second - first)[:, None] / 2)
    net.gray = low.gray
    return net.to(low.base_network.scale.device)


def check_one_parameter(operators: Mapping[str, Sequence[Parameter]]) -> Parameter:
    """The one parameter of the one operator, or an error: only then has the range two ends."""
    counts = {name: len(parameters) for name, parameters in operators.items()}
    if list(counts.values()) != [1]:
        raise ValueError(f"interpolation needs one operator with one parameter, got numbers of parameters {counts}")
    return next(iter(operators.values()))[0]
