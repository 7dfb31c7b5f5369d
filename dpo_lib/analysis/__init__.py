"""What trained networks do: their effective receptive fields, the kernels that they generate, what they recover."""

from .recovery import Recovered, recover

__all__ = ["Recovered", "recover"]
