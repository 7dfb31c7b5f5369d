"""Checkpoints of older versions."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, TINY, pictures

from dpo_lib import train


def test_checkpoints_from_before_there_were_other_models(tmp_path):
    """They name only the settings of their time; all others were what the defaults are."""
    train(GAIN, pictures(), TINY, out=tmp_path, minutes=1e-9, progress=False)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    run = json.loads(saved["identity"])
    later = "model operator_code depthwise generated hidden relu trunk trained parameters"
    run = {name: setting for name, setting in run.items() if name not in later.split()}
    torch.save({**saved, "identity": json.dumps(run)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="other settings"):
        train(GAIN, pictures(), replace(TINY, model="film"), out=tmp_path, progress=False)
    assert train(GAIN, pictures(), TINY, out=tmp_path, progress=False).finished
