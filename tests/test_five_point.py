"""The five-point solver against SciPy's direct one, and what it refuses."""

import numpy as np
import pytest
import skimage
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dpo_lib.operators.shared import five_point
from dpo_lib.operators.shared.five_point import solve


def system(batch, channels, height, width, *, spread=6.0, seed=0):
    """Right side, weights spread over so many powers of ten, and a diagonal, all in float64."""
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64)

    weights = {
        "horizontal": 10 ** (spread * random(height, width - 1) - spread / 2),
        "vertical": 10 ** (spread * random(height - 1, width) - spread / 2),
        "diagonal": 0.1 + random(height, width),
    }
    return random(height, width), weights


def direct(right_side, horizontal, vertical, diagonal):
    """One system, NumPy arrays, by incidence matrices and a sparse LU factorization."""
    height, width = right_side.shape
    columns = sparse.diags([-1.0, 1.0], [0, 1], shape=(width - 1, width))
    rows = sparse.diags([-1.0, 1.0], [0, 1], shape=(height - 1, height))
    across = sparse.kron(sparse.eye(height), columns)
    down = sparse.kron(rows, sparse.eye(width))
    matrix = sparse.diags(np.broadcast_to(diagonal, right_side.shape).ravel())
    matrix = matrix + across.T @ sparse.diags(horizontal.ravel()) @ across
    matrix = matrix + down.T @ sparse.diags(vertical.ravel()) @ down
    return spsolve(matrix.tocsc(), right_side.ravel()).reshape(height, width)


def all_direct(right_side, weights):
    size = right_side.shape[:2]
    weights = {k: torch.as_tensor(w).expand(*size, *w.shape[2:]).numpy() for k, w in weights.items()}
    result = np.empty(right_side.shape)
    for index in np.ndindex(*size):
        result[index] = direct(right_side.numpy()[index], **{k: w[index] for k, w in weights.items()})
    return torch.from_numpy(result)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 9), (9, 1), (23, 22), (37, 52), (64, 81), (3, 400), (301, 5)])
def test_agrees_with_a_direct_solver(size):
    right_side, weights = system(2, 2, *size)
    solution = solve(right_side, **weights, tolerance=1e-10)
    assert (solution - all_direct(right_side, weights)).abs().max() < 1e-8


@pytest.mark.parametrize(("height", "width"), [(45, 62), (62, 45)])
def test_default_tolerance_and_single_precision(height, width):
    right_side, weights = system(1, 3, height, width, spread=9)  # weights up to 3e4
    weights["diagonal"] = torch.ones(1, 1, height, width, dtype=torch.float64)
    expected = all_direct(right_side, weights)
    assert (solve(right_side, **weights) - expected).abs().max() < 1e-5
    single = solve(right_side.float(), **{k: w.float() for k, w in weights.items()})
    assert single.dtype == torch.float32
    assert (single - expected).abs().max() < 2e-5


def test_the_energy_of_the_error_is_below_the_tolerance():
    right_side, weights = system(1, 2, 61, 50, spread=9)
    expected = all_direct(right_side, weights)
    energy = (right_side * expected).sum((2, 3))
    for tolerance in (1e-2, 1e-4, 1e-6):
        error = solve(right_side, **weights, tolerance=tolerance) - expected
        assert ((weights["diagonal"] * error.square()).sum((2, 3)) < tolerance**2 * energy).all()


def test_weights_are_shared_over_images_and_channels():
    right_side, weights = system(2, 3, 30, 41)
    for part in (lambda w: w[:1], lambda w: w[:, :1], lambda w: w[:1, :1]):
        shared = {k: part(w) for k, w in weights.items()}
        assert (solve(right_side, **shared, tolerance=1e-10) - all_direct(right_side, shared)).abs().max() < 1e-8
    mixed = {**weights, "horizontal": torch.full((1, 1, 30, 40), 0.2).double(), "vertical": weights["vertical"][:, :1]}
    assert (solve(right_side, **mixed, tolerance=1e-10) - all_direct(right_side, mixed)).abs().max() < 1e-8


