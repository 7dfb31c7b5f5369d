"""The scripts of benchmarks/ and tools/ as modules."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks"
TOOLS = FOLDER.parent / "tools"
sys.path.append(str(FOLDER))  # where a script finds another one, as it does when it is started


def load_script(name, folder=FOLDER):
    """The module of ``NAME.py`` there."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
