"""Measurements with profkit, each a command that writes a report."""
