"""Pure functions from recorded facts to findings."""
