"""Rain out of pairs of photographs."""

import numpy as np
import pytest

from dpo_lib.data.rain import rain_pairs
from dpo_lib.images import load_image, save_image


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
    pairs = list(rain_pairs(folder))
    assert len(pairs) == 2
    for number, (rainy, clean) in zip((0, 2), pairs, strict=True):
        assert np.array_equal(rainy, load_image(folder / "light" / f"{number}.png"))
        assert np.array_equal(clean, load_image(folder / "clean" / f"{number}.png"))
    ((rainy, clean),) = rain_pairs(folder, split="test", rain="heavy")
    assert np.array_equal(rainy, load_image(folder / "heavy" / "1.png"))
    assert np.array_equal(clean, load_image(folder / "clean" / "1.png")[:11, :16])


def test_bad_folders(folder):
    with pytest.raises(ValueError, match="rain must be one of light, heavy in .*, got 'id'"):
        next(rain_pairs(folder, rain="id"))
    with pytest.raises(ValueError, match="has no row with split 'val'"):
        next(rain_pairs(folder, split="val"))
    with pytest.raises(FileNotFoundError, match="pairs.csv"):
        next(rain_pairs(folder / "clean"))
    (folder / "light" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.png"):
        next(rain_pairs(folder))
    save_image(folder / "light" / "0.png", np.zeros((13, 17, 3)))
    with pytest.raises(ValueError, match="is smaller than light/0.png"):
        next(rain_pairs(folder))
