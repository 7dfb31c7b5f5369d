"""The target bank: exact pairs, drawn evenly, kept for the next run."""

import numpy as np
import pytest
import torch
from tiny_runs import GAIN, HALF, THREE, pictures

from dpo_lib.images import shrink_image, to_tensor
from dpo_lib.models.base_network import with_ranks
from dpo_lib.operators import OPERATORS
from dpo_lib.randomness import seeded
from dpo_lib.training.bank import Change, TargetBank


def test_joint_bank_gives_each_operator_its_part_of_every_image():
    bank = TargetBank(THREE, pictures(4), entries_per_image=3, crop=20, progress=False)
    bank.fill()
    names = [entry.operator.name for entry in bank.entries]
    assert sorted(names) == sorted(["gain", "half", "noise"] * 4)
    for image in range(4):
        assert {entry.operator.name for entry in bank.entries if entry.image == image} == {"gain", "half", "noise"}
    for entry in bank.entries:
        assert len(entry.value) == {"gain": 1, "half": 0, "noise": 2}[entry.operator.name]
        assert (entry.target is None) == (entry.operator.name == "noise")
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


def test_bank_holds_exact_pairs():
    settings = {"entries_per_image": 2, "shrink": 0.5, "crop": 20, "seed": 3, "progress": False}
    bank = TargetBank(OPERATORS["l0"], pictures(), **settings)
    bank.fill()
    for entry in bank.entries:
        expected = OPERATORS["l0"](bank.image_of(entry), entry.value[None])
        assert entry.target.dtype == torch.uint8
        assert (entry.target.float() / 255 - expected.clamp(0, 1)[0]).abs().max() <= 0.51 / 255
    inputs, targets, values, names = bank.batch(5, seeded(1))
    assert inputs.shape == targets.shape == (5, 3, 20, 20) and values.shape == (5, 1) and names == ["l0"] * 5


def test_crops_bring_the_ranks_of_their_whole_picture():
    bank = TargetBank(HALF, pictures(1), entries_per_image=1, crop=20, equalised=True, progress=False)
    bank.fill()
    whole = with_ranks(bank.image_of(bank.entries[0]))[0].unfold(1, 20, 1).unfold(2, 20, 1).permute(1, 2, 0, 3, 4)
    for shown in bank.batch(4, seeded(0)).input:
        assert shown.shape == (4, 20, 20) and bool((whole == shown).flatten(2).all(2).any())
    noisy = TargetBank(OPERATORS["denoise"], pictures(1), entries_per_image=1, crop=20, equalised=True, progress=False)
    shown = noisy.batch(1, seeded(0)).input
    assert torch.equal(shown, with_ranks(shown[:, :3]))


def test_change_of_colours():
    image = torch.rand(1, 3, 5, 7, generator=seeded(0)) * 0.4 + 0.3
    none = (False, False, False)
    assert torch.equal(Change(none)(image), image)
    assert torch.equal(Change(none, (2, 0, 1))(image), image[:, [2, 0, 1]])
    gray = image.mean(1, keepdim=True)
    torch.testing.assert_close(Change(none, saturation=2.0)(image), (2 * image - gray).clamp(0, 1))
    torch.testing.assert_close(Change(none, saturation=0.0)(image), gray.expand_as(image))


def test_recoloured_entries_keep_values_and_flips():
    plain, changed = (
        TargetBank(OPERATORS["wls"], pictures(), entries_per_image=9, crop=20, recoloured=share, progress=False)
        for share in (0.0, 0.5)
    )
    changed.fill()
    assert [entry.value for entry in plain.entries] == [entry.value for entry in changed.entries]
    assert [entry.change.flips for entry in plain.entries] == [entry.change.flips for entry in changed.entries]
    saturations = [entry.change.saturation for entry in changed.entries]
    assert 0.25 < sum(factor != 1 for factor in saturations) / len(saturations) < 0.75
    assert 0.5 <= min(saturations) < 0.8 and 1.25 < max(saturations) <= 2
    assert len({entry.change.channels for entry in changed.entries}) > 3
    entry = max(changed.entries, key=lambda entry: entry.change.saturation)
    expected = OPERATORS["wls"](changed.image_of(entry), entry.value[None])
    assert (entry.target.float() / 255 - expected.clamp(0, 1)[0]).abs().max() <= 0.51 / 255


