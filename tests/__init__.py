"""The tests mirror the app; `e2e` starts real servers."""
