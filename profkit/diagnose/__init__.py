"""Pure functions from findings to verdicts."""
