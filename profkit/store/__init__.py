"""Run directories and traces on disk."""
