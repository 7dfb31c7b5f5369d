"""The operators: one file each, one table of all. A new operator is one new file and one line here."""

from . import l0
from .operator import Operator, Parameter

OPERATORS: dict[str, Operator] = {
    "l0": l0.OPERATOR,
}

__all__ = ["OPERATORS", "Operator", "Parameter"]
