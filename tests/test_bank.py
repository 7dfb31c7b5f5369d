"""The target bank: exact pairs, drawn evenly."""

import torch
from tiny_runs import GAIN, THREE, pictures

from dpo_lib.images import shrink_image, to_tensor
from dpo_lib.operators import OPERATORS
from dpo_lib.randomness import seeded
from dpo_lib.training.bank import TargetBank


def test_joint_bank_gives_each_operator_its_part_of_every_image():
    bank = TargetBank(THREE, pictures(4), entries_per_image=3, crop=20, progress=False)
    bank.fill()
    names = [entry.operator for entry in bank.entries]
    assert sorted(names) == sorted(["gain", "half", "noise"] * 4)
    single = TargetBank(THREE, pictures(4), entries_per_image=1, crop=20, progress=False)
    single.fill()
    seen = [set() for _ in range(4)]
    for _ in range(3):  # an entry's next version is the next operator's
        for index, entry in enumerate(single.entries):
            seen[index].add(entry.operator)
            assert len(entry.value) == {"gain": 1, "half": 0, "noise": 2}[entry.operator]
        single.advance(single.replaced + 4)
    assert all(len(one) == 3 for one in seen)
    batch = bank.batch(40, seeded(3))
    assert batch.value.shape == (40, 2) and set(batch.operators) == {"gain", "half", "noise"}
    for name, row, shown, target in zip(batch.operators, batch.value, batch.input, batch.target, strict=True):
        columns = {"gain": 1, "half": 0, "noise": 2}[name]
        assert bool((row[:columns] != 0).all()) and not bool(row[columns:].any())
        if name != "noise":
            factor = 0.5 if name == "half" else float(row[0])
            assert (shown * factor - target).abs().max() < 5e-3
        else:
            assert 0.3 * row[0] < (shown - target).std() < 1.7 * row[0]


def test_a_small_bank_shows_every_image_in_turn():
    bank = TargetBank(THREE, pictures(4), entries_per_image=3, size=3, crop=20, progress=False)
    bank.fill()
    shown, operators = [], []
    for round_ in range(16):
        bank.advance(3 * round_)
        places = [bank._place(index, round_) % 4 for index in range(3)]
        shown += places
        operators += [entry.operator for entry in bank.entries]
        for place, entry in zip(places, bank.entries, strict=True):
            picture = torch.from_numpy(pictures(4)[place]).sum()  # whichever way it was turned
            assert entry.operator == "noise" or int(entry.input.sum(dtype=torch.int64)) == int(picture)
    pairs = {(image, operator): 0 for image in range(4) for operator in ("gain", "half", "noise")}
    for pair in zip(shown, operators, strict=True):
        pairs[pair] += 1
    assert set(pairs.values()) == {4}  # 48 versions, 12 pairs
    later = TargetBank(THREE, pictures(4), size=3, crop=20, progress=False)
    later.fill(bank.replaced)
    assert all(torch.equal(a.target, b.target) for a, b in zip(bank.entries, later.entries, strict=True))


def test_bank_holds_exact_pairs_and_replaces_the_oldest():
    bank = TargetBank(OPERATORS["l0"], pictures(), entries_per_image=2, shrink=0.5, crop=20, seed=3, progress=False)
    bank.fill()
    for entry in bank.entries:
        image = entry.input[None].float() / 255
        expected = OPERATORS["l0"](image, entry.value[None])
        assert entry.target.dtype == torch.uint8
        assert (entry.target.float() / 255 - expected.clamp(0, 1)[0]).abs().mean() < 5e-3
    kept = list(bank.entries)
    bank.advance(2)
    assert [a is b for a, b in zip(kept, bank.entries, strict=True)] == [False, False, True, True, True, True]
    again = TargetBank(OPERATORS["l0"], pictures(), entries_per_image=2, shrink=0.5, crop=20, seed=3, progress=False)
    again.fill(replaced=2)
    assert all(torch.equal(a.target, b.target) for a, b in zip(bank.entries, again.entries, strict=True))
    inputs, targets, values, names = bank.batch(5, seeded(1))
    assert inputs.shape == targets.shape == (5, 3, 20, 20) and values.shape == (5, 1) and names == ["l0"] * 5


def test_bank_covers_the_range():
    bank = TargetBank(GAIN, pictures(), entries_per_image=40, crop=20, progress=False)
    bank.fill()
    values = torch.stack([entry.value for entry in bank.entries])
    assert values.min() < 0.25 and values.max() > 0.85 and values.min() >= 0.2 and values.max() <= 0.9
    shapes = {tuple(entry.input.shape) for entry in bank.entries}
    assert shapes == {(3, 66, 80), (3, 80, 66)}  # some are transposed


def test_shrinking_keeps_the_mean():
    image = to_tensor(pictures()[0])
    small = shrink_image(image, 0.5)
    assert small.shape == (1, 3, 33, 40) and abs(float(small.mean() - image.mean())) < 2e-3
