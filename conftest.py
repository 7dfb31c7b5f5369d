"""Settings that a bare ``pytest --nbval notebooks`` needs, from whatever folder it is started."""

from pathlib import Path

ROOT = Path(__file__).parent


def pytest_configure(config):
    option = config.option
    if getattr(option, "nbval", False) or getattr(option, "nbval_lax", False):
        option.nbval_current_env = True  # the kernel of this environment, whatever the notebook names
        option.nbval_sanitize_with = option.nbval_sanitize_with or str(ROOT / "tests" / "nbval_sanitize.cfg")
        option.nbval_cell_timeout = min(option.nbval_cell_timeout, 600)
        if getattr(option, "dist", "no") not in ("no", "loadfile"):
            option.dist = "loadfile"  # the cells of a notebook share a kernel
