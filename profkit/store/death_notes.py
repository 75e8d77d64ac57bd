"""Where a run directory says which signal ended the run."""

DEATH_NOTES = {"SIGTERM": "terminated.txt", "SIGHUP": "hung-up.txt"}
"""File names by signal: what is written there does not name the signal itself."""
