"""Tests mirror the code: `tests/server/test_batcher.py` tests `server/batcher.py`."""
