"""Bars and messages: through one logger, which commands print and --quiet silences."""

import logging

import pytest
from tiny_runs import GAIN, TINY, pictures

from dpo_lib.__main__ import main
from dpo_lib.evaluation import evaluate
from dpo_lib.images import save_image
from dpo_lib.progress import log, printed_messages, progress_bar
from dpo_lib.training import build_network


@pytest.fixture
def words(tmp_path):
    save_image(tmp_path / "in" / "one.png", pictures(1)[0])
    return ["apply", str(tmp_path / "in"), "--operator", "wmf", "--value", "2", "--out", str(tmp_path / "out")]


def test_quiet_leaves_only_what_failed(words, tmp_path, capsys):
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 2 and "wrote 1 of 1" in said.out and "1/1" in said.err
    assert main([*words, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*words, "--quiet", "--value", "99"]) == 2 and "error: " in capsys.readouterr().err
    (tmp_path / "in" / "two.png").write_bytes(b"no picture")
    assert main([*words, "--overwrite", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert not out and "skipped" in err and "two.png" in err
    assert main([*words, "--overwrite"]) == 1 and "wrote 1 of 2" in capsys.readouterr().out  # loud again


def test_bars_follow_the_logger(capsys):
    network = build_network(GAIN, TINY)
    for level, shown in ((logging.INFO, True), (logging.WARNING, False)):
        log.setLevel(level)
        try:
            evaluate(network, GAIN, {"one": pictures(1)[0]}, progress=True)
        finally:
            log.setLevel(logging.INFO)
        assert bool(capsys.readouterr().err) == shown
    assert list(progress_bar(range(3), progress=False)) == [0, 1, 2] and not capsys.readouterr().err


def test_messages_are_printed_once_and_only_inside(capsys):
    with printed_messages(), printed_messages():
        log.info("one")
        log.setLevel(logging.ERROR)
    assert log.level == logging.INFO
    log.info("two")
    log.warning("three")
    assert capsys.readouterr() == ("one\n", "")
