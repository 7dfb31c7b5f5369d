"""One picture's intensities turned into another's."""

import numpy as np
import torch

from dpo_lib.histograms import cumulative_shares, interpolate, look_up, match_intensities


def test_shares_are_those_of_sorting():
    gray = torch.rand(2, 1, 30, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = cumulative_shares(gray)
    assert (shares.diff(dim=1) >= 0).all() and (shares[:, 0] == 0).all() and (shares[:, -1] == 1).all()
    edges = np.linspace(-1, 2, shares.shape[1])
    for one, share in zip(gray.numpy(), shares.numpy(), strict=True):
        exact = np.searchsorted(np.sort(one.ravel()), edges) / one.size
        assert np.abs(share - exact).max() < 0.01


def test_the_result_has_the_models_distribution():
    gray = torch.rand(1, 1, 60, 71, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 2
    values = torch.linspace(0, 1, 11, dtype=torch.float64)
    matched = match_intensities(gray, values, values**3)  # the model: a share of v^3 of its pixels lies below v
    quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    expected = np.interp(quantiles, values**3, values)
    assert np.abs(matched.flatten().quantile(quantiles).numpy() - expected).max() < 0.01
    order = gray.flatten().argsort()
    assert (matched.flatten()[order].diff() >= -1e-9).all()


def test_tables_and_piecewise_lines_agree_with_numpy():
    table = torch.rand(2, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    position = torch.linspace(-1, 10, 24, dtype=torch.float64).view(1, 1, 4, 6).repeat(2, 1, 1, 1)
    found = look_up(table, position.clone())
    for row, at, got in zip(table, position, found, strict=True):
        assert np.allclose(got.flatten(), np.interp(at.flatten(), np.arange(9), row))
    knots, values = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([5.0, 7.0, -1.0])
    x = torch.linspace(-1, 4, 11)
    assert np.allclose(interpolate(x, knots, values), np.interp(x, knots, values))
