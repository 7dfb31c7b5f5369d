"""Run the notebooks from top to bottom and store their outputs, so that the same code gives the same bytes.

    python tools/refresh_notebooks.py [notebooks/01_operator_approximation.ipynb ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from dpo_lib.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
VOLATILE = ("application/vnd.jupyter.widget-view+json",)


def refresh(path: Path) -> None:
    """Execute one notebook in its folder and write it back without anything that changes from run to run."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        for output in cell.get("outputs", []):
            for kind in VOLATILE:
                output.get("data", {}).pop(kind, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    with write_atomically(path) as temporary:
        nbformat.write(notebook, temporary)


if __name__ == "__main__":
    for file in [Path(name).resolve() for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        print(file.name, flush=True)
        refresh(file)