def test_targets_in_a_folder_serve_the_next_bank(tmp_path, monkeypatch):
    settings = {"entries_per_image": 2, "crop": 20, "progress": False, "folder": tmp_path}
    first = TargetBank(OPERATORS["l0"], pictures(), **settings)
    first.fill(jobs=2)  # in two processes
    alone = TargetBank(OPERATORS["l0"], pictures(), **{**settings, "folder": None})
    alone.fill()
    assert all(torch.equal(a.target, b.target) for a, b in zip(first.entries, alone.entries, strict=True))
    assert len(list(tmp_path.rglob("*.png"))) == 6

    def computed(*_, **__):
        raise AssertionError("the operator ran again")

    monkeypatch.setattr("dpo_lib.operators.cached.save_image", computed)
    again = TargetBank(OPERATORS["l0"], pictures(), **settings, memory_bytes=20_000)
    again.fill()
    assert [entry.target is None for entry in again.entries].count(True) >= 4  # no room: read when drawn
    for one, other in zip(first.batch(6, seeded(2)), again.batch(6, seeded(2)), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_targets_without_a_folder_must_fit_in_memory():
    with pytest.raises(ValueError, match="name a folder"):
        TargetBank(OPERATORS["l0"], pictures(), crop=20, progress=False, memory_bytes=1000)


def test_entries_follow_their_images():
    """Another crop, which leaves images out, and more images change nothing for the others."""
    small, large = pictures(2, 40, 50), pictures(3)
    settings = {"entries_per_image": 2, "progress": False}
    banks = [
        TargetBank(OPERATORS["l0"], small + large, crop=24, **settings),
        TargetBank(OPERATORS["l0"], small + large, crop=48, **settings),
        TargetBank(OPERATORS["l0"], large[::-1], crop=24, **settings),
    ]
    found = [
        {(bank.images[entry.image].tobytes(), entry.change.flips, float(entry.value)) for entry in bank.entries}
        for bank in banks
    ]
    assert [len(one) for one in found] == [10, 6, 6] and found[1] == found[2] < found[0]


def test_degradations_are_drawn_anew_for_every_crop():
    bank = TargetBank(OPERATORS["denoise"], pictures(1), entries_per_image=1, crop=20, progress=False)
    bank.fill()
    first, again, other = (bank.batch(4, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.input, again.input) and not torch.equal(first.input, other.input)
    assert len({float(value) for value in first.value}) == 4
    deviations = (first.input - first.target).flatten(1).std(1) * 255
    assert torch.allclose(deviations, first.value[:, 0].float(), rtol=0.15)


def test_bank_covers_the_range():
    bank = TargetBank(GAIN, pictures(), entries_per_image=40, crop=20, progress=False)
    values = torch.stack([entry.value for entry in bank.entries])
    assert values.min() < 0.25 and values.max() > 0.85 and values.min() >= 0.2 and values.max() <= 0.9
    shapes = {tuple(bank.image_of(entry).shape) for entry in bank.entries}
    assert shapes == {(1, 3, 66, 80), (1, 3, 80, 66)}  # some are transposed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.3, 0.95), r"gain must lie in \[0\.2, 0\.9\] for gain, got 0\.95"),
        ((0.3, float("nan")), "parameters of gain must be finite"),
        (((0.3, 0.4),), r"gain takes gain: .* got shape \(1, 2\)"),
        ((), "values to train on must be at least one, got none"),
    ],
)
def test_values_to_train_on_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        TargetBank(GAIN, pictures(), crop=20, values=values, progress=False)


def test_shrinking_keeps_the_mean():
    image = to_tensor(pictures()[0])
    small = shrink_image(image, 0.5)
    assert small.shape == (1, 3, 33, 40) and abs(float(small.mean() - image.mean())) < 2e-3


def test_crops_of_a_value_come_together():
    settings = {"entries_per_image": 8, "crop": 20, "levels": 3, "progress": False}
    bank = TargetBank(GAIN, pictures(), **settings, same_value=2)
    bank.fill()
    assert len({float(entry.value) for entry in bank.entries}) == 3
    mixed = 0
    for seed in range(8):
        batch = bank.batch(4, seeded(seed))
        first, second, third, fourth = batch.value[:, 0].tolist()
        assert first == third and second == fourth and not torch.equal(batch.input[0], batch.input[2])
        assert (batch.input * batch.value.float().view(-1, 1, 1, 1) - batch.target).abs().max() < 5e-3
        mixed += first != second
    assert mixed
    noise = TargetBank(OPERATORS["denoise"], pictures(), entries_per_image=1, crop=20, progress=False, same_value=2)
    batch = noise.batch(4, seeded(1))
    assert batch.value[0] == batch.value[2] != batch.value[1]
    shown = (batch.input - batch.target)[[0, 2]]
    assert not torch.equal(shown[0], shown[1])  # noise of its own


