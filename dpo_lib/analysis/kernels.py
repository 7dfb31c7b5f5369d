"""Generated kernels: the multi-path form of a generated convolution, statistics, and maps of many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..images import as_batch
from ..models.base_network import INPUT_RANGE, MINIMUM_SIZE, channels_apart, channels_together
from ..models.decoupled import DecoupledNetwork, PlainNetwork
from ..models.layers import Convolution
from ..parameters import Value

METHODS = ("pca", "tsne")
COLUMNS = 8192  # of the kernel matrix that are turned to float64 at once


def kernel_paths(net: DecoupledNetwork, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernels A_k and B behind a generated convolution, W = sum_k gamma_k A_k + B (paper, Eq. 4).

    Parameters
    ----------
    net : DecoupledNetwork
        Its weights must come from one fully connected layer each (the paper's).
    layer : str
        "conv1", "conv2" ...

    Returns
    -------
    paths : tensor (m, \\*weight_shape)
        A_k for each of the m coordinates of the code.
    constant : tensor (\\*weight_shape)
        B.

    Raises
    ------
    ValueError
        No such layer, one that does not depend on gamma, or one whose weight is not linear in gamma.
    """
    convolution = _convolution(net, layer)
    weight_net = net.weight_learning_network
    if layer not in weight_net.heads:
        generated = ", ".join(name for name in weight_net.heads if name in _names(net)) or "none"
        raise ValueError(f"{layer} is not generated as a whole from gamma in this network: choose from {generated}")
    head = weight_net.heads[layer]
    if len(weight_net.trunk) or not isinstance(head, nn.Linear):
        raise ValueError(
            "the multi-path form needs weights that are linear in gamma, got a network with "
            f"{'a trunk' if len(weight_net.trunk) else 'hidden layers'}: use one with hidden=0 and trunk=()"
        )
    if net.base_network.normalisation == "kernel":
        raise ValueError("the multi-path form needs kernels that are linear in gamma, but these are standardised")
    shape = convolution.weight_shape
    return head.weight.detach().T.reshape(-1, *shape), head.bias.detach().reshape(shape)


def multi_path(
    net: DecoupledNetwork,
    layer: str,
    x: torch.Tensor,
    value: Value = None,
    *,
    operator: str | None = None,
    check_range: bool = True,
) -> torch.Tensor:
    """One generated convolution as a block of m + 1 fixed ones (paper, Eq. 5 and Fig. 5).

    Parameters
    ----------
    net, layer
        See `kernel_paths`.
    x : tensor (B, C, H, W)
        What enters the layer.
    value : number or sequence, optional
        One parameter value for all B.
    operator, check_range
        See `DecoupledNetwork.weights`.

    Returns
    -------
    tensor (B, C', H', W')
        sum_k gamma_k (A_k * x) + B * x, where * is the layer's convolution and gamma the code in [-1, 1]. Equal to
        the layer's convolution with ``net.weights(value)[layer]``, up to rounding.

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8).double()
    >>> x = torch.rand(1, 8, 12, 15, dtype=torch.float64)
    >>> direct = net.base_network.convolutions[3](x, net.weights(0.05)["conv4"])
    >>> torch.allclose(multi_path(net, "conv4", x, 0.05), direct, atol=1e-12, rtol=0)
    True
    """
    code = net.gamma_code(value, operator=operator, check_range=check_range)[0].detach()
    return _MultiPath(_convolution(net, layer), *kernel_paths(net, layer), code)(x)


def multi_path_forward(
    net: DecoupledNetwork,
    image: torch.Tensor,
    value: Value = None,
    *,
    operator: str | None = None,
    check_range: bool = True,
) -> torch.Tensor:
    """The whole network with every generated convolution in its multi-path form.

    Parameters
    ----------
    net : DecoupledNetwork
        See `kernel_paths`.
    image : tensor (B, 3, H, W)
    value, operator, check_range
        See `multi_path`.

    Returns
    -------
    tensor (B, 3, H, W)
        Equal to ``net(image, value)``, up to rounding.
    """
    batch, _ = as_batch(image, minimum_size=MINIMUM_SIZE, low=INPUT_RANGE[0], high=INPUT_RANGE[1])
    code = net.gamma_code(value, operator=operator, check_range=check_range)[0].detach()
    with torch.no_grad():
        weights = net.weights(value, operator=operator, check_range=check_range)
        names = [name for name in _names(net) if name not in net.weight_learning_network.fixed]
        blocks = {name: _MultiPath(_convolution(net, name), *kernel_paths(net, name), code) for name in names}
        weights |= dict.fromkeys(blocks, torch.empty(0))  # so that no generated kernel can be used by mistake
        layers: list = [blocks.get(layer.name, layer) for layer in net.base_network.convolutions]
        base_network = net.base_network.sharing(layers=layers)
        gray = (operator or net.operator) in net.gray  # as `net` itself answers: a colour channel is a picture
        answer = base_network((channels_apart(batch) if gray else batch).to(base_network.scale.dtype), weights)
        return (channels_together(answer) if gray else answer).to(batch)


