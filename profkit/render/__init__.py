"""Findings to text and figures."""
