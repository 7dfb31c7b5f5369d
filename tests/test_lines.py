"""A line as a kernel."""

import numpy as np
import pytest

from dpo_lib.operators.shared.lines import line_kernel


def test_line_kernel_is_a_line_of_its_length():
    for length, angle in ((21.0, 0.0), (21.0, 30.0), (15.0, -45.0), (1.0, 10.0)):
        kernel = line_kernel(length, angle).double().numpy()
        radius = kernel.shape[0] // 2
        assert kernel.shape[0] == kernel.shape[1] == 2 * radius + 1
        assert kernel.max() == pytest.approx(1, abs=1e-6)
        assert np.allclose(kernel, kernel[::-1, ::-1])
        # a line 2 px thick with a triangle's profile has the area of its length, and a cone's at both ends
        assert kernel.sum() == pytest.approx(length - 1 + np.pi / 3, rel=0.15)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        if length > 1:
            across = x * np.cos(np.radians(angle)) - y * np.sin(np.radians(angle))
            along = x * np.sin(np.radians(angle)) + y * np.cos(np.radians(angle))
            assert (kernel * across**2).sum() / kernel.sum() < 0.3
            assert (kernel * along**2).sum() / kernel.sum() == pytest.approx(length**2 / 12, rel=0.1)
        assert max(kernel[0].max(), kernel[-1].max(), kernel[:, 0].max(), kernel[:, -1].max()) == 0  # nothing is cut
