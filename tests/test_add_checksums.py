"""The tool that gives networks of earlier versions their checksum."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dpo_lib import DecoupledNetwork, Parameter, load_network, save_network


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[1] / "tools" / "add_checksums.py"
    spec = importlib.util.spec_from_file_location("add_checksums", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_checksum_is_added_and_the_rest_stays(tool, tmp_path):
    network = DecoupledNetwork([Parameter("lambda", 0.002, 0.2)], operator="l0", width=4, dilations=(1,)).eval()
    new = save_network(tmp_path / "new.safetensors", network, card={"seed": 3})
    with safe_open(new, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, metadata={key: metadata[key] for key in ("form", "card")})
    assert tool.main([str(old)]) == 0
    assert old.read_bytes() == new.read_bytes()
    assert tool.main([str(old)]) == 0 and old.read_bytes() == new.read_bytes()
    save_file({**tensors, "base_network.scale": torch.zeros(3)}, old, metadata=metadata)
    with pytest.raises(ValueError, match="old.safetensors is damaged: its checksum"):
        tool.main([str(old)])
    assert load_network(new).card == {"seed": 3}
