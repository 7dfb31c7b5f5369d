"""Sparse systems on images, every pixel tied to its four neighbours: the one solver that WLS, RTV and pencil share."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ...compiled import compiled

DENSE = 200  # unknowns from which down a system is inverted as a full matrix

# Grids have a border of zeros, one pixel wide. Ties of a pixel are kept at the pixel above or left of the other:
RIGHT, BELOW, BELOW_RIGHT, BELOW_LEFT = range(4)  # the finest grid has the first two only


def solve(
    right_side: torch.Tensor,
    *,
    horizontal: torch.Tensor,
    vertical: torch.Tensor,
    diagonal: torch.Tensor | float = 1.0,
    tolerance: float = 3e-7,
    max_iterations: int = 5000,
) -> torch.Tensor:
    """Solve diagonal_p x_p + sum_q weight_pq (x_p - x_q) = right_side_p, q the four neighbours of p.

    Parameters
    ----------
    right_side : tensor (B, C, H, W)
        float32 or float64; every channel of every image is a system of its own. From a GPU they are taken to the CPU
        and back.
    horizontal : tensor (B, C, H, W - 1)
        Weight between a pixel and the one to its right, >= 0. B and C may be 1: one weight for all.
    vertical : tensor (B, C, H - 1, W)
        Weight between a pixel and the one below it, >= 0. B and C may be 1.
    diagonal : float or tensor (B, C, H, W)
        >= 0, and positive somewhere in every part of the image that weights hold together. B and C may be 1.
    tolerance : float
        Each system stops by itself, when its error is at most this part of its solution, see Notes. With the default
        pixels come out right to about 1e-6 where the diagonal is 1 and the solution lies in [0, 1]; float32 and
        weights of 1e5 add about 1e-6 by rounding.
    max_iterations : int
        RTV takes 5 or 6 on a photograph, WLS 16 to 80, and up to 180 on nearly black channels; black noise 340.

    Returns
    -------
    tensor (B, C, H, W)
        Same dtype and device. Nothing flows across the image border.

    Raises
    ------
    ValueError
        Shapes that do not fit, negative weights, a diagonal that is negative or nowhere positive.
    RuntimeError
        A system has not reached the tolerance; the message has its relative error and the number of iterations.

    Notes
    -----
    Conjugate gradients, preconditioned by one cycle of black-box multigrid [1]_, [2]_: every other row and column is a
    coarser grid, down to a few hundred points. A value between two points of the coarser grid is interpolated by the
    system's own weights, summed across the line that joins them; one in the middle of four, by its whole equation; so
    nothing is interpolated across an edge. With this interpolation P the coarser system is P' A P, which ties a point
    to eight neighbours. Before the coarser grid every other row is solved exactly, given the others, then the rows
    between, every other column and the columns between; after it in reverse. Where the columns were solved last nothing
    is left of the right side, and what would be interpolated there is solved anew: both are left out.

    The energy e.Ae of the error e falls in each iteration by what the iteration adds to the energy x.Ax of its
    solution [3]_. Were it to go on falling as it did over the last eighth of the iterations, by g after g' in as many
    before, it would have been g + g^2 / g' + ... = g / (1 - g / g') before them. A system stops where this is less than
    tolerance^2 of the whole; pixels are right to the root of it where their diagonal is 1, since

        sum_p diagonal_p e_p^2 <= e.Ae.

    References
    ----------
    .. [1] R. E. Alcouffe, A. Brandt, J. E. Dendy, J. W. Painter, "The multi-grid method for the diffusion equation
       with strongly discontinuous coefficients", SIAM Journal on Scientific and Statistical Computing 2(4), 1981.
       doi:10.1137/0902035
    .. [2] J. E. Dendy, "Black box multigrid", Journal of Computational Physics 48(3), 1982.
       doi:10.1016/0021-9991(82)90057-2
    .. [3] Z. Strakos, P. Tichy, "On error estimation in the conjugate gradient method and why it works in finite
       precision computations", Electronic Transactions on Numerical Analysis 13, 2002

    Examples
    --------
    >>> right_side = torch.tensor([[[[1.0, 0.0]]]])
    >>> weight = torch.tensor([[[[2.0]]]])  # (1 + 2) x - 2 y = 1,  (1 + 2) y - 2 x = 0
    >>> solve(right_side, horizontal=weight, vertical=torch.zeros(1, 1, 0, 2)).flatten()
    tensor([0.6000, 0.4000])
    """
    matrices = [w.numpy(force=True) for w in _checked(right_side, horizontal, vertical, diagonal)]
    sides = right_side.numpy(force=True)
    result = np.empty_like(sides)
    channels = range(sides.shape[1])

    def grids(image: int, channel: int) -> _Multigrid:
        return _Multigrid(*(m[image % len(m), channel] for m in matrices))

    with ThreadPoolExecutor(min(len(channels), torch.get_num_threads())) as pool:
        for image, rows in enumerate(sides):
            shared = grids(image, 0) if matrices[0].shape[1] == 1 else None  # one matrix for all channels

            def run(channel: int, image=image, rows=rows, shared=shared) -> np.ndarray:
                system = shared or grids(image, channel)
                return _conjugate_gradients(system, rows[channel], tolerance, max_iterations)[0]

            result[image] = list(pool.map(run, channels))
    return torch.from_numpy(result).to(right_side.device)


def _checked(right_side, horizontal, vertical, diagonal) -> tuple[torch.Tensor, ...]:
    """The weights and the diagonal, of one number of images and channels."""
    batch, channels, height, width = right_side.shape
    diagonal = torch.as_tensor(diagonal, dtype=right_side.dtype, device=right_side.device)
    if diagonal.dim() == 0:
        diagonal = diagonal.expand(1, 1, height, width)
    for name, values, size in (
        ("horizontal", horizontal, (height, width - 1)),
        ("vertical", vertical, (height - 1, width)),
        ("diagonal", diagonal, (height, width)),
    ):
        shape = tuple(values.shape)
        if len(shape) != 4 or shape[2:] != size or shape[0] not in (1, batch) or shape[1] not in (1, channels):
            raise ValueError(f"{name} must have shape {(batch, channels, *size)}, B and C may be 1, got {shape}")
        if values.numel() and not bool(values.amin() >= 0):
            raise ValueError(f"{name} must be >= 0 everywhere, got {float(values.amin()):.4g}")
    if not bool((diagonal.amax((2, 3)) > 0).all()):
        raise ValueError("diagonal must be positive somewhere in every image and channel: otherwise no single solution")
    leading = torch.broadcast_shapes(*(w.shape[:2] for w in (horizontal, vertical, diagonal)))
    return tuple(w.to(right_side).expand(*leading, *w.shape[2:]) for w in (horizontal, vertical, diagonal))


def _conjugate_gradients(
    grids: _Multigrid, right_side: np.ndarray, tolerance: float, max_iterations: int
) -> tuple[np.ndarray, int]:
    """The solution (H, W) and the number of iterations."""
    number = right_side.dtype.type
    r = np.pad(right_side, 1)
    x, direction = np.zeros_like(r), np.zeros_like(r)
    work = grids.work()
    image = work[0][1]
    rz_before, energy = math.inf, 0.0
    gains: list[float] = []
    while len(gains) < max_iterations and not math.isnan(energy):
        z = grids.cycle(r, work)
        rz = _dot(r, z)
        if abs(rz) <= (tolerance / 10) ** 2 * energy:  # solved at once; what is left is rounding
            return x[1:-1, 1:-1], len(gains)
        _add(z, direction, number(rz / rz_before))
        direction, work[0][0] = z, direction
        _multiply(direction, *grids.levels[0][:2], image)
        step = rz / _dot(direction, image)
        _add(x, direction, number(step))
        _add(r, image, number(-step))
        rz_before = rz
        gains.append(step * rz)
        energy += gains[-1]
        if _error(gains) <= tolerance**2 * energy:
            return x[1:-1, 1:-1], len(gains)
    error = math.sqrt(_error(gains) / energy) if energy > 0 else math.nan
    raise RuntimeError(
        f"no convergence: relative error {error:.2g} after {len(gains)} iterations, wanted {tolerance:.2g}: "
        "allow more iterations or a larger tolerance"
    )


def _error(gains: list[float]) -> float:
    """The energy of the error some iterations ago, were it to go on falling as it does: see Notes of `solve`."""
    some = max(2, len(gains) // 8)
    before, last = sum(gains[-2 * some : -some]), sum(gains[-some:])
    return last / (1 - last / before) if before > last >= 0 else math.inf


class _Multigrid:
    """Coarser and coarser grids of one system, given as arrays (H, W - 1), (H - 1, W) and (H, W)."""

    def __init__(self, horizontal: np.ndarray, vertical: np.ndarray, diagonal: np.ndarray):
        weights = np.zeros((2, *(size + 2 for size in diagonal.shape)), diagonal.dtype)
        weights[RIGHT, 1:-1, 1:-2], weights[BELOW, 1:-2, 1:-1] = horizontal, vertical
        diagonal = np.pad(diagonal, 1)
        self.levels: list[tuple] = []  # weights, diagonal, inverse pivots of rows and of columns, shares
        while diagonal[1:-1, 1:-1].size > DENSE:
            totals = _totals(weights, diagonal)
            lines = _factors(totals, weights[RIGHT], 0, 1), _factors(totals, weights[BELOW], 1, 0)
            shares = _interpolation(np.maximum(weights, 0), diagonal)  # P' A P may have negative ones
            below = np.pad(shares[::2, 2::2, 1:-1:2], ((0, 0), (1, 1), (1, 1)))  # of the points below the coarser ones
            self.levels.append((weights, diagonal, *lines, below))
            weights, diagonal = _coarser(weights, diagonal, shares)
        self.levels.append((weights, diagonal, None, None, None))
        inner = diagonal[1:-1, 1:-1].shape
        units = np.pad(np.eye(math.prod(inner)).reshape(-1, *inner), ((0, 0), (1, 1), (1, 1)))
        columns = np.zeros_like(units)
        for unit, column in zip(units, columns, strict=True):
            _multiply(unit, weights, diagonal, column)
        matrix = columns[:, 1:-1, 1:-1].reshape(len(units), -1)
        self.full_inverse = np.linalg.inv(matrix).astype(diagonal.dtype)

    def work(self) -> list[list[np.ndarray]]:
        """What `cycle` writes into: for each grid a solution, its product with the matrix, and a right side."""
        return [[np.zeros_like(level[1]) for _ in range(3)] for level in self.levels]

    def cycle(self, r: np.ndarray, work: list[list[np.ndarray]], depth: int = 0) -> np.ndarray:
        """The approximate solution for a right side (H + 2, W + 2): an array of `work`."""
        weights, diagonal, *lines, shares = self.levels[depth]
        x, product, _ = work[depth]
        if shares is None:
            inner = r[1:-1, 1:-1]
            x[1:-1, 1:-1] = (self.full_inverse @ inner.ravel()).reshape(inner.shape)
            return x
        coarse = work[depth + 1][2]
        x.fill(0)
        _relax(x, r, weights, *lines, True)
        _multiply(x, weights, diagonal, product)
        _restrict(r, product, shares, coarse)
        _interpolate(x, shares, self.cycle(coarse, work, depth + 1))
        _relax(x, r, weights, *lines, False)
        return x


@compiled
def _dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * b[i, j]
    return total


@compiled
def _add(x, y, factor):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += factor * y[i, j]


@compiled
def _multiply(x, weights, diagonal, y):
    """The matrix times x, by flows between neighbours: large weights then do not drown the diagonal in rounding."""
    right, below = weights[RIGHT], weights[BELOW]
    for i in range(1, x.shape[0] - 1):
        for j in range(1, x.shape[1] - 1):
            c = x[i, j]
            y[i, j] = (
                diagonal[i, j] * c
                + (right[i, j] * (c - x[i, j + 1]) + right[i, j - 1] * (c - x[i, j - 1]))
                + (below[i, j] * (c - x[i + 1, j]) + below[i - 1, j] * (c - x[i - 1, j]))
            )
        if len(weights) > 2:
            below_right, below_left = weights[BELOW_RIGHT], weights[BELOW_LEFT]
            for j in range(1, x.shape[1] - 1):
                c = x[i, j]
                y[i, j] += (
                    below_right[i, j] * (c - x[i + 1, j + 1]) + below_right[i - 1, j - 1] * (c - x[i - 1, j - 1])
                ) + (below_left[i, j] * (c - x[i + 1, j - 1]) + below_left[i - 1, j + 1] * (c - x[i - 1, j + 1]))


def _totals(weights: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """The diagonal of the matrix."""
    offsets = ((0, 1), (1, 0), (1, 1), (1, -1))
    return diagonal + sum(w + np.roll(w, offset, (0, 1)) for w, offset in zip(weights, offsets, strict=False))


@compiled
def _factors(totals, weights, dy, dx):
    """Pivots' inverses where the rows (dy, dx = 0, 1) or columns (1, 0) are eliminated from their beginning on."""
    factors = np.zeros_like(totals)
    for i in range(1, totals.shape[0] - 1):
        for j in range(1, totals.shape[1] - 1):
            tie = weights[i - dy, j - dx]
            pivot = totals[i, j] - tie * (tie * factors[i - dy, j - dx])
            if pivot > 0:
                factors[i, j] = 1 / pivot
    return factors


