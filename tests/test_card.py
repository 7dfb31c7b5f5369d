"""What a training leaves."""

import json

from tiny_runs import GAIN, TINY, pictures

from dpo_lib import load_network, train
from dpo_lib.training.card import described, save_run


def test_network_and_record_agree(tmp_path):
    result = train(GAIN, pictures(), TINY, progress=False)
    path = save_run(tmp_path, result, TINY, files=[{"file": "a.png"}], images=3, id="x/y", rain="synthetic")
    card = load_network(path).card
    assert {**card, "files": [{"file": "a.png"}]} == json.loads((tmp_path / "run.json").read_text())
    assert (card["name"], card["id"], card["samples"], card["finished"]) == ("gain", "x/y", result.samples, True)
    assert card["config"]["network"]["width"] == 4 and "initial" not in card
    again = save_run(tmp_path, result, TINY, files=[], images=3, name="again", initial=load_network(path))
    facts = load_network(again).card["initial"]
    assert facts == described(load_network(path)) | {"name": "gain"} and facts["steps"] == TINY.steps
