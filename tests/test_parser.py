"""The argument parser: a slip in an option's, a command's or a choice's name."""

import signal

import pytest

from dpo_lib.commands.parser import Parser, command
from dpo_lib.processes import Interrupted
from dpo_lib.text import nearest


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


def test_an_interruption_while_a_class_is_made(capsys):
    class Field:
        def __set_name__(self, owner, name):
            raise Interrupted(signal.SIGTERM)

    @command("go on")
    def main(arguments=None):
        type("Made", (), {"field": Field()})

    assert main() == 143 and "interrupted: go on" in capsys.readouterr().err
