"""The tool that draws what a network does."""

import matplotlib.image
import pytest
from benchmark_scripts import TOOLS, load_script
from tiny_runs import TINY, pictures

from dpo_lib import OPERATORS, save_network
from dpo_lib.images import save_image
from dpo_lib.training.learner import build_network


@pytest.fixture
def tool():
    return load_script("contact_sheet", TOOLS)


def test_a_sheet_shows_every_value_or_every_operator(tool):
    photographs = {name: picture for name, picture in zip("ab", pictures(2, 40, 50), strict=True)}
    for names, values, blocks in (
        (("l0",), 5, 1),
        (("derain",), 1, 1),
        (("l0", "denoise", "wls", "rtv", "rgf", "wmf"), 5, 2),
    ):
        network = build_network([OPERATORS[name] for name in names], TINY).eval()
        figure = tool.contact_sheet(network, photographs)
        assert len(figure.axes) == 2 * blocks * 4 * values
        shown, target, answer, difference = (figure.axes[row * values].images[0].get_array() for row in range(4))
        assert shown.shape == target.shape == answer.shape == (40, 50, 3) and difference.shape == (40, 50)
        said = {axis.get_xlabel() for axis in figure.axes}
        assert ("lambda 0.2" in said) == (names == ("l0",)) and ("denoise" in said) == ("denoise" in names)
        assert sum("dB" in text for text in said) >= min(len(names), 2)


def test_sheets_are_written(tool, tmp_path, capsys):
    for number, picture in enumerate(pictures(1, 40, 50)):
        save_image(tmp_path / "photographs" / f"{number}.png", picture)
    network = build_network(OPERATORS["deblock"], TINY)
    save_network(tmp_path / "runs" / "mine" / "network.safetensors", network)
    words = [
        str(tmp_path / "runs" / "mine"),
        "--images",
        str(tmp_path / "photographs"),
        "--out",
        str(tmp_path / "sheets"),
    ]
    assert tool.main(words) == 0 and str(tmp_path / "sheets" / "mine.png") in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "sheets" / "mine.png").ndim == 3
    tool.main([str(tmp_path / "runs" / "mine" / "network.safetensors"), *words[1:]])
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["mine.png"]
