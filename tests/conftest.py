"""What several test files need."""

from dataclasses import replace

import pytest

from dpo_lib import SCALES
from dpo_lib.training import Phase


@pytest.fixture
def tiny_smoke_scale(monkeypatch):
    """Makes the smoke scale as small as can be, and gives its settings."""
    tiny = replace(SCALES["smoke"], steps=2, phases=(Phase(1.0, 1.0, 16, 2),), precision="float32")
    tiny = tiny.with_network(width=4)
    monkeypatch.setitem(SCALES, "smoke", tiny)
    monkeypatch.setattr("dpo_lib.experiments.properties.SIZES", {"VGA": (480, 640)})
    return tiny
