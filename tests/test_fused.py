"""The fused step against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from dpo_lib.models.fused import activate_and_convolve, working_room


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(16, 17), (40, 23), (301, 130)])
def test_activation_and_convolution_against_torch(size, kernel):
    x, weight = torch.randn(2, 32, *size), torch.randn(3, 32, kernel, kernel) / 17
    scale, shift = torch.randn(2, 32), torch.randn(2, 32)
    expected = F.conv2d(torch.relu(x * scale[..., None, None] + shift[..., None, None]), weight, padding=kernel // 2)
    kept = x.clone()
    assert torch.allclose(activate_and_convolve(x, weight, scale=scale, shift=shift), expected, atol=1e-5)
    assert torch.equal(x, kept)
    one = activate_and_convolve(x, weight, scale=scale[0], shift=shift[0])
    assert torch.allclose(one[0], expected[0], atol=1e-5)


def test_activation_and_convolution_by_any_scale():
    """Positive, negative, tiny and zero scales; zero shifts; several strips; against a plain convolution in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 37, 29, generator=generator)
    scale, shift = torch.randn(2, 2, 6, generator=generator)
    scale[0, :3], shift[0, 3] = torch.tensor([0.0, 1e-42, -1e-30]), 0
    weight = torch.randn(3, 6, 3, 3, generator=generator)
    for signs in (scale, scale.abs()):
        active = (x.double() * signs[..., None, None] + shift[..., None, None]).relu()
        expected = torch.conv2d(active, weight.double(), padding=1)
        for layout in (torch.contiguous_format, torch.channels_last):
            for rows in (37, 5):
                room = working_room(x, weight)
                room = [room[0][: rows * 29], room[1][: rows * 29], room[2][:, : rows * 29]]
                given = x.contiguous(memory_format=layout)
                found = activate_and_convolve(given, weight, scale=signs, shift=shift, room=room)
                assert torch.allclose(found.double(), expected, atol=1e-5)
