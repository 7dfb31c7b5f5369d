"""Large pictures through a pyramid in little memory: the finest levels in tiles, the coarser ones whole.

Only networks whose kernels are standardised: with instance normalisation every pixel depends on the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from ..images import extended
from .base_network import BaseNetwork, with_ranks
from .layers import Convolution

TILE_PX = 1024  # side of a tile
HUGE = 6_000_000  # pixels from which two levels run in tiles


class Box(NamedTuple):
    """A rectangle of rows and columns; the ends do not belong to it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def window(self) -> tuple:
        """For indexing (..., H, W)."""
        return (..., slice(self.top, self.bottom), slice(self.left, self.right))

    def within(self, other: Box) -> Box:
        """The same rectangle, seen from the other's top left."""
        return Box(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)

    def shrunk(self, factor: int) -> Box:
        """On a coarser level, rounded up at the picture's lower and right border."""
        return Box(self.top // factor, -(-self.bottom // factor), self.left // factor, -(-self.right // factor))


def run(network: BaseNetwork, image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """``network(image, weights)``, in tiles where the pictures are large and the network can.

    Not while gradients are wanted, which need all activations, and not in an exported program, which is one pass.
    """
    height, width = image.shape[2:]
    if torch.compiler.is_exporting() or torch.jit.is_tracing() or height * width <= 2 * TILE_PX**2:
        return network(image, weights)
    learning = image.requires_grad or any(weight.requires_grad for weight in weights.values())
    if network.normalisation != "kernel" or network.step == 2 or (learning and torch.is_grad_enabled()):
        return network(image, weights)
    if network.equalised and image.shape[1] == 3:  # ranks in the whole picture
        image = with_ranks(image)
    if margin := network.margin:  # a tile's own border is not the image's
        larger = extended(image, network.border, before=margin, after=(margin, margin))
        return run(network.sharing(margin=0), larger, weights)[..., margin:-margin, margin:-margin]
    alone = network.one_by_one(image, weights, None)
    return torch.cat([run_in_tiles(network, one, own) for one, own, _ in alone])


def run_in_tiles(
    network: BaseNetwork,
    image: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    *,
    tile_px: int = TILE_PX,
    levels: int | None = None,
) -> torch.Tensor:
    """The network's answer to one image, equal to that of one pass up to rounding.

    Parameters
    ----------
    network : BaseNetwork
        A pyramid with standardised kernels.
    image : tensor (1, 3, H, W)
    weights : mapping
        See `BaseNetwork.forward`; without a batch axis.
    tile_px : int
        Side of the tiles, a multiple of ``network.step``.
    levels : int, optional
        How many of the finest levels run in tiles, at least one less than there are. Memory grows with the square of
        the tiles, and with the picture divided by 4 to the power of `levels` + 1. Default: one, two for huge pictures.

    Returns
    -------
    tensor (1, 3, H, W)

    Notes
    -----
    The layers before the next level run on tiles with a margin of their reach; what they give is put together, and
    the coarser levels run on all of it. Then the layers after these run on tiles again, with the skip connections of
    the finest levels computed anew instead of kept.
    """
    layers, step = network.convolutions, network.step
    downs = [index for index, layer in enumerate(layers) if layer.stride == 2]
    ups = [index for index, layer in enumerate(layers) if layer.joins]
    height, width = image.shape[2:]
    levels = levels or (2 if height * width > HUGE and len(downs) > 1 else 1)
    down, up, factor = downs[levels - 1], ups[-levels], 2 * 2**levels
    # the padded picture's last rows and columns belong to the tiles at the border
    padded = Box(0, -(-height // step) * step, 0, -(-width // step) * step)
    before, after = _reach(layers[:down], 2), _reach(layers[up:], factor)
    coarse = None
    for core, outer in _tiles(padded, tile_px, before, step):
        part = network.advance(network.begin(image[outer.window]), weights, until=down + 1).x
        if coarse is None:
            size = (1, part.shape[1], padded.bottom // factor, padded.right // factor)
            coarse = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        coarse[core.shrunk(factor).window] = part[core.within(outer).shrunk(factor).window]
    assert coarse is not None  # there is a tile at least
    coarse = network.advance(network.features(coarse, layer=down + 1), weights, until=up).x
    result = torch.empty_like(image[:, :3])
    for core, outer in _tiles(padded, tile_px, before + after, step):
        shown = image[outer.window]
        fine = network.advance(network.begin(shown), weights, until=down)
        joined = network.features(coarse[outer.shrunk(factor).window], layer=up, saved=fine.saved)
        answer = network.finish(shown, network.advance(joined, weights))
        result[core.window] = answer[core.within(outer).window]
    return result


def _tiles(padded: Box, tile_px: int, reach: int, step: int) -> Iterator[tuple[Box, Box]]:
    """Tiles that cover the picture, and the same with a margin of at least `reach`."""
    margin = -(-reach // step) * step

    def spans(side: int) -> list[tuple[int, int, int, int]]:
        starts = range(0, side, tile_px)
        return [(a, min(a + tile_px, side), max(a - margin, 0), min(a + tile_px + margin, side)) for a in starts]

    for top, bottom, outer_top, outer_bottom in spans(padded.bottom):
        for left, right, outer_left, outer_right in spans(padded.right):
            yield Box(top, bottom, left, right), Box(outer_top, outer_bottom, outer_left, outer_right)


def _reach(layers: Sequence[Convolution], pixel: int) -> int:
    """Pixels on each side that an answer depends on; `pixel` of the picture are one where the layers begin."""
    reach = 0
    for layer in layers:
        reach += layer.margin * pixel
        pixel = pixel * layer.stride // (2 if layer.shuffles else 1)
    return reach
