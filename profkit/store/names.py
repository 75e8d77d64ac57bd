"""What the files of a run directory are called."""

MANIFEST = "run.json"
SET_MANIFEST = "runs.json"
"""In a directory that holds several run directories: their names, in order."""
STEPS = "steps.arrow"
MARKS = "marks.arrow"
REFERENCE = "reference.arrow"
