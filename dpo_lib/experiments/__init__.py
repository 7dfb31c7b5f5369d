"""The paper's tables as runs: `catalogue` (the list), `store` (what is on disk), `run`, `collect`, `check`, `tables`.

`paper` holds the paper's numbers, `properties` what is measured besides accuracy.
"""
