"""Sliders for notebooks: `explore` an operator or a network, `compare` them in one call without sliders."""

from .board import Board, explore
from .explorer import compare, encode
from .parts import parameter_slider

__all__ = ["Board", "compare", "encode", "explore", "parameter_slider"]
