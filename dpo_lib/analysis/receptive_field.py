"""Receptive fields: what an output pixel may depend on (theoretical) and what it does depend on (effective)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..images import as_batch, to_numpy
from ..models.base_network import MINIMUM_SIZE, edge_map
from ..models.decoupled import DecoupledNetwork
from ..models.layers import Convolution
from ..operators.operator import Operator
from ..parameters import Value, as_gamma

THRESHOLD = 0.025
KINDS = {"non-edge": (0.0, 0.3), "moderate edge": (0.8, 0.9), "strong edge": (0.98, 1.0)}  # quantiles, see pick_points


def receptive_interval(layers: Sequence[Convolution], position: int, *, edges: bool = True) -> tuple[int, int]:
    """First and last input row (or column) that output row `position` may depend on.

    Parameters
    ----------
    layers : sequence of Convolution
        In run order. Skip connections add nothing, since a block's convolutions already see their own pixel.
    position : int
        Output row, from 0.
    edges : bool
        Count the edge map, which looks one pixel further on each side.

    Returns
    -------
    first, last : int
        Both included, and not cut at the image's border: `first` may be negative.

    Notes
    -----
    Walks back from the output. An interval [a, b] of the output of a convolution with kernel k, dilation d, stride s
    and padding p needs the rows [s a - p, s b - p + d (k - 1)] of its input; a transposed one needs
    [ceil((a + p - (k - 1)) / s), floor((b + p) / s)].

    Instance normalisation is left out: its mean and variance let every output pixel depend on the whole image.

    Examples
    --------
    >>> receptive_interval([Convolution("a", 4, 8), Convolution("b", 8, 3, dilation=2)], 10, edges=False)
    (7, 13)
    """
    first = last = position
    for layer in reversed(layers):
        if layer.shuffles:
            first, last = first // 2, last // 2
        reach, stride = layer.dilation * (layer.kernel_size - 1), layer.stride
        if layer.transposed:
            first, last = -((reach - 1 - first) // stride), (last + 1) // stride  # -(-n // s) is the ceiling of n / s
        else:
            first, last = stride * first - layer.margin, stride * last - layer.margin + reach
    if layers[-1].shuffles:  # the image came in as 2x2 pixels
        return 2 * first, 2 * last + 1
    return (first - 1, last + 1) if edges else (first, last)


def theoretical_receptive_field(layers: Sequence[Convolution], *, edges: bool = True) -> int:
    """Side in pixels of the square of input pixels that one output pixel may depend on.

    Parameters
    ----------
    layers, edges
        See `receptive_interval`. Where a transposed convolution makes the side depend on the pixel's position, the
        largest.

    Examples
    --------
    >>> from dpo_lib.models import dilated_layers
    >>> theoretical_receptive_field(dilated_layers())
    359
    """
    growths = [2 if layer.shuffles else layer.stride for layer in layers if layer.shuffles or layer.transposed]
    period = int(np.prod(growths, dtype=int))
    intervals = [receptive_interval(layers, position, edges=edges) for position in range(period)]
    return max(last - first + 1 for first, last in intervals)


@dataclass(frozen=True)
class ReceptiveField:
    """Effective receptive fields of K points, each at its own parameter value.

    Parameters
    ----------
    gradient : ndarray (K, H, W), float32
        How strongly the output at the point depends on each input pixel, >= 0.
    points : ndarray (K, 2), int
        Row and column.
    gamma : ndarray (K, m)
        Parameter values.
    threshold : float
        Part of the maximum above which a pixel belongs to the field.
    """

    gradient: np.ndarray
    points: np.ndarray
    gamma: np.ndarray
    threshold: float = THRESHOLD

    def __len__(self) -> int:
        return len(self.points)

    @property
    def mask(self) -> np.ndarray:
        """The fields: bool (K, H, W), true where the gradient exceeds `threshold` times its maximum."""
        return self.gradient > self.threshold * self.gradient.max(axis=(1, 2), keepdims=True)

    @property
    def area(self) -> np.ndarray:
        """Pixels in each field: int (K,)."""
        return self.mask.sum(axis=(1, 2))

    @property
    def half_area(self) -> np.ndarray:
        """Pixels that hold half of each gradient, the strongest first: int (K,). Depends on no threshold."""
        falling = -np.sort(-self.gradient.reshape(len(self), -1).astype(np.float64), axis=1)
        total = falling.sum(axis=1, keepdims=True)
        return np.where(total[:, 0] > 0, (np.cumsum(falling, axis=1) < total / 2).sum(axis=1) + 1, 0)

    @property
    def extent(self) -> np.ndarray:
        """Height and width in pixels of the smallest box around each field: int (K, 2); 0 for an empty one."""
        sides: list[np.ndarray] = [np.asarray(self.mask.any(axis=axis)) for axis in (2, 1)]
        spans = [side.shape[1] - side.argmax(1) - side[:, ::-1].argmax(1) for side in sides]
        return np.stack([np.where(side.any(1), span, 0) for side, span in zip(sides, spans, strict=True)], axis=1)

    def share_inside(self, segments: np.ndarray) -> np.ndarray:
        """Share of each field that lies in the point's own segment.

        Parameters
        ----------
        segments : ndarray (H, W), int
            A label per pixel, for instance from `segment`.

        Returns
        -------
        ndarray (K,)
            In [0, 1]; NaN for an empty field. Small fields are inside almost by themselves: compare with
            ``field.discs().share_inside(segments)``.
        """
        segments = np.asarray(segments)
        if segments.shape != self.gradient.shape[1:]:
            raise ValueError(f"segments must be labels of shape {self.gradient.shape[1:]}, got {segments.shape}")
        own = segments == segments[self.points[:, 0], self.points[:, 1]][:, None, None]
        area = self.area
        return np.where(area > 0, (self.mask & own).sum(axis=(1, 2)) / np.maximum(area, 1), np.nan)

    def discs(self) -> ReceptiveField:
        """Fields of the same areas that know nothing of the image: the pixels nearest to each point."""
        rows, columns = np.indices(self.gradient.shape[1:])
        discs = np.zeros_like(self.gradient)
        for disc, (row, column), area in zip(discs, self.points, self.area, strict=True):
            nearest = np.argsort((rows - row) ** 2 + (columns - column) ** 2, axis=None, kind="stable")
            disc.flat[nearest[:area]] = 1
        return ReceptiveField(discs, self.points, self.gamma, self.threshold)


def effective_receptive_field(
    net: DecoupledNetwork | Operator,
    image: np.ndarray | torch.Tensor,
    value: Value = None,
    points: Sequence | np.ndarray = (),
    *,
    operator: str | None = None,
    check_range: bool = True,
    frozen_statistics: bool = True,
    threshold: float = THRESHOLD,
    chunk: int = 8,
) -> ReceptiveField:
    """Which input pixels the network's or the operator's output at a point depends on (paper, Fig. 4).

    Parameters
    ----------
    net : DecoupledNetwork or Operator
        An operator must be `differentiable`.
    image : ndarray (H, W, 3) or tensor (1, 3, H, W)
        One image, in [0, 1].
    value : number or sequence, optional
        A parameter value for all points, or one per point (rows of m for m parameters); None for the defaults.
    points : sequence (K, 2) of int
        Rows and columns, from 0; or one (row, column) for all values.
    operator : str, optional
        Which one, for a network that knows several.
    check_range : bool
        Refuse values outside the range that the network was trained on.
    frozen_statistics : bool
        Take means and variances of the instance normalisations as constants in the derivative (True), or
        differentiate through them as well (False); the output is the same. See the notes.
    threshold : float
        Part of the maximal gradient above which a pixel belongs to the field, in [0, 1) (paper: 0.025). A larger
        one gives smaller fields.
    chunk : int
        Points that are propagated back at once; memory grows with it, the result does not depend on it.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    TypeError, ValueError
        Another kind of network, an operator without a derivative, more than one image, points outside the image, bad
        value or threshold.

    Notes
    -----
    The gradient at input pixel q for the point p is sum_c | d/dI_c(q) sum_k O_k(p) |, over the input channels c and
    the output channels k. It is that of the whole network: through the edge map, and with the image that a residual
    network adds to its last convolution.

    The paper does not say whether its Fig. 4 differentiates through the statistics of the instance normalisations.
    At its threshold it hardly matters: about a quarter of the gradient's sum runs through means and variances, but
    spread over all pixels, so that it seldom lifts one above 0.025 of the maximum (shipped network `l0_paper`,
    36 points in two photographs of half size, lambda 0.002, 0.02 and 0.2: intersection over union of the two fields
    0.99 on average, 0.83 at least). Frozen is the default because it alone is bounded by
    `theoretical_receptive_field`; the live gradient is the derivative of what the network computes, and at a
    threshold of 0 its field is the whole image.

    An operator's derivative takes its decisions as they are, such as which gradients L0 smoothing keeps; it exists
    wherever a small change of the picture does not change one.

    The maximum often lies at the point itself, and with it the area depends on how strongly the pixel's own value is
    passed on. The number of pixels that hold half of the gradient (`half_area`) depends less on it. Both are in
    results/receptive_fields.csv for L0 smoothing itself, `l0` and `l0_paper`:
    ``notebooks/04_effective_receptive_field.ipynb`` shows them.

    References
    ----------
    .. [1] Q. Fan, D. Chen, L. Yuan, G. Hua, N. Yu, B. Chen, "A general decoupled learning framework for parameterized
       image operators", IEEE TPAMI, 2021, Fig. 4. doi:10.1109/TPAMI.2019.2925793
    .. [2] W. Luo et al., "Understanding the effective receptive field in deep convolutional neural networks", NIPS
       2016. arXiv:1701.04128

    Examples
    --------
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> field = effective_receptive_field(net, np.full((20, 30, 3), 0.5), [0.01, 0.04], (7, 12))
    >>> field.area, field.extent.tolist()  # a fresh residual network is the identity
    (array([1, 1]), [[1, 1], [1, 1]])
    """
    if not isinstance(net, DecoupledNetwork | Operator):
        raise TypeError(f"net must be a DecoupledNetwork or an Operator, got {type(net).__name__}")
    if isinstance(net, Operator) and not net.differentiable:
        raise ValueError(f"{net.name} has no derivative: expected a network, or an operator that is differentiable")
    if not 0 <= threshold < 1 or chunk < 1:
        raise ValueError(f"threshold must lie in [0, 1) and chunk be positive, got {threshold} and {chunk}")
    batch, _ = as_batch(image, minimum_size=MINIMUM_SIZE)
    if len(batch) != 1:
        raise ValueError(f"expected one image, got a batch of {len(batch)}: call once per image")
    where = _checked_points(points, batch.shape[2:])
    answer: Callable[[torch.Tensor, np.ndarray], torch.Tensor]
    if isinstance(net, Operator):
        name, parameters = net.name, net.parameters
        batch = batch.detach().to(torch.promote_types(batch.dtype, torch.float32))
        function, settings = net.function, net.settings

        def answer(image, row):
            return function(image, *torch.from_numpy(row)[:, None].to(image), **settings)

    else:
        name = list(net.operators)[net.gamma_code.index(operator)]
        parameters = net.operators[name]
        batch = batch.detach().to(net.base_network.scale)
        base_network = net.base_network.sharing(frozen_statistics=frozen_statistics)

        def answer(image, row):
            with torch.no_grad():
                weights = net.weights(row[None] if row.size else None, operator=operator, check_range=check_range)
            return base_network(image, {name: weight.detach() for name, weight in weights.items()})

    count = len(where)
    if count == 1 and value is not None and np.ndim(value) == (1 if len(parameters) == 1 else 2):
        count = len(value)  # type: ignore[arg-type]
    gamma = as_gamma(value, parameters=parameters, batch=count, owner=name, check_range=check_range).numpy()
    where = np.broadcast_to(where, (count, 2)).copy()
    gradient = np.empty((count, *batch.shape[2:]), np.float32)
    distinct, which = np.unique(gamma, axis=0, return_inverse=True)
    for number, row in enumerate(distinct):
        chosen = np.flatnonzero(which.reshape(-1) == number)
        with torch.enable_grad():
            given = batch.clone().requires_grad_()
            output = answer(given, row).sum(1)[0][tuple(where[chosen].T)]
        for part in np.array_split(np.arange(len(chosen)), range(chunk, len(chosen), chunk)):
            seeds = torch.eye(len(chosen))[part].to(output)
            (found,) = torch.autograd.grad(output, given, seeds, is_grads_batched=True, retain_graph=True)
            gradient[chosen[part]] = found[:, 0].abs().sum(1).float().cpu().numpy()
    return ReceptiveField(gradient, where, gamma, threshold)


def _checked_points(points, size) -> np.ndarray:
    """Points (K, 2) inside an image of this size."""
    points = np.asarray(points)
    if points.ndim not in (1, 2) or points.shape[-1] != 2 or points.dtype.kind not in "iu":
        raise ValueError(f"points must be whole numbers (row, column) of shape (K, 2), got shape {points.shape}")
    points = points.reshape(-1, 2).astype(np.int64)
    outside = ((points < 0) | (points >= np.array(size))).any(1)
    if outside.any():
        wrong = points[outside][0].tolist()
        raise ValueError(f"points must lie inside the image of {size[0]} rows and {size[1]} columns, got {wrong}")
    return points


def pick_points(
    image: np.ndarray | torch.Tensor,
    n: int = 10,
    *,
    neighbourhood: int = 4,
    border: int = 24,
    spacing: int = 8,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Points that lie on no edge, on a moderate edge and on a strong edge.

    Parameters
    ----------
    image : ndarray (H, W, 3) or tensor (1, 3, H, W)
    n : int
        Points of each kind.
    neighbourhood : int
        Radius in pixels of the square that is looked at around a point.
    border : int
        No point is nearer to the image's border, in pixels.
    spacing : int
        Two points of a kind are at least so far apart in rows or in columns, in pixels.
    seed : int
        Which of the points that qualify are taken.

    Returns
    -------
    dict
        "non-edge", "moderate edge" and "strong edge" to int arrays (n, 2), row and column.

    Raises
    ------
    ValueError
        The image has fewer such points: says how many.

    Notes
    -----
    With E the edge map (Eq. 2) and M(p) its maximum over the square around p, p qualifies as

        non-edge        M(p) at most its 0.3 quantile over the image
        moderate edge   E(p) = M(p), between the 0.8 and the 0.9 quantile of E
        strong edge     E(p) = M(p), at least the 0.98 quantile of E

    so that an edge point lies on the crest of the strongest edge around it, and a non-edge point has none near.

    Examples
    --------
    >>> from dpo_lib.data import embedded_images
    >>> picked = pick_points(embedded_images("coffee")["coffee"], 5)
    >>> {kind: points.shape for kind, points in picked.items()}
    {'non-edge': (5, 2), 'moderate edge': (5, 2), 'strong edge': (5, 2)}
    """
    from scipy.ndimage import maximum_filter

    batch, _ = as_batch(image)
    if len(batch) != 1:
        raise ValueError(f"expected one image, got a batch of {len(batch)}: call once per image")
    edges = edge_map(batch.to(torch.promote_types(batch.dtype, torch.float32)))[0, 0].cpu().numpy()
    peak = maximum_filter(edges, size=2 * neighbourhood + 1, mode="nearest")
    inner = np.zeros(edges.shape, bool)
    inner[border : edges.shape[0] - border, border : edges.shape[1] - border] = True
    rng = np.random.default_rng(seed)
    picked = {}
    for kind, (low, high) in KINDS.items():
        flat = kind == "non-edge"
        measure = peak if flat else edges
        lowest, highest = np.quantile(measure, (low, high))
        candidates = inner & (measure >= lowest) & (measure <= highest)
        if not flat:
            candidates &= (edges == peak) & (edges > 0)
        picked[kind] = _spread(np.argwhere(candidates), n, spacing, rng)
        if len(picked[kind]) < n:
            raise ValueError(
                f"found {len(picked[kind])} of {n} points for {kind}: take a larger image, a smaller n, border, "
                "spacing or neighbourhood"
            )
    return picked


