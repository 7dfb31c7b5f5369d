"""The argument parser: a slip in an option's, a command's or a choice's name."""

import sys

import numpy as np
import pytest

from dpo_lib import OPERATORS
from dpo_lib.commands.parser import Parser, find_operator, nearest


@pytest.fixture
def parser():
    parser = Parser(prog="dpo")
    parser.add_argument("--scale", choices=("smoke", "cpu", "paper"))
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("names", nargs="*")
    return parser


def refused(parser, capsys, *words):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_the_unknown_option_is_named_before_the_missing_one(parser, capsys):
    assert "unknown option --stpes (did you mean --steps?)" in refused(parser, capsys, "--stpes", "3")
    assert "unknown option --stpes (did you mean --steps?)" in refused(parser, capsys, "--stpes=3")
    assert "unknown option --colour: dpo --help" in refused(parser, capsys, "--steps", "3", "--colour", "red")


def test_argparses_own_errors_take_one_line(parser, capsys):
    assert "required: --steps" in refused(parser, capsys, "a")
    assert "invalid int value: 'x'" in refused(parser, capsys, "--steps", "x")
    assert "ambiguous option: --s" in refused(parser, capsys, "--s", "1")
    assert "unrecognized arguments: -x" in refused(parser, capsys, "--steps", "1", "-x")
    said = refused(parser, capsys, "--steps", "1", "--scale", "papre")
    assert "--scale knows no value 'papre' (did you mean paper?), choose from smoke, cpu, paper" in said


def test_what_is_right_passes(parser):
    given = parser.parse_args(["--ste", "3", "--scale=cpu", "a", "--", "--scael"])
    assert (given.steps, given.scale, given.names) == (3, "cpu", ["a", "--scael"])


def test_sub_commands(capsys):
    parser = Parser(prog="dpo")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("--again", action="store_true")
    assert parser.parse_args(["run", "--again"]).again
    assert "unknown option --agian (did you mean --again?): dpo run --help" in refused(parser, capsys, "run", "--agian")
    assert "unknown command 'rnu' (did you mean run?)" in refused(parser, capsys, "rnu", "--again")
    assert nearest("--out", ["--output"]) == " (did you mean --output?)"


OWN = """
from dpo_lib import Operator, Parameter

def fade(image, amount=0.5):
    return image * amount

OPERATOR = Operator.from_function(fade, name="fade", parameters=[Parameter("amount", 0.1, 0.9)])
number = 3
"""


def test_operators_of_your_own_are_found_in_their_modules(tmp_path, monkeypatch):
    (tmp_path / "own_filters.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    found = find_operator("own_filters:OPERATOR")
    image = np.full((9, 12, 3), 0.5)
    assert found.name == "fade" and (found(image, 0.4) == 0.2).all()
    plain = find_operator("own_filters:fade", found.parameters, called="other")
    assert plain.name == "other" and (plain(image, 0.4) == 0.2).all()
    assert find_operator("l0") is OPERATORS["l0"] and sys.path == before
    for wrong, message in (
        ("own_filters:gone", "there is no operator 'own_filters:gone'"),
        ("nowhere:fade", "No module named 'nowhere'"),
        ("own_filters:number", "must be an Operator or a function on images, got int"),
        ("l00", r"there is no operator 'l00' \(did you mean l0\?\): choose from l0, .*, or name your own"),
    ):
        with pytest.raises(ValueError, match=message):
            find_operator(wrong)
