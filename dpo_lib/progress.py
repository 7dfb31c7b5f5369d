"""What long work says of itself: progress bars and messages, both through the logger "dpo_lib".

``logging.getLogger("dpo_lib").setLevel(logging.WARNING)`` silences them; commands do so with ``--quiet``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from tqdm.auto import tqdm

log = logging.getLogger("dpo_lib")
log.setLevel(logging.INFO)
log.addHandler(logging.NullHandler())  # else Python would write warnings to stderr where nobody listens


class Printed(logging.StreamHandler):
    """Messages as plain lines on stdout."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)


@contextlib.contextmanager
def printed_messages() -> Iterator[None]:
    """Messages are printed within the block, once however many such blocks there are; its end restores the level."""
    level, handlers = log.level, [] if is_printed() else [Printed()]
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        log.setLevel(level)


def is_printed() -> bool:
    """Whether messages go to stdout already."""
    return any(isinstance(handler, Printed) for handler in log.handlers)


def progress_bar(*args, progress: bool, **settings) -> tqdm:
    """A bar of tqdm, if one is wanted and the logger lets messages through."""
    return tqdm(*args, disable=not (progress and log.isEnabledFor(logging.INFO)), **settings)
