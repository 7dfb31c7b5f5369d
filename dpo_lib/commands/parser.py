"""An argument parser that answers a slip of the pen in one line, with the nearest word that it knows."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


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


def nearest(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a question, for a message about an unknown one; empty if none is near.

    >>> nearest("trian", ["train", "apply"]), nearest("xyz", ["train", "apply"])
    (' (did you mean train?)', '')
    """
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""