@compiled
def _relax(x, r, weights, row_factors, column_factors, forward):
    """Solve every other row exactly, then the rows between, every other column, and the columns between; or reverse."""
    right, below = weights[RIGHT], weights[BELOW]
    below_right, below_left = weights[len(weights) - 2], weights[len(weights) - 1]  # not read on the finest grid
    height, width = x.shape[0] - 2, x.shape[1] - 2
    diagonals = len(weights) > 2
    found, ahead, back = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    for step in range(4):
        lines = step if forward else 3 - step
        if lines < 2:
            for i in range(1 + lines, height + 1, 2):
                for j in range(1, width + 1):
                    found[j] = r[i, j] + below[i, j] * x[i + 1, j] + below[i - 1, j] * x[i - 1, j]
                    ahead[j] = row_factors[i, j] * right[i, j - 1]
                    back[j] = row_factors[i, j] * right[i, j]
                if diagonals:
                    for j in range(1, width + 1):
                        found[j] += below_right[i, j] * x[i + 1, j + 1] + below_right[i - 1, j - 1] * x[i - 1, j - 1]
                        found[j] += below_left[i, j] * x[i + 1, j - 1] + below_left[i - 1, j + 1] * x[i - 1, j + 1]
                value = x[i, 0]
                for j in range(1, width + 1):
                    value = found[j] = row_factors[i, j] * found[j] + ahead[j] * value
                x[i, width] = value
                for j in range(width - 1, 0, -1):
                    value = x[i, j] = found[j] + back[j] * value
        else:
            first = lines - 1
            for i in range(1, height + 1):
                for j in range(first, width + 1, 2):
                    total = r[i, j] + right[i, j] * x[i, j + 1] + right[i, j - 1] * x[i, j - 1]
                    if diagonals:
                        total += below_right[i, j] * x[i + 1, j + 1] + below_right[i - 1, j - 1] * x[i - 1, j - 1]
                        total += below_left[i, j] * x[i + 1, j - 1] + below_left[i - 1, j + 1] * x[i - 1, j + 1]
                    x[i, j] = column_factors[i, j] * (total + below[i - 1, j] * x[i - 1, j])
            for i in range(height - 1, 0, -1):
                for j in range(first, width + 1, 2):
                    x[i, j] += column_factors[i, j] * below[i, j] * x[i + 1, j]