def test_each_system_stops_by_itself():
    right_side, weights = system(3, 2, 30, 41)
    weights["horizontal"][1] *= 1e-6
    weights["vertical"][1] *= 1e-6
    together = solve(right_side, **weights, tolerance=1e-2)  # coarse, so that another iteration would show
    for i, j in np.ndindex(3, 2):
        one = (slice(i, i + 1), slice(j, j + 1))
        alone = solve(right_side[one], **{k: w[one] for k, w in weights.items()}, tolerance=1e-2)
        assert torch.allclose(together[one], alone, atol=1e-9, rtol=0)


def grids(horizontal, vertical, diagonal):
    return five_point._Multigrid(*(w[0, 0].numpy() for w in (horizontal, vertical, diagonal)))


def units(height, width):
    return np.pad(np.eye(height * width).reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)))


def matrix(weights, diagonal):
    """The full matrix of a system on a grid with a border."""
    height, width = (n - 2 for n in diagonal.shape)
    images = np.zeros((height * width, *diagonal.shape))
    for unit, image in zip(units(height, width), images, strict=True):
        five_point._multiply(unit, weights, diagonal, image)
    return images[:, 1:-1, 1:-1].reshape(height * width, -1)


def test_preconditioner_is_symmetric_positive_and_smaller_than_the_inverse():
    _, weights = system(1, 1, 26, 25)
    levels = grids(**weights)
    assert len(levels.levels) > 1
    work = levels.work()
    inverse = np.stack([levels.cycle(unit, work)[1:-1, 1:-1].flatten() for unit in units(26, 25)])
    assert np.allclose(inverse, inverse.T, atol=1e-12)
    eigenvalues = np.linalg.eigvals(inverse @ matrix(*levels.levels[0][:2])).real
    assert eigenvalues.max() < 1 + 1e-9 and 0.02 < eigenvalues.min() < 0.9


def test_coarser_systems_are_those_of_the_interpolation():
    """P' A P, with A and P as full matrices; P repeats a coarser point and makes a mean of its neighbours."""
    _, weights = system(1, 1, 19, 22, spread=3)
    (fine, diagonal, *_), (coarse, coarse_diagonal, *_) = grids(**weights).levels[:2]
    shares = five_point._interpolation(fine, diagonal)
    interpolation = np.zeros((12, 13, *diagonal.shape))
    for i, j in np.ndindex(20, 23):
        for k, (down, right) in enumerate(np.ndindex(2, 2)):
            interpolation[(i + 1) // 2 + down, (j + 1) // 2 + right, i, j] += shares[k, i, j]
    interpolation = interpolation[1:11, 1:12, 1:-1, 1:-1].reshape(110, 19, 22)
    assert np.array_equal(interpolation[:, ::2, ::2].reshape(110, 110), np.eye(110))
    assert interpolation.min() >= 0 and interpolation.sum(0).max() < 1 + 1e-12
    interpolation = interpolation.reshape(110, -1)
    product = interpolation @ matrix(fine, diagonal) @ interpolation.T
    assert np.allclose(matrix(coarse, coarse_diagonal), product, rtol=1e-9, atol=1e-9)


def test_is_exact_without_a_grid_to_coarsen_and_for_chains():
    right_side, weights = system(1, 1, 12, 16)  # fewer unknowns than the full matrix takes
    assert solve(right_side, **weights, max_iterations=2).isfinite().all()
    right_side, weights = system(1, 1, 1, 3000)  # a chain is a line, solved exactly
    assert solve(right_side, **weights, max_iterations=2).isfinite().all()


def iterations(right_side, weights, tolerance=3e-7):
    return five_point._conjugate_gradients(grids(**weights), right_side[0, 0].numpy(), tolerance, 1000)[1]


@pytest.mark.parametrize("scale", [1, 2])
def test_iterations_stay_few(scale):
    height, width = 120 * scale, 161 * scale
    right_side, weights = system(1, 1, height, width, spread=0)
    weights["diagonal"] = torch.full((1, 1, height, width), 1e-3, dtype=torch.float64)
    assert iterations(right_side, weights) < 8


def test_iterations_hardly_grow_with_the_weights():
    """WLS on a photograph, its weights from 10 to 1e5."""
    image = torch.from_numpy(skimage.data.camera()[::2, ::2] / 255)[None, None]
    differences = [(image + 1e-4).log().diff(dim=dim).abs() ** 1.2 + 1e-4 for dim in (3, 2)]
    counts = {}
    for strength in (0.1, 1, 10):
        horizontal, vertical = (strength / d for d in differences)
        weights = {"horizontal": horizontal, "vertical": vertical, "diagonal": torch.ones_like(image)}
        counts[strength] = iterations(image, weights)
    assert max(counts.values()) < 75 and counts[10] < 1.6 * counts[0.1]


def test_weights_that_differ_at_random():
    """Nearly black noise under WLS: weights of neighbours are 1e5 or 1, in no order that a grid could follow."""
    height, width = 80, 101
    level = (torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0)) < 0.4).double() / 255
    horizontal, vertical = (10 / ((level + 1e-4).log().diff(dim=dim).abs() ** 1.2 + 1e-4) for dim in (3, 2))
    weights = {"horizontal": horizontal, "vertical": vertical, "diagonal": torch.ones_like(level)}
    assert (solve(level, **weights) - all_direct(level, weights)).abs().max() < 1e-7
    single = solve(level.float(), **{k: w.float() for k, w in weights.items()})
    assert (single - all_direct(level, weights)).abs().max() < 1e-7


