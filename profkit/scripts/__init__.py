"""Runs a user's script as `python` would; says when it imports something and how it ends."""
