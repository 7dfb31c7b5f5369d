"""Tiles: the same answer as in one pass, in less memory."""

import pytest
import torch

from dpo_lib.models import NetworkConfig, tiles
from dpo_lib.models.base_network import with_ranks
from dpo_lib.models.tiles import run_in_tiles


def pyramid(widths=(4, 5, 6), **settings):
    torch.manual_seed(0)
    base = NetworkConfig(base="pyramid", widths=widths, **settings).base_network().double().requires_grad_(False)
    weights = {layer.name: torch.randn(layer.weight_shape, dtype=torch.float64) for layer in base.convolutions}
    base.shift.normal_()
    return base, weights


@pytest.mark.parametrize("size", [(96, 160), (83, 141), (64, 33)])
@pytest.mark.parametrize("settings", [
    {}, {"tail": 7, "output": "gate"}, {"padding": "zeros"}, {"widths": (4, 6)},
    {"equalised": True, "output": "gain", "tail": 7, "last_kernel": 1},
])  # fmt: skip
@pytest.mark.parametrize("levels", [1, 2])
def test_tiles_give_the_answer_of_one_pass(size, settings, levels):
    base, weights = pyramid(**settings)
    levels = min(levels, sum(layer.joins for layer in base.convolutions))
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    whole = base(image, weights)
    image = with_ranks(image) if base.equalised else image
    assert torch.allclose(run_in_tiles(base, image, weights, tile_px=32, levels=levels), whole, atol=1e-10)


@pytest.mark.parametrize("equalised", [False, True])
def test_large_pictures_go_in_tiles(monkeypatch, equalised):
    base, weights = pyramid(equalised=equalised)
    images = torch.rand(2, 3, 72, 90, dtype=torch.float64)
    whole, calls = base(images, weights), []

    def counted(*arguments):
        calls.append(arguments)
        return run_in_tiles(*arguments, tile_px=32)

    monkeypatch.setattr(tiles, "run_in_tiles", counted)
    assert torch.equal(tiles.run(base, images, weights), whole) and not calls
    monkeypatch.setattr(tiles, "TILE_PX", 40)
    assert torch.allclose(tiles.run(base, images, weights), whole, atol=1e-10) and len(calls) == 2
    learning = images.clone().requires_grad_()
    tiles.run(base, learning, weights).sum().backward()
    assert len(calls) == 2 and learning.grad is not None


def test_without_margins_seams_show(monkeypatch):
    base, weights = pyramid()
    image = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    monkeypatch.setattr("dpo_lib.models.tiles._reach", lambda layers, pixel: 0)
    assert (run_in_tiles(base, image, weights, tile_px=32) - base(image, weights)).abs().max() > 1e-3


@pytest.mark.parametrize(("border", "margin"), [("wrap", 16), ("symmetric", 16), ("symmetric", 0)])
def test_tiles_of_pictures_that_go_on(monkeypatch, border, margin):
    base, weights = pyramid(border=border, margin=margin)
    image = torch.rand(1, 3, 71, 90, dtype=torch.float64)
    whole = base(image, weights)
    monkeypatch.setattr(tiles, "TILE_PX", 32)
    assert torch.allclose(tiles.run(base, image, weights), whole, atol=1e-10)
