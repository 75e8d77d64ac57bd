"""The facts that the parts exchange: frozen dataclasses, no I/O."""