class _MultiPath:
    """A convolution's place in the base network, filled by m + 1 of them whose results are mixed."""

    def __init__(self, layer: Convolution, paths: torch.Tensor, constant: torch.Tensor, code: torch.Tensor):
        self.layer, self.paths, self.constant, self.code = layer, paths, constant, code

    def __getattr__(self, name: str):
        return getattr(self.layer, name)

    def __call__(self, x: torch.Tensor, weight=None, bias=None) -> torch.Tensor:
        result = self.layer(x, self.constant)
        for gamma, path in zip(self.code, self.paths, strict=True):
            result = result + gamma * self.layer(x, path)
        return result


def compare_kernels(
    net_a: DecoupledNetwork | PlainNetwork,
    net_b: DecoupledNetwork | PlainNetwork,
    value: Value = None,
    *,
    operator: str | None = None,
) -> list[dict]:
    """Are the kernels that two networks use for one parameter value alike (paper, Table 11)?

    Parameters
    ----------
    net_a, net_b : DecoupledNetwork or PlainNetwork
        Of the same layers: in the paper the network for all values, and one trained for this value alone.
    value : number or sequence, optional
        Plain networks have theirs baked in.
    operator : str, optional
        Which one, for networks that know several.

    Returns
    -------
    list of dict
        A row per convolution, in run order: "layer"; "correlation", Pearson's, of all its weights, in [-1, 1], or NaN
        where one network's weights are all equal; "variance_a" and "variance_b" of these weights.

    Raises
    ------
    ValueError
        Layers of different shapes.

    Notes
    -----
    A correlation of about 0 is no sign of different functions: the channels of a hidden layer come in an arbitrary
    order that differs between any two trainings. Nor does the variance say much: instance normalisation undoes any
    common factor of a layer's weights (all layers but the last have it). `disguise` shows both.

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> row = compare_kernels(net, net.at(0.02), 0.02)[4]
    >>> row["layer"], round(row["correlation"], 6), row["variance_a"] == row["variance_b"]
    ('conv5', 1.0, True)
    """
    rows = []
    first, second = (_weights(net, value, operator) for net in (net_a, net_b))
    for name in _names(net_a):
        a, b = first[name], second.get(name)
        if b is None or a.shape != b.shape:
            raise ValueError(
                f"both networks must have the same layers, got {name} of shape {tuple(a.shape)} and "
                f"{'none' if b is None else tuple(b.shape)}"
            )
        a, b = (weight.detach().double().flatten() for weight in (a, b))
        variances = float(a.var(correction=0)), float(b.var(correction=0))
        covariance = float(((a - a.mean()) * (b - b.mean())).mean())
        correlation = covariance / math.sqrt(math.prod(variances)) if min(variances) > 0 else math.nan
        rows.append({"layer": name, "correlation": correlation, "variance_a": variances[0], "variance_b": variances[1]})
    return rows