def test_too_few_entries_of_a_value_stay_apart():
    bank = TargetBank(GAIN, pictures(), entries_per_image=2, crop=20, progress=False, same_value=4)
    bank.fill()
    batch = bank.batch(4, seeded(0))
    assert len(set(batch.value.flatten().tolist())) > 1
    assert (batch.input * batch.value.float().view(-1, 1, 1, 1) - batch.target).abs().max() < 5e-3


def test_a_crop_is_handed_to_several_operators():
    settings = {"entries_per_image": 4, "crop": 20, "levels": 5, "progress": False}
    bank = TargetBank([GAIN, HALF], pictures(4), **settings, same_crop=2)
    bank.fill()
    alone = TargetBank(GAIN, pictures(4), **{**settings, "entries_per_image": 2})
    assert {(e.image, e.change, float(e.value)) for e in bank.entries if e.operator.name == "gain"} == {
        (entry.image, entry.change, float(entry.value)) for entry in alone.entries
    }  # so that their kept targets serve both
    shown = set()
    for seed in range(8):
        batch = bank.batch(6, seeded(seed))
        for start in (0, 2, 4):
            rows = dict(zip(batch.operators[start : start + 2], range(start, start + 2), strict=True))
            gain, half = rows["gain"], rows["half"]
            assert torch.equal(batch.input[gain], batch.input[half])
            assert (batch.input[half] * 0.5 - batch.target[half]).abs().max() < 5e-3
            assert (batch.input[gain] * float(batch.value[gain, 0]) - batch.target[gain]).abs().max() < 5e-3
            shown.add(batch.input[gain].sum().item())
    assert len(shown) == 24


@pytest.mark.parametrize(
    "change", [{"same_crop": 3}, {"entries_per_image": 3}, {"same_value": 2}, {"size": 7}, {"part": (0, 2)}]
)
def test_what_one_crop_for_several_operators_goes_with(change):
    settings = {"entries_per_image": 2, "crop": 20, "progress": False, "same_crop": 2, **change}
    with pytest.raises(ValueError, match=r"same_crop \(.\) must divide"):
        TargetBank([GAIN, HALF], pictures(4), **settings)


def test_degradations_have_no_crop_in_common():
    with pytest.raises(ValueError, match="but noise degrades its own"):
        TargetBank(THREE, pictures(4), entries_per_image=3, crop=20, same_crop=3, progress=False)


def test_crops_begin_on_the_grid():
    bank = TargetBank(HALF, pictures(1), entries_per_image=8, crop=20, step=16, progress=False)
    bank.fill()
    wholes = [bank.image_of(entry)[0] for entry in bank.entries]
    sizes = {whole.shape[1:] for whole in wholes}  # 66 x 80 and 80 x 66
    wholes = [torch.from_numpy(np.pad(whole, ((0, 0), (0, 15), (0, 15)), mode="edge")) for whole in wholes]
    places = set()
    for shown in bank.batch(40, seeded(0)).input:
        found = [
            (top, left)
            for whole in wholes
            for top in range(whole.shape[1] - 19)
            for left in range(whole.shape[2] - 19)
            if torch.equal(whole[:, top : top + 20, left : left + 20], shown)
        ]
        assert found and all(top % 16 == left % 16 == 0 for top, left in found)
        places.update(found)
    assert len(sizes) == 2 and {axis for place in places for axis in place} == {0, 16, 32, 48, 64}  # every border


def test_a_crop_may_be_larger_than_an_images_shorter_side():
    """It then shows the whole side, and the last pixels again; where crops begin anywhere, none reaches beyond."""
    bank = TargetBank(HALF, pictures(1), entries_per_image=8, crop=72, step=16, progress=False)
    bank.fill()
    wholes = [bank.image_of(entry)[0] for entry in bank.entries]
    wholes = [torch.from_numpy(np.pad(whole, ((0, 0), (0, 22), (0, 22)), mode="edge")) for whole in wholes]
    batch = bank.batch(30, seeded(0))
    for shown, target in zip(batch.input, batch.target, strict=True):
        known = ~target.isnan()  # 66 x 64 pixels, or all 72 along the longer side
        assert sorted(torch.where(known[0])[axis].unique().numel() for axis in (0, 1)) in ([64, 66], [66, 72])
        assert torch.allclose(target[known], shown[known] / 2, atol=0.003)
        places = [(16, 0), (0, 16), (0, 0)]  # 66 x 80 pixels: only along the longer side there are two
        assert any(
            torch.equal(whole[:, top : top + 72, left : left + 72], shown) for whole in wholes for top, left in places
        )
    whole = TargetBank(HALF, pictures(1), crop=80, step=4, progress=False)  # larger by more than a step
    whole.fill()
    assert all((~target.isnan()).sum() == 3 * 66 * 80 for target in whole.batch(30, seeded(0)).target)
    with pytest.raises(ValueError, match="no image of 1 is at least 81 pixels long"):
        TargetBank(HALF, pictures(1), crop=81, step=16)
    with pytest.raises(ValueError, match="no image of 1 is at least 72 pixels a side"):
        TargetBank(HALF, pictures(1), crop=72)