def test_constant_right_side_and_nothing_to_solve():
    right_side, weights = system(1, 2, 30, 37)
    weights["diagonal"] = 2.0
    constant = torch.full_like(right_side, 0.6)
    assert torch.allclose(solve(constant, **weights), constant / 2, atol=1e-9)
    assert solve(torch.zeros_like(right_side), **weights).abs().max() == 0
    kept = right_side.clone()
    zero = {"horizontal": torch.zeros(1, 1, 30, 36).double(), "vertical": torch.zeros(1, 1, 29, 37).double()}
    assert torch.allclose(solve(right_side, **zero, diagonal=4.0), right_side / 4)
    assert torch.equal(right_side, kept)


def test_diagonal_may_vanish_at_many_pixels():
    right_side, weights = system(1, 1, 40, 33, spread=1)
    weights["diagonal"][..., 5:, :] = 0
    right_side[..., 5:, :] = 0
    solution = solve(right_side, **weights, tolerance=1e-9)
    assert (solution - all_direct(right_side, weights)).abs().max() < 1e-6


def test_no_convergence_is_an_error():
    right_side, weights = system(1, 2, 40, 51)
    with pytest.raises(RuntimeError, match=r"relative error \S+ after 3 iterations, wanted 1e-06: allow more"):
        solve(right_side, **weights, tolerance=1e-6, max_iterations=3)
    right_side[0, 0, 2, 3] = float("nan")
    with pytest.raises(RuntimeError, match="relative error nan after 1 iterations"):
        solve(right_side, **weights, max_iterations=5)


def test_bad_systems():
    right_side, weights = system(2, 3, 8, 9)
    with pytest.raises(ValueError, match=r"horizontal must have shape \(2, 3, 8, 8\), B and C may be 1, got"):
        solve(right_side, **{**weights, "horizontal": weights["vertical"]})
    with pytest.raises(ValueError, match=r"vertical must be >= 0 everywhere, got -0.5"):
        solve(right_side, **{**weights, "vertical": torch.full((1, 1, 7, 9), -0.5)})
    with pytest.raises(ValueError, match=r"diagonal must be >= 0 everywhere, got nan"):
        solve(right_side, **{**weights, "diagonal": weights["diagonal"] * float("nan")})
    for zero in (0.0, torch.zeros(1, 3, 8, 9)):
        with pytest.raises(ValueError, match="diagonal must be positive somewhere"):
            solve(right_side, **{**weights, "diagonal": zero})


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    right_side, weights = system(3, 2, 45, 62)
    there = solve(right_side.cuda(), **{k: w.cuda() for k, w in weights.items()}, tolerance=1e-9)
    assert torch.allclose(there.cpu(), solve(right_side, **weights, tolerance=1e-9), atol=1e-7)
