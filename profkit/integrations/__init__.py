"""Thin ties to what starts trainings elsewhere; frameworks that train in a script need none."""
