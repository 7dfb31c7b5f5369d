"""Slow operators on a reduced image, their answer carried over to the full one: what a network competes with.

Both methods find, from the reduced image and its answer, where which affine map of colours turns one into the other,
and apply those maps to the full image. They know nothing of the operator, and work for any.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch.nn.functional import avg_pool2d, interpolate, pad

from ..images import luminance

REST = 1e-6  # of a pixel's weight: what is seen nowhere becomes the identity


def bilateral_guided_upsample(
    image: torch.Tensor,
    small: torch.Tensor,
    answer: torch.Tensor,
    *,
    cell_px: float = 16,
    bins: int = 8,
    smoothness: float = 0.1,
) -> torch.Tensor:
    """Fit a bilateral grid of affine colour transforms to a reduced image and its answer (Chen et al. 2016).

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        The full image in [0, 1].
    small, answer : tensors (B, 3, h, w)
        The reduced image and what an operator gives for it.
    cell_px : float
        Distance of the grid's points, in pixels of the reduced image.
    bins : int
        The grid's points along luminance, at least 2.
    smoothness : float
        Weight of the squared differences of neighbouring grid points, > 0, in the unit of a pixel's squared error.

    Returns
    -------
    tensor (B, 3, H, W)
        float32, on the CPU.

    Raises
    ------
    ValueError
        Shapes that do not fit, fewer than two bins, a cell or a smoothness that is not positive.

    Notes
    -----
    The grid G minimises sum_p |G(p) (I_p, 1) - J_p|^2 + smoothness sum |G_i - G_j|^2, with G(p) interpolated between
    the eight grid points around a pixel's place and luminance: a sparse linear system with three right sides, solved
    exactly. A grid that nothing holds is the identity.

    References
    ----------
    .. [1] J. Chen, A. Adams, N. Wadhwa, S. W. Hasinoff, "Bilateral guided upsampling", ACM Transactions on Graphics
       35(6), 2016. doi:10.1145/2980179.2982423
    """
    _check(image, small, answer)
    if not cell_px > 0 or bins < 2 or not smoothness > 0:
        raise ValueError(f"expected cell_px > 0, bins >= 2 and smoothness > 0, got {cell_px}, {bins} and {smoothness}")
    points = [max(2, round(side / cell_px) + 1) for side in small.shape[2:]]
    shape = (*points, bins)
    ties = smoothness * _laplacian(shape)
    results = []
    for full, low, target in zip(image, small, answer, strict=True):
        design = _times_colours(_slicing(low, shape), low)
        rest = REST * sparse.identity(design.shape[1])
        matrix = (design.T @ design + sparse.kron(sparse.identity(4), ties) + rest).tocsc()
        change = (target - low).flatten(1).double().cpu().numpy().T  # in place of J: what is added to the identity
        grid = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(design.T @ change)
        added = _times_colours(_slicing(full, shape), full) @ grid
        results.append(full.float().cpu() + torch.from_numpy(added.T.reshape(full.shape)).float())
    return torch.stack(results)


def guided_upsample(
    image: torch.Tensor, small: torch.Tensor, answer: torch.Tensor, *, radius_px: int = 4, epsilon: float = 1e-4
) -> torch.Tensor:
    """Fit an affine map of each channel in every window of the reduced image (He and Sun 2015).

    Parameters
    ----------
    image, small, answer
        See `bilateral_guided_upsample`.
    radius_px : int
        Of the windows, squares of side 2 r + 1, in pixels of the reduced image, at least 1.
    epsilon : float
        Variance below which a window counts as flat, > 0.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device.

    Raises
    ------
    ValueError
        Shapes that do not fit, a radius below 1, an epsilon that is not positive.

    References
    ----------
    .. [1] K. He, J. Sun, "Fast guided filter", 2015. doi:10.48550/arXiv.1505.00996
    """
    _check(image, small, answer)
    if radius_px < 1 or not epsilon > 0:
        raise ValueError(f"expected radius_px >= 1 and epsilon > 0, got {radius_px} and {epsilon}")

    def mean(x: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(pad(x, (radius_px,) * 4, mode="replicate"), 2 * radius_px + 1, stride=1)

    mean_in, mean_out = mean(small), mean(answer)
    gain = (mean(small * answer) - mean_in * mean_out) / (mean(small.square()) - mean_in.square() + epsilon)
    maps = torch.cat([mean(gain), mean(mean_out - gain * mean_in)], dim=1)
    gain, offset = interpolate(maps, image.shape[2:], mode="bilinear", align_corners=False).chunk(2, dim=1)
    return gain * image + offset


def _check(image: torch.Tensor, small: torch.Tensor, answer: torch.Tensor) -> None:
    shapes = [tuple(x.shape) for x in (image, small, answer)]
    fits = all(len(shape) == 4 and shape[:2] == (shapes[0][0], 3) for shape in shapes) and shapes[1] == shapes[2]
    if not fits:
        raise ValueError(f"expected an image (B, 3, H, W), and two reduced ones (B, 3, h, w), got {shapes}")


def _slicing(image: torch.Tensor, shape: tuple[int, ...]) -> sparse.csr_matrix:
    """Matrix (pixels, grid points) that interpolates a grid at an image's (3, H, W) places and luminances."""
    height, width = image.shape[1:]
    light = luminance(image[None].double())[0, 0].cpu().numpy()
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    rows = np.arange(height * width)
    matrix = sparse.csr_matrix((rows.size, int(np.prod(shape))))
    places = [np.clip(at, 0, 1).ravel() * (count - 1) for at, count in zip((y, x, light), shape, strict=True)]
    below = [np.minimum(place.astype(int), count - 2) for place, count in zip(places, shape, strict=True)]
    for corner in np.ndindex(2, 2, 2):
        shares = [np.where(up, p - b, 1 - p + b) for up, p, b in zip(corner, places, below, strict=True)]
        columns = np.ravel_multi_index([b + up for up, b in zip(corner, below, strict=True)], shape)
        matrix = matrix + sparse.csr_matrix((np.prod(shares, axis=0), (rows, columns)), shape=matrix.shape)
    return matrix


def _times_colours(slicing: sparse.csr_matrix, image: torch.Tensor) -> sparse.csr_matrix:
    """Matrix (pixels, 4 x grid points): an affine map from every grid point, applied to the pixels' colours."""
    colours = image.flatten(1).double().cpu().numpy()
    return sparse.hstack([*(sparse.diags(colour) @ slicing for colour in colours), slicing]).tocsr()


def _laplacian(shape: tuple[int, ...]) -> sparse.csr_matrix:
    """Sum of the squared differences of neighbours in a grid, as a matrix."""
    total = sparse.csr_matrix((int(np.prod(shape)),) * 2)
    for axis, count in enumerate(shape):
        difference = sparse.diags([-np.ones(count), np.ones(count - 1)], [0, 1], shape=(count - 1, count))
        before, after = (sparse.identity(int(np.prod(part))) for part in (shape[:axis], shape[axis + 1 :]))
        total = total + sparse.kron(sparse.kron(before, difference.T @ difference), after)
    return total.tocsr()