def _spread(candidates: np.ndarray, n: int, spacing: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `n` of the candidates in random order, none closer than `spacing` to one before it."""
    taken = np.empty((0, 2), np.int64)
    for candidate in candidates[rng.permutation(len(candidates))]:
        if len(taken) == n:
            break
        if (np.abs(taken - candidate).max(axis=1, initial=0) >= spacing).all():
            taken = np.vstack([taken, candidate])
    return taken


def segment(
    image: np.ndarray | torch.Tensor, *, scale: float = 200.0, sigma: float = 0.8, minimum_area: int = 100
) -> np.ndarray:
    """Cut an image into regions of similar colour, as a stand-in for its objects.

    Parameters
    ----------
    image : ndarray (H, W, 3) or tensor (1, 3, H, W)
    scale : float
        A larger one gives larger segments.
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths the image first.
    minimum_area : int
        Smaller segments are joined to a neighbour, in pixels.

    Returns
    -------
    ndarray (H, W), int
        A label per pixel.

    References
    ----------
    P. Felzenszwalb, D. Huttenlocher, "Efficient graph-based image segmentation", IJCV 59(2), 2004.
    doi:10.1023/B:VISI.0000022288.19776.77

    Examples
    --------
    >>> halves = np.zeros((20, 30, 3))
    >>> halves[:, 12:] = 1
    >>> np.unique(segment(halves, sigma=0)).size
    2
    """
    from skimage.segmentation import felzenszwalb

    batch, _ = as_batch(image)
    return felzenszwalb(to_numpy(batch).astype(np.float64), scale=scale, sigma=sigma, min_size=minimum_area)


def measure_fields(
    net: DecoupledNetwork | Operator,
    images: Mapping[str, np.ndarray | torch.Tensor],
    values: Sequence[float],
    *,
    n: int = 10,
    operator: str | None = None,
    border: int = 24,
    seed: int = 0,
) -> list[dict]:
    """Effective receptive fields of many points of each kind, at many values of the parameter.

    Parameters
    ----------
    net : DecoupledNetwork or Operator
        With one parameter, see `effective_receptive_field`.
    images : mapping
        Name to an image, (H, W, 3) or (1, 3, H, W).
    values : sequence of float
    n, border, seed
        Points of each kind in each image, see `pick_points`.
    operator : str, optional
        Which one, for a network that knows several.

    Returns
    -------
    list of dict
        A row per image, kind, point and value: ``image``, ``kind``, ``row``, ``column``, ``value``, ``area`` and
        ``half_area`` in pixels, ``share_inside`` the point's own segment, ``disc_share_inside`` of a disc of the same
        area, and ``own_pixel``, the gradient at the point itself as a part of the maximum.

    Examples
    --------
    >>> from dpo_lib.data import embedded_images
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> photo = embedded_images("coffee")["coffee"][:150, :200]
    >>> rows = measure_fields(net, {"coffee": photo}, [0.01, 0.04], n=1, border=16)
    >>> len(rows), rows[0]["kind"], rows[0]["area"]  # a fresh residual network is the identity
    (6, 'non-edge', 1)
    """
    rows = []
    for name, image in images.items():
        picked, segments = pick_points(image, n, border=border, seed=seed), segment(image)
        kinds, points = np.repeat(list(picked), n), np.concatenate(list(picked.values()))
        for value in values:
            field = effective_receptive_field(net, image, [value] * len(points), points, operator=operator)
            own = field.gradient[range(len(points)), points[:, 0], points[:, 1]] / field.gradient.max(axis=(1, 2))
            inside, disc_inside = field.share_inside(segments), field.discs().share_inside(segments)
            area, half_area = field.area, field.half_area
            rows += [
                {
                    "image": name,
                    "kind": str(kind),
                    "row": int(points[k, 0]),
                    "column": int(points[k, 1]),
                    "value": float(value),
                    "area": int(area[k]),
                    "half_area": int(half_area[k]),
                    "share_inside": round(float(inside[k]), 4),
                    "disc_share_inside": round(float(disc_inside[k]), 4),
                    "own_pixel": round(float(own[k]), 4),
                }
                for k, kind in enumerate(kinds)
            ]
    return rows
