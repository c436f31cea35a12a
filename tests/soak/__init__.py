"""Long runs against a real server: `python -m tests.soak`; their short forms are in tests/e2e/test_soak.py."""
