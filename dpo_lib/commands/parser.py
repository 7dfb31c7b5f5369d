"""What all commands share: errors in one line, of the options with the nearest known word, and exit codes."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..processes import interruptible
from ..progress import log, printed_messages
from ..text import nearest

Main = Callable[..., int]


def command(after: str = "the same command continues") -> Callable[[Main], Main]:
    """Decorate a command's main function: what goes wrong is one line on stderr and an exit code.

    Parameters
    ----------
    after : str
        How to go on after Ctrl-C (exit code 130) or SIGTERM (143). Bad input ends with 2.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def guarded(arguments: Sequence[str] | None = None) -> int:
            try:
                with interruptible(), printed_messages():
                    return main(arguments)
            except (ValueError, OSError, ArithmeticError, MemoryError, ModuleNotFoundError) as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            except (RuntimeError, KeyboardInterrupt) as error:
                # Python before 3.12 makes a RuntimeError of what is raised while a class is made, as in a late import
                stop = error.__cause__ if isinstance(error, RuntimeError) else error
                if isinstance(stop, KeyboardInterrupt):
                    print(f"interrupted: {f'{stop}, ' * bool(stop.args)}{after}", file=sys.stderr)
                    return getattr(stop, "code", 130)
                if "memory" not in str(error):
                    raise
                print("error: memory is too short: choose smaller pictures, batches or networks", file=sys.stderr)
                return 2

        return guarded

    return decorate


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line on stderr, naming the nearest option, choice or sub-command.

    Sub-commands made with `add_subparsers` get the same class. The exit code stays argparse's, 2.

    Examples
    --------
    >>> import contextlib, io
    >>> parser = Parser(prog="dpo train")
    >>> _ = parser.add_argument("--steps", type=int)
    >>> with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
    ...     parser.parse_args(["--stesp", "3"])
    >>> print(said.getvalue().strip())
    error: unknown option --stesp (did you mean --steps?): dpo train --help says more
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without argparse's usage, and exit with 2."""
        self.exit(2, f"error: {' '.join(message.split())}: {self.prog} --help says more\n")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but an unknown option is said first: often it is why another one seems to be missing."""
        words = list(sys.argv[1:] if args is None else args)
        for word in self._own(words):
            name = word.split("=")[0]
            if not any(option.startswith(name) for option in self._option_string_actions):  # abbreviations are known
                self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
        return super().parse_known_args(words, namespace)

    def _own(self, words: Sequence[str]) -> list[str]:
        """The long options among the words; those after a sub-command are for its own parser to judge."""
        own = []
        for word in words:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break
            if word.startswith("--"):
                own.append(word)
        return own

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        what = f"{action.option_strings[0]} knows no value" if action.option_strings else "unknown command"
        message = f"{what} {str(value)!r}{nearest(str(value), known)}, choose from {', '.join(known)}"
        raise argparse.ArgumentError(None, message)


class Quiet(argparse.Action):
    """``--quiet``: raise the logger's level, until the command ends."""

    def __call__(self, *_: object) -> None:
        """As soon as the option is read."""
        log.setLevel(logging.WARNING)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Give a command that takes long the option ``--quiet``."""
    parser.add_argument("--quiet", action=Quiet, nargs=0, help="no progress bars, and no messages but of what failed")


def at_least_one(text: str) -> int:
    """An option's whole number from 1.

    >>> at_least_one("3")
    3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """An option's finite number above 0.

    >>> positive("0.5")
    0.5
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
