"""Rain out of pairs of photographs."""

import unicodedata

import numpy as np
import pytest
import torch

from dpo_lib.data.rain import rain_of_pairs, rain_pairs
from dpo_lib.images import load_image, save_image, to_tensor
from dpo_lib.operators.cached import source_of


@pytest.fixture
def folder(tmp_path):
    """Two training pairs and a test pair; the heavy images a row and a column smaller; one path from above."""
    rng = np.random.default_rng(0)
    for name, size in (("clean", (12, 17)), ("light", (12, 17)), ("heavy", (11, 16))):
        for number in range(3):
            save_image(tmp_path / "rain" / name / f"{number}.png", rng.random((*size, 3)))
    rows = [
        "split,id,clean,light,heavy",
        "train,0,clean/0.png,light/0.png,heavy/0.png",
        "test,1,rain/clean/1.png,rain/light/1.png,rain/heavy/1.png",
        "train,2,clean/2.png,light/2.png,heavy/2.png",
    ]
    (tmp_path / "rain" / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "rain"


def test_pairs_from_a_folder(folder):
    pairs = [(pair.rainy, pair.clean) for pair in rain_pairs(folder)]
    assert len(pairs) == 2
    for number, (rainy, clean) in zip((0, 2), pairs, strict=True):
        assert np.array_equal(rainy, load_image(folder / "light" / f"{number}.png"))
        assert np.array_equal(clean, load_image(folder / "clean" / f"{number}.png"))
    ((_, rainy, clean, _),) = rain_pairs(folder, split="test", rain="heavy")
    assert np.array_equal(rainy, load_image(folder / "heavy" / "1.png"))
    assert np.array_equal(clean, load_image(folder / "clean" / "1.png")[:11, :16])


def test_bad_folders(folder):
    with pytest.raises(ValueError, match="rain must be one of light, heavy in .*, got 'id'"):
        next(rain_pairs(folder, rain="id"))
    with pytest.raises(ValueError, match="has no row with split 'val'"):
        next(rain_pairs(folder, split="val"))
    with pytest.raises(FileNotFoundError, match="pairs.csv"):
        next(rain_pairs(folder / "clean"))
    (folder / "pairs.csv").write_text("split,light\ntrain,light/0.png\n")
    with pytest.raises(ValueError, match="has no column clean"):
        next(rain_pairs(folder))


def test_pairs_that_cannot_be_used_are_left_out(folder):
    (folder / "light" / "0.png").unlink()
    with pytest.warns(UserWarning, match=r"skipped the pair light/0\.png: .*No such file"):
        assert len(list(rain_pairs(folder))) == 1
    save_image(folder / "light" / "0.png", np.zeros((13, 17, 3)))
    with pytest.warns(UserWarning, match=r"skipped the pair light/0\.png: .* is smaller than light/0\.png"):
        assert len(list(rain_pairs(folder))) == 1
    (folder / "light" / "2.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="is not readable"),
        pytest.raises(ValueError, match="none of the 2 pairs with split 'train' in .*pairs.csv can be used"),
    ):
        list(rain_pairs(folder))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_other_programs_write_them(folder, encoding, separator):
    """Byte-order marks, CRLF, semicolons, backslashes, spaces, and umlauts in either spelling."""
    for number, name in enumerate(("grün 1.png", unicodedata.normalize("NFD", "grün 2.png"))):
        (folder / "light" / f"{2 * number}.png").rename(folder / "light" / name)
    rows = [("split", "id", "clean", "light"), ("train", "0", "clean\\0.png", "light\\grün 1.png")]
    rows += [("train", "2", "clean/2.png", "light/grün 2.png"), ("train", "3", "clean/2.png")]
    text = "\r\n".join(separator.join(row) for row in rows)
    (folder / "pairs.csv").write_bytes(text.encode(encoding))
    with pytest.warns(UserWarning, match=r"pairs\.csv: left out 1 row\(s\) that are not whole"):
        pairs = list(rain_pairs(folder))
    assert [pair.name for pair in pairs] == ["light\\grün 1.png", "light/grün 2.png"]
    assert np.array_equal(pairs[1].clean, load_image(folder / "clean" / "2.png"))


def test_rain_that_is_a_little_darker(folder):
    """JPEG leaves rainy pixels below the clean ones; the difference is added as it is."""
    clean = np.full((12, 17, 3), 100, np.uint8)
    rainy = clean.copy()
    rainy[:, 5], rainy[:, 6] = 180, 90
    for number in (0, 2):
        save_image(folder / "clean" / f"{number}.png", clean)
        save_image(folder / "light" / f"{number}.png", rainy)
    operator = rain_of_pairs(folder)
    shown = operator(to_tensor(clean), generator=torch.Generator().manual_seed(0)) * 255
    assert set(shown.round().unique().tolist()) == {90.0, 100.0, 180.0}


def test_other_rain_is_another_operator(folder):
    first = source_of(rain_of_pairs(folder))
    assert source_of(rain_of_pairs(folder)) == first is not None
    save_image(folder / "light" / "2.png", np.zeros((12, 17, 3)))
    assert source_of(rain_of_pairs(folder)) != first
