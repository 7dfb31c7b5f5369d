"""``python -m dpo_lib COMMAND`` and the console script ``dpo``."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

from .commands.parser import Parser, command

COMMANDS = {
    "apply": "a network or a classic operator over your photographs",
    "train": "a network from a folder of images",
    "evaluate": "a network against its operators",
    "experiments": "the paper's tables, as runs",
    "reproduce": "execute the numbered notebooks",
}


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to one command, which alone is imported."""
    for stream in (sys.stdout, sys.stderr):  # names that a terminal cannot show appear escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    lines = "\n".join(f"  {name:12s} {about}" for name, about in COMMANDS.items())
    parser = Parser(
        prog="dpo",
        usage="%(prog)s COMMAND ...",
        description=f"commands:\n{lines}",
        epilog="dpo COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(arguments[:1]).command
    return importlib.import_module(f".commands.{chosen}", package=__package__).main(arguments[1:])


class Version(argparse.Action):
    """``--version``: the package's version, looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="say which version this is and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and end."""
        from . import __version__

        print(f"dpo_lib {__version__}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
