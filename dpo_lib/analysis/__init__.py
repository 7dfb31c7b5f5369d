"""What trained networks do: their effective receptive fields, and the kernels that they generate."""
