"""What several test files need."""

import contextlib
import itertools
from dataclasses import replace

import pytest
import torch

from dpo_lib import SCALES, save_image
from dpo_lib.data import embedded_images
from dpo_lib.training import Phase
from dpo_lib.training.bank import TargetBank


def pytest_collection_modifyitems(items):
    """Tests marked gpu are skipped on a machine without a CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture
def tiny_smoke_scale(monkeypatch):
    """Makes the smoke scale as small as can be, and gives its settings."""
    tiny = replace(SCALES["smoke"], steps=2, phases=(Phase(1.0, 1.0, 16, 2),), precision="float32")
    tiny = tiny.with_network(width=4)
    monkeypatch.setitem(SCALES, "smoke", tiny)
    monkeypatch.setattr("dpo_lib.experiments.properties.SIZES", {"VGA": (480, 640)})
    return tiny


@pytest.fixture(scope="session")
def small_photographs(tmp_path_factory):
    """A folder of scikit-image's photographs at half their width and height."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, image in embedded_images().items():
        save_image(folder / f"{name}.png", image[::2, ::2].copy())
    return folder


class Killed(Exception):
    """Stands for a run's sudden end."""


@pytest.fixture
def killed():
    """``with killed(5):`` whatever trains in the block ends suddenly when it draws its sixth batch, and must do so."""

    @contextlib.contextmanager
    def killed(after):
        draw, draws = TargetBank.batch, itertools.count(1)

        def dying(self, *arguments, **keywords):
            if next(draws) > after:
                raise Killed
            return draw(self, *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(TargetBank, "batch", dying)
            yield

    return killed