@compiled
def _interpolation(weights, diagonal):
    """Shares (4, H + 2, W + 2) of the coarser points above left, above right, below left and below right of a point.

    Points with odd row and column are the coarser ones; row and column (i + 1) // 2 of their grid.
    """
    shares = np.zeros((4, *diagonal.shape), diagonal.dtype)
    height, width = diagonal.shape[0] - 2, diagonal.shape[1] - 2
    diagonals = len(weights) > 2
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            if i % 2 and j % 2:
                shares[0, i, j] = 1
            elif i % 2:
                left, right = weights[RIGHT, i, j - 1], weights[RIGHT, i, j]
                if diagonals:
                    left += weights[BELOW_RIGHT, i - 1, j - 1] + weights[BELOW_LEFT, i, j]
                    right += weights[BELOW_RIGHT, i, j] + weights[BELOW_LEFT, i - 1, j + 1]
                total = left + right + diagonal[i, j]
                if total > 0:
                    shares[0, i, j], shares[1, i, j] = left / total, right / total
            elif j % 2:
                above, below = weights[BELOW, i - 1, j], weights[BELOW, i, j]
                if diagonals:
                    above += weights[BELOW_RIGHT, i - 1, j - 1] + weights[BELOW_LEFT, i - 1, j + 1]
                    below += weights[BELOW_RIGHT, i, j] + weights[BELOW_LEFT, i, j]
                total = above + below + diagonal[i, j]
                if total > 0:
                    shares[0, i, j], shares[2, i, j] = above / total, below / total
    for i in range(2, height + 1, 2):
        for j in range(2, width + 1, 2):
            above, below = weights[BELOW, i - 1, j], weights[BELOW, i, j]
            left, right = weights[RIGHT, i, j - 1], weights[RIGHT, i, j]
            total = above + below + left + right + diagonal[i, j]
            corners = np.zeros(4, diagonal.dtype)
            if diagonals:
                corners[0], corners[1] = weights[BELOW_RIGHT, i - 1, j - 1], weights[BELOW_LEFT, i - 1, j + 1]
                corners[2], corners[3] = weights[BELOW_LEFT, i, j], weights[BELOW_RIGHT, i, j]
                total += corners.sum()
            corners[0] += above * shares[0, i - 1, j] + left * shares[0, i, j - 1]
            corners[1] += above * shares[1, i - 1, j] + right * shares[0, i, j + 1]
            corners[2] += below * shares[0, i + 1, j] + left * shares[2, i, j - 1]
            corners[3] += below * shares[1, i + 1, j] + right * shares[2, i, j + 1]
            if total > 0:
                for k in range(4):
                    shares[k, i, j] = corners[k] / total
    return shares


