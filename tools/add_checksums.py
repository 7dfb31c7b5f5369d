"""Give shipped networks of earlier versions the checksum that `save_network` writes; the tensors stay as they are.

python tools/add_checksums.py dpo_lib/weights/*.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from dpo_lib.models.pretrained import checksum, write_tensors


def main(paths: Sequence[str]) -> int:
    """Rewrite the header of each file."""
    for path in map(Path, paths):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("sha256", known := checksum(tensors, metadata["form"])) != known:
            raise ValueError(f"{path} is damaged: its checksum is that of other content")
        write_tensors(path, tensors, metadata)
        print(f"{path.name}: {known}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
