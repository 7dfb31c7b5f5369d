"""Generators that depend on their numbers alone."""

import torch

from dpo_lib.randomness import seeded


def test_each_list_of_numbers_has_its_own_sequence():
    lists = [(0, 0), (0, 1), (1, 0), (1, 1), (2**40, 3)]
    drawn = [torch.rand(4, generator=seeded(*numbers)) for numbers in lists]
    assert all(torch.equal(torch.rand(4, generator=seeded(*n)), d) for n, d in zip(lists, drawn, strict=True))
    assert len({tuple(d.tolist()) for d in drawn}) == len(lists)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    torch.rand(2, generator=seeded(1))
    assert torch.equal(before, torch.get_rng_state())
