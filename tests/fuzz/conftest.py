"""How many examples the fuzz tries: a few hundred, always the same, or as many new ones as FUZZ says."""

import os

from hypothesis import HealthCheck, Phase, settings
from strategies import COUNTS

TOTAL = int(os.environ.get("FUZZ", "0"))
SHARES = 12  # tests that share them

settings.register_profile(
    "fuzz",
    max_examples=-(-TOTAL // SHARES) if TOTAL else 20,
    derandomize=not TOTAL,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if TOTAL else [Phase.generate],
)
settings.load_profile("fuzz")


def pytest_terminal_summary(terminalreporter):
    """Say what was tried."""
    if COUNTS["calls"]:
        failed = len(terminalreporter.stats.get("failed", ()))
        terminalreporter.write_line(
            f"fuzz: {COUNTS['calls']} calls, {COUNTS['answers']} answers, {COUNTS['refusals']} refusals in the "
            f"library's words; {failed} tests with crashes or wrong answers"
        )
