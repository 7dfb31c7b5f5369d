"""Sparse systems on images, every pixel tied to its four neighbours: the one solver that WLS, RTV and pencil share."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn.functional import pad

DENSE = 500  # unknowns from which down a system is inverted as a full matrix
REVIEW = 25  # iterations after which the speed of convergence is looked at, again and again
DIRECT_COSTS = 200  # iterations that take about as long on a CPU as a sparse direct solution
DIRECT_PIXELS = 2**20  # more would take gigabytes to factorize

# The pixels in four interleaved parts, named by the parity of row and column, e(ven) or o(dd). A part is eliminated
# into these four neighbours, given as (part, rows down, columns right) in the parts' own half-size grids.
NEIGHBOURS = {
    "eo": (("ee", 0, 0), ("ee", 0, 1), ("oo", 0, 0), ("oo", -1, 0)),  # left, right, below, above
    "oe": (("ee", 0, 0), ("ee", 1, 0), ("oo", 0, 0), ("oo", 0, -1)),  # above, below, right, left
    "oo": (("ee", 0, 0), ("ee", 0, 1), ("ee", 1, 0), ("ee", 1, 1)),  # the corners, once the two above are gone
}


def solve(
    right_side: torch.Tensor,
    *,
    horizontal: torch.Tensor,
    vertical: torch.Tensor,
    diagonal: torch.Tensor | float = 1.0,
    tolerance: float = 3e-7,
    max_iterations: int = 3000,
) -> torch.Tensor:
    """Solve diagonal_p x_p + sum_q weight_pq (x_p - x_q) = right_side_p, q the four neighbours of p.

    Parameters
    ----------
    right_side : tensor (B, C, H, W)
        float32 or float64, on any device; every channel of every image is a system of its own.
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
        Smoothing a photograph takes between 20 and 250. WLS with a large lambda on nearly black channels, where weights
        of neighbours differ by 1e5, would take a thousand: see Notes.

    Returns
    -------
    tensor (B, C, H, W)
        Same dtype and device. Nothing flows across the image border.

    Raises
    ------
    ValueError
        Shapes that do not fit, negative weights, a diagonal that is negative or nowhere positive.
    RuntimeError
        A system has not reached the tolerance; the message has its residual and the number of iterations.

    Notes
    -----
    Conjugate gradients, preconditioned by an incomplete factorization M of the matrix A in repeated red-black order
    [1]_, [2]_. Pixels with odd sum of row and column are not tied to each other, so they are eliminated exactly; this
    leaves a grid turned by 45 degrees, of which every other point is eliminated, which leaves a grid of half the size;
    and so on down to a full matrix. Eliminating a pixel ties its four neighbours to each other. The two of these
    ties that fit neither the turned nor the half-size grid are dropped; ties are differences, so nothing else changes.

    Dropping a tie makes M smaller than A, so with the residual r, the error e and (.) the scalar product

        sum_p diagonal_p e_p^2 <= e.Ae = r.A^-1 r <= r.M^-1 r,

    and r.M^-1 r, which the iteration has at hand, is a bound. A system stops where this falls to tolerance^2 times
    what the iteration has found of x.Ax so far; the root of the ratio is the relative residual of the error message.

    On a CPU, a system of at most a million pixels that converges so slowly that it would need 200 more iterations is
    handed to SciPy's sparse direct solver, which takes about as long as that whatever the weights are.

    References
    ----------
    .. [1] C. W. Brand, Z. E. Heinemann, "A new iterative solution technique for reservoir simulation equations on
       locally refined grids", SPE Symposium on Reservoir Simulation, 1989. doi:10.2118/18410-MS
    .. [2] A. van der Ploeg, E. F. F. Botta, F. W. Wubs, "Nested grids ILU-decomposition (NGILU)", Journal of
       Computational and Applied Mathematics 66(1-2), 515-526, 1996

    Examples
    --------
    >>> right_side = torch.tensor([[[[1.0, 0.0]]]])
    >>> weight = torch.tensor([[[[2.0]]]])  # (1 + 2) x - 2 y = 1,  (1 + 2) y - 2 x = 0
    >>> solve(right_side, horizontal=weight, vertical=torch.zeros(1, 1, 0, 2)).flatten()
    tensor([0.6000, 0.4000])
    """
    weights = _checked(right_side, horizontal, vertical, diagonal)
    # a GPU wants all images in one piece, a CPU one at a time so that they stay in its cache
    on_cpu = right_side.device.type == "cpu"
    count = 1 if on_cpu else len(right_side)
    patience = DIRECT_COSTS if on_cpu and right_side[0, 0].numel() <= DIRECT_PIXELS else math.inf
    results = []
    for start in range(0, len(right_side), count):
        images = slice(start, start + count)
        across, down, own = part = [w if w.shape[0] == 1 else w[images] for w in weights]
        x, _, slow = _conjugate_gradients(right_side[images], across, down, own, tolerance, max_iterations, patience)
        if bool(slow.any()):
            _solve_directly(x, slow, right_side[images], *part)
        results.append(x)
    return torch.cat(results)


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
    return tuple(w.expand(*leading, *w.shape[2:]) for w in (horizontal, vertical, diagonal))


def _conjugate_gradients(
    right_side, horizontal, vertical, diagonal, tolerance: float, max_iterations: int, patience: float = math.inf
) -> tuple[torch.Tensor, int, torch.Tensor]:
    """Solve all systems together.

    Gives the solutions, the number of iterations, and bool (B, C): which systems were given up since they would have
    taken more than `patience` iterations from where they were.
    """
    precondition = _Factorization(horizontal, vertical, diagonal)
    x = torch.zeros_like(right_side)
    r = right_side.clone()
    direction = z = precondition(r)
    rz = _dot(r, z)
    energy = torch.zeros_like(rz)
    slow, reviewed = torch.zeros_like(rz, dtype=torch.bool), torch.full_like(rz, math.inf)
    for iteration in range(max_iterations + 1):
        active = ~(rz <= tolerance**2 * energy) & ~slow  # not a number counts as active
        if iteration and iteration % REVIEW == 0 and patience < math.inf:
            to_go = torch.log(rz / (tolerance**2 * energy))
            if iteration > REVIEW:
                per_iteration = (reviewed - to_go) / REVIEW
                slow |= active & ~((per_iteration > 0) & (to_go < patience * per_iteration))
                active &= ~slow
            reviewed = to_go
        if not bool(active.any()):
            return x, iteration, slow[..., 0, 0]
        if iteration == max_iterations:
            break
        image = _multiply(direction, horizontal, vertical, diagonal)
        step = torch.where(active, rz / _dot(direction, image), 0)
        x.addcmul_(step, direction)
        r.addcmul_(step, image, value=-1)
        energy += step * rz
        z = precondition(r)
        before, rz = rz, _dot(r, z)
        direction = torch.addcmul(z, torch.where(active, rz / before, 0), direction)
    residual = float((rz / energy)[active].sqrt().max())
    raise RuntimeError(
        f"no convergence: relative residual {residual:.2g} after {max_iterations} iterations, wanted {tolerance:.2g}: "
        "allow more iterations or a larger tolerance"
    )


def _solve_directly(x, chosen, right_side, horizontal, vertical, diagonal) -> None:
    """Write the solutions of the chosen systems, bool (B, C), into x: SciPy's sparse LU factorization in float64."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    height, width = x.shape[2:]
    index = np.arange(height * width).reshape(height, width)
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])

    def matrix(b: int, c: int):
        links = np.concatenate([w[b, c].double().numpy().ravel() for w in (horizontal, vertical)])
        ties = (np.tile(-links, 2), (np.concatenate([first, second]), np.concatenate([second, first])))
        off = sparse.csc_matrix(ties, shape=(index.size, index.size))
        return (off + sparse.diags(diagonal[b, c].double().numpy().ravel() - np.asarray(off.sum(1)).ravel())).tocsc()

    # systems with one matrix in common are solved together, different ones at the same time
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for b, c in chosen.nonzero().tolist():
        groups.setdefault((b % horizontal.shape[0], c % horizontal.shape[1]), []).append((b, c))

    def run(item) -> None:
        (b, c), systems = item
        options = {"SymmetricMode": True}  # no pivoting: the matrix is positive definite
        factors = splu(matrix(b, c), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        sides = np.stack([right_side[system].double().numpy().ravel() for system in systems], axis=1)
        for system, solution in zip(systems, factors.solve(sides).T, strict=True):
            x[system] = torch.from_numpy(solution.reshape(height, width))

    with ThreadPoolExecutor(min(len(groups), torch.get_num_threads())) as pool:
        list(pool.map(run, groups.items()))
    if not bool(torch.isfinite(x).all()):
        raise RuntimeError("no convergence: the direct solution is not finite: check the weights and the right side")


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _multiply(x, horizontal, vertical, diagonal) -> torch.Tensor:
    """The matrix times x, by flows between neighbours: large weights then do not drown the diagonal in rounding."""
    y = diagonal * x
    flow = (x[..., 1:] - x[..., :-1]).mul_(horizontal)
    y[..., :-1] -= flow
    y[..., 1:] += flow
    flow = (x[..., 1:, :] - x[..., :-1, :]).mul_(vertical)
    y[..., :-1, :] -= flow
    y[..., 1:, :] += flow
    return y


class _Factorization:
    """The incomplete factorization; called with a right side, gives its approximate solution."""

    def __init__(self, horizontal, vertical, diagonal):
        horizontal, vertical = pad(horizontal, (0, 1)), pad(vertical, (0, 0, 0, 1))  # all of one size (B, C, H, W)
        self.levels = []
        while diagonal.shape[2] * diagonal.shape[3] > DENSE:
            level, horizontal, vertical, diagonal = _halve(horizontal, vertical, diagonal)
            self.levels.append(level)
        self.inverse = _full_inverse(horizontal, vertical, diagonal)

    def __call__(self, r: torch.Tensor) -> torch.Tensor:
        done = []
        for level in self.levels:
            parts = _split(r)
            for name, (_, shares) in level.items():  # hand on the right sides of what is eliminated
                for (other, *shift), share in zip(NEIGHBOURS[name], shares, strict=True):
                    here, there = _overlap(*shift)
                    parts[other][there].addcmul_(share[here], parts[name][here])
            done.append((r.shape, parts))
            r = parts["ee"]
        x = (self.inverse @ r.flatten(2).unsqueeze(-1)).view(r.shape)
        for level, (shape, parts) in zip(reversed(self.levels), reversed(done), strict=True):
            parts["ee"] = x
            for name, (scale, shares) in reversed(level.items()):  # and bring back the solution
                parts[name].mul_(scale)
                for (other, *shift), share in zip(NEIGHBOURS[name], shares, strict=True):
                    here, there = _overlap(*shift)
                    parts[name][here].addcmul_(share[here], parts[other][there])
            x = _join(parts, shape)
        return x


def _halve(horizontal, vertical, diagonal):
    """Eliminate all but every other row and column.

    Gives, by part, the factor 1 / total weight and the shares weight / total weight of the four neighbours; and the
    weights and the diagonal of the half-size grid.
    """
    right, down, excess = _split(horizontal), _split(vertical), _split(diagonal)
    weights = {
        "eo": (right["ee"], right["eo"], down["eo"], _move(down["oo"], -1, 0)),
        "oe": (down["ee"], down["oe"], right["oe"], _move(right["oo"], 0, -1)),
    }
    level = {}

    def eliminate(name: str) -> list[torch.Tensor]:
        total = excess[name] + sum(weights[name])
        scale = torch.where(total > 0, 1 / total, 0)  # 0 for pixels that only fill up an odd size
        shares = [w * scale for w in weights[name]]
        level[name] = scale, shares
        for (other, y, x), share in zip(NEIGHBOURS[name], shares, strict=True):
            excess[other] += _move(share * excess[name], -y, -x)
        return shares

    # eliminating a pixel with weights a, b, ... and shares a', b', ... ties its neighbours by a b' = a' b
    (w1, _, s1, n1), (w1_, e1_, _, _) = weights["eo"], eliminate("eo")
    (n2, _, e2, w2), (n2_, s2_, _, _) = weights["oe"], eliminate("oe")
    weights["oo"] = (
        s1 * w1_ + e2 * n2_,
        s1 * e1_ + _move(w2 * n2_, 0, 1),
        e2 * s2_ + _move(n1 * w1_, 1, 0),
        _move(w2 * s2_, 0, 1) + _move(n1 * e1_, 1, 0),
    )
    _, ne, sw, _ = weights["oo"]
    nw_, _, _, se_ = eliminate("oo")
    horizontal = w1 * e1_ + ne * nw_ + _move(sw * se_, -1, 0)
    vertical = n2 * s2_ + sw * nw_ + _move(ne * se_, 0, -1)
    return level, horizontal, vertical, excess["ee"]


def _full_inverse(horizontal, vertical, diagonal) -> torch.Tensor:
    """Inverse (B, C, n, n) of the whole matrix, n = H W."""
    matrix = torch.diag_embed(diagonal.flatten(2)).double()
    index = torch.arange(matrix.shape[-1], device=matrix.device)
    for values, step in ((horizontal, 1), (vertical, diagonal.shape[3])):
        weight = values.flatten(2)[..., :-step].double()
        a, b = index[:-step], index[step:]
        for i, j, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            matrix[..., i, j] += sign * weight
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix)).to(diagonal.dtype)


def _split(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The four parts of a grid, all of one size; an odd size is filled up with zeros."""
    x = pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return {
        row + column: x[..., i::2, j::2].clone(memory_format=torch.contiguous_format)
        for i, row in enumerate("eo")
        for j, column in enumerate("eo")
    }


def _join(parts: dict[str, torch.Tensor], shape: torch.Size) -> torch.Tensor:
    height, width = shape[2:]
    x = parts["ee"].new_empty(*shape[:2], height + height % 2, width + width % 2)
    for name, values in parts.items():
        row, column = name[0], name[1]
        x[..., "eo".index(row) :: 2, "eo".index(column) :: 2] = values
    return x[..., :height, :width]


def _overlap(down: int, right: int):
    """Indices of the points whose neighbour at this offset exists, and of those neighbours."""
    here, there = slice(None, -1), slice(1, None)
    rows, columns = (((slice(None),) * 2, (here, there), (there, here))[step] for step in (down, right))
    return (..., rows[0], columns[0]), (..., rows[1], columns[1])


def _move(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """x at the given offset from every point, zero where that lies outside."""
    here, there = _overlap(down, right)
    moved = torch.zeros_like(x)
    moved[here] = x[there]
    return moved