def test_crops_of_a_periodic_operator_go_on_at_the_opposite_border():
    """L0's answer to a rolled picture is the rolled answer, so such crops are exact, too."""
    settings = {"entries_per_image": 1, "crop": 60, "border": "wrap", "margin": 64, "progress": False}
    bank = TargetBank(OPERATORS["l0"], pictures(1), **settings)
    bank.fill()
    entry, batch = bank.entries[0], bank.batch(12, seeded(0))
    image = bank.image_of(entry)
    beyond = 0
    for shown, target in zip(batch.input, batch.target, strict=True):
        corner = (image[0] == shown[:, :1, :1]).all(0).nonzero().tolist()
        top, left = next(
            place for place in corner if torch.equal(image.roll([-n for n in place], (2, 3))[0, :, :60, :60], shown)
        )
        answer = OPERATORS["l0"](image.roll((-top, -left), (2, 3)), entry.value[None])[0, :, :60, :60]
        assert (answer.clamp(0, 1) - target).abs().max() < 0.51 / 255
        beyond += top > image.shape[2] - 60 or left > image.shape[3] - 60
    assert beyond > 6
    plain = TargetBank(GAIN, pictures(1), **settings)  # no operator with periodic borders: crops stay inside
    plain.fill()
    whole = plain.image_of(plain.entries[0])[0].unfold(1, 60, 1).unfold(2, 60, 1)
    for shown in plain.batch(4, seeded(0)).input:
        assert bool((whole.permute(1, 2, 0, 3, 4) == shown).flatten(2).all(2).any())


@pytest.mark.parametrize("crop", [48, 72])
def test_crops_of_a_mirrored_operator_go_on_in_mirror_image(crop):
    """WLS's answer to a mirrored picture is the mirrored answer; a crop may be larger than the shorter side, 66."""
    margin = 16
    settings = {"entries_per_image": 1, "crop": crop, "border": "symmetric", "margin": margin, "progress": False}
    bank = TargetBank(OPERATORS["wls"], pictures(1), **settings)
    bank.fill()
    entry, batch = bank.entries[0], bank.batch(40, seeded(0))
    around = ((160, 160), (160, 160), (0, 0))  # so much that what lies beyond does not matter
    larger = np.pad(bank.image_of(entry)[0].permute(1, 2, 0).numpy(), around, mode="symmetric")
    answers = np.clip(OPERATORS["wls"](larger, entry.value.tolist()), 0, 1)
    image, answer = (picture[160 - margin : margin - 160, 160 - margin : margin - 160] for picture in (larger, answers))
    seen = []
    for shown, target in zip(batch.input, batch.target, strict=True):
        shown, target = (part.permute(1, 2, 0).numpy() for part in (shown, target))
        [(top, left)] = (
            (top, left)
            for top in range(image.shape[0] - crop + 1)
            for left in range(image.shape[1] - crop + 1)
            if np.array_equal(image[top : top + crop, left : left + crop], shown)
        )
        assert np.abs(answer[top : top + crop, left : left + crop] - target).max() < 0.02
        seen.append((top, left))
    tops, lefts = zip(*seen, strict=True)
    assert min(*tops, *lefts) < margin and max(tops) > 66 + margin - crop and max(lefts) > 80 + margin - crop


@pytest.mark.parametrize("same_value", [1, 2, 4])
def test_every_operator_has_its_part_of_the_batches(same_value):
    """Also where they are as many as a batch has crops, and take turns in it as the strata do."""
    tasks = [OPERATORS[name] for name in ("super_resolution", "denoise", "deblock", "derain")]
    settings = {"entries_per_image": 3, "crop": 32, "same_value": same_value, "strata": 4, "progress": False}
    bank = TargetBank(tasks, pictures(8), **settings)
    bank.fill()
    names = [name for step in range(200) for name in bank.batch(4, seeded(0, step)).operators]
    assert {task.name for task in tasks} == set(names)
    assert all(120 < names.count(task.name) < 280 for task in tasks), "a quarter of 800 each"