@compiled
def _coarser(weights, diagonal, shares):
    """Weights and diagonal of the coarser grid, P' A P with the interpolation P."""
    height, width = (diagonal.shape[0] - 1) // 2, (diagonal.shape[1] - 1) // 2
    coarse_weights = np.zeros((4, height + 2, width + 2), diagonal.dtype)
    coarse_diagonal = np.zeros((height + 2, width + 2), diagonal.dtype)
    flow = np.empty((3, 3))  # of a point, (A P)_p, by the coarser points around: row above, row, row below
    for i in range(1, diagonal.shape[0] - 1):
        for j in range(1, diagonal.shape[1] - 1):
            flow[:] = 0
            own = diagonal[i, j]
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if (dy == 0 and dx == 0) or (len(weights) == 2 and dy * dx != 0):
                        continue
                    top, at = (i, j) if dy > 0 or (dy == 0 and dx > 0) else (i + dy, j + dx)
                    kind = RIGHT if dy == 0 else BELOW if dx == 0 else BELOW_RIGHT if dx == dy else BELOW_LEFT
                    weight = weights[kind, top, at]
                    if weight == 0:
                        continue
                    own += weight
                    y, x = (i + dy + 1) // 2 - (i + 1) // 2 + 1, (j + dx + 1) // 2 - (j + 1) // 2 + 1
                    for k in range(4):
                        share = shares[k, i + dy, j + dx]
                        if share != 0:
                            flow[y + k // 2, x + k % 2] -= weight * share
            for k in range(4):
                if shares[k, i, j] != 0:
                    flow[1 + k // 2, 1 + k % 2] += own * shares[k, i, j]
            total = flow.sum()
            for k in range(4):
                share = shares[k, i, j]
                if share == 0:
                    continue
                y, x = 1 + k // 2, 1 + k % 2
                row, column = (i + 1) // 2 + k // 2, (j + 1) // 2 + k % 2
                coarse_diagonal[row, column] += share * total
                if x < 2:
                    coarse_weights[RIGHT, row, column] -= share * flow[y, x + 1]
                if y < 2:
                    coarse_weights[BELOW, row, column] -= share * flow[y + 1, x]
                    if x < 2:
                        coarse_weights[BELOW_RIGHT, row, column] -= share * flow[y + 1, x + 1]
                    coarse_weights[BELOW_LEFT, row, column] -= share * flow[y + 1, x - 1]
    return coarse_weights, coarse_diagonal


@compiled
def _restrict(r, product, shares, coarse):
    """Hand what is left of a right side, r - product, on to the coarser grid: nothing in the columns relaxed last."""
    coarse[:] = 0
    for row in range(1, coarse.shape[0] - 1):
        for column in range(1, coarse.shape[1] - 1):
            i, j = 2 * row - 1, 2 * column - 1
            between = r[i + 1, j] - product[i + 1, j]
            coarse[row, column] += r[i, j] - product[i, j] + shares[0, row, column] * between
            coarse[row + 1, column] += shares[1, row, column] * between


@compiled
def _interpolate(x, shares, coarse):
    """Add what the coarser grid found, but to the columns that are relaxed next whatever they hold."""
    for row in range(1, coarse.shape[0] - 1):
        for column in range(1, coarse.shape[1] - 1):
            i, j = 2 * row - 1, 2 * column - 1
            x[i, j] += coarse[row, column]
            x[i + 1, j] += (
                shares[0, row, column] * coarse[row, column] + shares[1, row, column] * coarse[row + 1, column]
            )
