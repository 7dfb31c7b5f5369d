"""``python -m dpo_lib COMMAND`` and the console script ``dpo``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "a network from a folder of images",
    "evaluate": "a network against its operators",
    "experiments": "the paper's tables, as runs",
    "reproduce": "execute the numbered notebooks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to one command, which alone is imported."""
    lines = "\n".join(f"  {name:12s} {about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dpo",
        usage="%(prog)s COMMAND ...",
        description=f"commands:\n{lines}",
        epilog="dpo COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = parser.parse_args(arguments[:1]).command
    return importlib.import_module(f".commands.{command}", package=__package__).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
