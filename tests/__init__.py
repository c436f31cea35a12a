"""The tests mirror the rooms; `e2e` starts real servers."""