def disguise(net: PlainNetwork, *, factor: float = 1.0, seed: int = 0) -> PlainNetwork:
    """The same function with other weights: hidden channels in random order, hidden convolutions times a factor.

    Parameters
    ----------
    net : PlainNetwork
        Without depthwise convolutions.
    factor : float
        Positive; on the weights of all convolutions but the last. Normalisation undoes it but for the small number
        that it adds to the variance.
    seed : int
        Of the order.

    Returns
    -------
    PlainNetwork
        Equal to `net` up to rounding at a factor of 1.

    Raises
    ------
    ValueError
        Depthwise convolutions, or a factor that is not positive.

    Notes
    -----
    With the channels that enter a layer in the order i and those that leave it in the order o, its weight becomes
    W[o, i], and scale and shift of its normalisation are put in the order o. The layers that end residual blocks share
    their order with what is added to them.

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8).at(0.02)
    >>> other, image = disguise(net), torch.rand(1, 3, 20, 30)
    >>> torch.allclose(other(image), net(image), atol=1e-5)
    True
    """
    layers = net.base_network.convolutions
    if factor <= 0 or any(layer.depthwise for layer in layers):
        raise ValueError(f"expected a positive factor and no depthwise convolutions, got factor {factor}")
    generator = torch.Generator().manual_seed(seed)
    found = PlainNetwork(net.base_network, dict(net.weights.items()), gray=net.gray)
    weights, base_network = found.weights, found.base_network
    orders, entering, skip, last = [], torch.arange(layers[0].in_channels), torch.empty(0), layers[-1]
    for number, layer in enumerate(layers, start=1):
        skip = entering if layer.opens_block else skip
        leaving = torch.randperm(layer.out_channels, generator=generator)
        leaving = torch.arange(layer.out_channels) if layer is last else skip if layer.closes_block else leaving
        first, second = (entering, leaving) if layer.transposed else (leaving, entering)
        weights[layer.name] = (1.0 if layer is last else factor) * weights[layer.name][first][:, second]
        if f"norm{number}" in weights:
            weights[f"norm{number}"] = weights[f"norm{number}"][:, leaving]
        orders.append(leaving + sum(base_network.norm_channels[: number - 1]))
        entering = leaving
    order = torch.cat(orders[:-1])
    base_network.scale = nn.Parameter(base_network.scale[order])
    base_network.shift = nn.Parameter(base_network.shift[order])
    return found.eval().requires_grad_(False)


