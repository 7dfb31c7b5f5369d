"""The paper's tables as runs: `catalogue` (the list), `store` (what is on disk), `run` and `schedule`, `tables`.

`paper` holds the paper's numbers, `measure` what is measured of a network, `collect` writes one CSV per table.
"""
