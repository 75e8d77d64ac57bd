"""The error tree: each message says what failed, the value seen and what to do next."""


class ProfkitError(Exception):
    """Base of every error that profkit raises on purpose; `cli/` turns it into exit code 2."""


class InputError(ProfkitError):
    """An argument that cannot be used: an unknown stage, a negative count, no such device."""


class DataError(ProfkitError):
    """A data directory or file that is not what it should be."""


class OutputError(ProfkitError):
    """A place that cannot be written, or that already holds something."""


class RunError(ProfkitError):
    """A run directory that cannot be read: foreign, truncated, or from another schema."""


class ProbeError(ProfkitError):
    """A probe that cannot work here; callers turn it into a stated gap."""


class InconclusiveWarning(UserWarning):
    """The data cannot decide an assertion: the value is too near to its limit, or too noisy."""