def generate_kernels(
    net: DecoupledNetwork,
    n: int = 500,
    *,
    layer: str | Sequence[str] | None = None,
    operator: str | None = None,
    seed: int = 0,
    batch: int = 50,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels for random parameter values, drawn as in training.

    Parameters
    ----------
    net : DecoupledNetwork
    n : int
        Number of values (paper: 500 per operator).
    layer : str or sequence of str, optional
        "conv1", "conv2" ...; several, or None for all, one behind the other.
    operator : str, optional
        Which one, for a network that knows several.
    seed : int
    batch : int
        Values for which weights are generated at once.

    Returns
    -------
    kernels : ndarray (n, D), float32
        Flattened; D is 696,256 for all layers of the paper's network.
    gamma : ndarray (n, m)
        The parameter values.

    Raises
    ------
    ValueError
        Unknown layer or operator.

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> kernels, gamma = generate_kernels(net, 5, layer="conv4")
    >>> kernels.shape, gamma.shape
    ((5, 576), (5, 1))
    """
    layers = [layer] if isinstance(layer, str) else layer
    names = _names(net) if layers is None else [_convolution(net, name).name for name in layers]
    name = list(net.operators)[net.gamma_code.index(operator)]
    generator = torch.Generator().manual_seed(seed)
    columns = [parameter.sample(n, generator) for parameter in net.operators[name]]
    gamma = torch.stack(columns, dim=1) if columns else torch.zeros(n, 0, dtype=torch.float64)
    kernels = []
    with torch.no_grad():
        for rows in gamma.split(batch):
            code = net.gamma_code(rows if columns else None, operator=name, batch=len(rows))
            weights = net.weight_learning_network(code)
            shapes = {key: (len(rows), *_convolution(net, key).weight_shape) for key in names}
            flat = [weights[key].expand(shape).flatten(1) for key, shape in shapes.items()]  # repeats plain weights
            kernels.append(torch.cat(flat, dim=1).float().cpu())
    return torch.cat(kernels).numpy(), gamma.numpy()


@dataclass(frozen=True)
class KernelEmbedding:
    """Generated kernels as points of a plane.

    Parameters
    ----------
    points : ndarray (N, 2)
    operator : ndarray (N,) of str
        Whose kernel each point is.
    value : ndarray (N,)
        The operator's first parameter in its unit; NaN for one without parameters.
    variance : ndarray (r,)
        Of the kernels along all their principal directions, largest first, whatever the method.
    """

    points: np.ndarray
    operator: np.ndarray
    value: np.ndarray
    variance: np.ndarray


def kernel_embedding(
    nets: DecoupledNetwork | Mapping[str, DecoupledNetwork],
    n: int = 500,
    *,
    layer: str | None = None,
    method: str = "pca",
    seed: int = 0,
    perplexity: float = 30.0,
) -> KernelEmbedding:
    """Draw the kernels of operators and random parameter values in a plane (ECCV 2018 version of the paper, Fig. 5).

    Parameters
    ----------
    nets : DecoupledNetwork, or mapping
        A network with all its operators; or operator name to a network that knows it, all of the same layers.
    n : int
        Parameter values per operator.
    layer : str, optional
        "conv1", "conv2" ...; None for all.
    method : {"pca", "tsne"}
        The two directions of largest variance, or t-SNE (which needs scikit-learn).
    seed : int
        Of the parameter values and of t-SNE.
    perplexity : float
        t-SNE's number of neighbours, smaller than the number of kernels; a larger one keeps more of the whole and
        less of the detail.

    Returns
    -------
    KernelEmbedding
        n points per operator, operator by operator.

    Raises
    ------
    ImportError
        t-SNE without scikit-learn.
    ValueError
        Unknown method, layer or operator, networks of different layers, or a perplexity that is too large.

    Notes
    -----
    Both methods depend on the kernels K (N, D) only through the inner products of their differences, so that K is
    first turned without loss into its principal coordinates, of which there are at most N: with C = K - mean and
    C C^T = U S U^T, they are U sqrt(S).

    Where weights are linear in gamma, all kernels of an operator with one parameter lie on a straight line, and the
    lines of all operators of one network are parallel: A_k is theirs in common. What t-SNE bends is not bent in the
    kernels. The channels of separately trained networks come in arbitrary orders, so that their kernels lie apart
    whatever the operators are.

    References
    ----------
    L. van der Maaten, G. Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research 9, 2008.

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> kernel_embedding(net, 20, layer="conv4").points.shape
    (20, 2)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    layers: str | Sequence[str] | None = layer
    if isinstance(nets, DecoupledNetwork):
        pairs = [(name, nets) for name in nets.operators]
        if layer is None:  # kernels that are the same for all operators and values add nothing
            generated = nets.weight_learning_network.generated
            layers = list(dict.fromkeys(f"conv{tensor.layer}" for tensor in generated if tensor.kind == "conv")) or None
    else:
        pairs = list(nets.items())
    kernels, operator, value = [], [], []
    for name, net in pairs:
        own = name if len(net.operators) > 1 else None
        rows, gamma = generate_kernels(net, n, layer=layers, operator=own, seed=seed)
        kernels.append(rows)
        operator += [name] * n
        value.append(gamma[:, 0] if gamma.shape[1] else np.full(n, np.nan))
    if len({rows.shape[1] for rows in kernels}) > 1:
        raise ValueError(f"the networks must have the same layers, got {[rows.shape[1] for rows in kernels]} weights")
    if method == "tsne" and not 0 < perplexity < len(operator):
        raise ValueError(f"perplexity must be smaller than the {len(operator)} kernels, got {perplexity:g}")
    coordinates = principal_coordinates(np.concatenate(kernels))
    points = _tsne(coordinates, seed, perplexity) if method == "tsne" else coordinates[:, :2]
    return KernelEmbedding(points, np.array(operator), np.concatenate(value), coordinates.var(axis=0))


def principal_coordinates(vectors: np.ndarray) -> np.ndarray:
    """Coordinates along the principal directions, largest variance first: all distances are kept.

    Parameters
    ----------
    vectors : ndarray (N, D)
        D may be far larger than N.

    Returns
    -------
    ndarray (N, max(2, r)), float64
        r is the number of directions with a variance above rounding. The largest coordinate by size along each
        direction is positive.
    """
    products = np.zeros((len(vectors), len(vectors)))
    for start in range(0, vectors.shape[1], COLUMNS):
        part = vectors[:, start : start + COLUMNS].astype(np.float64)
        part -= part.mean(axis=0)
        products += part @ part.T
    variances, directions = np.linalg.eigh(products)
    variances, directions = variances[::-1], directions[:, ::-1]
    count = max(2, int((variances > len(vectors) * np.finfo(np.float64).eps * variances[0]).sum()))
    coordinates = directions[:, :count] * np.sqrt(np.clip(variances[:count], 0, None))
    largest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    return coordinates * np.where(largest < 0, -1.0, 1.0)


def _tsne(points: np.ndarray, seed: int, perplexity: float) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "t-SNE needs scikit-learn, which is not installed: pip install scikit-learn, or use method='pca'"
        ) from error
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


def _names(net: DecoupledNetwork | PlainNetwork) -> list[str]:
    return [layer.name for layer in net.base_network.convolutions]


def _convolution(net: DecoupledNetwork, layer: str) -> Convolution:
    known = {convolution.name: convolution for convolution in net.base_network.convolutions}
    if layer not in known:
        raise ValueError(f"layer must be one of conv1 to conv{len(known)}, got {layer!r}")
    return known[layer]


def _weights(net: DecoupledNetwork | PlainNetwork, value, operator: str | None) -> Mapping[str, torch.Tensor]:
    if isinstance(net, PlainNetwork):
        return dict(net.weights.items())
    with torch.no_grad():
        return net.weights(value, operator=operator)
