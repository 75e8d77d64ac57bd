"""Records what the batches of a built-in program cost, while it is timed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..probe.loader_anatomy import LoaderAnatomy
from ..probe.replacements import Replacements
from ..recorder import Recorder
from ..store.batches import loader_directory


class LoaderLook:
    """A look into all DataLoaders of this process.

    Args:
        recorder: of the run that the batches belong to.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._hooks = Replacements()
        self._anatomy = LoaderAnatomy(str(loader_directory(recorder.path).absolute()))
        self._anatomy.install(self._hooks)
        self.flush = self._anatomy.flush

    def end(self, source: object) -> None:
        """Look no longer.

        Args:
            source: the run's loader.
        """
        self._hooks.put_back()
        self._anatomy.stop()
        for gap in self._anatomy.gaps:
            self._recorder.gap(gap)
        facts = self._recorder.manifest.loader
        if facts is not None:
            number = self._anatomy.number_of(source)
            self._recorder.state(loader=replace(facts, number=number))

    def give_up(self) -> None:
        """Take the hooks away, however the run ended."""
        self._hooks.put_back()
        self._anatomy.stop()


@contextmanager
def look_into_loaders(recorder: Recorder) -> Iterator[LoaderLook | None]:
    """A look that is over with the block at the latest; None where it cannot work here."""
    look = None
    try:
        look = LoaderLook(recorder)
    except Exception as error:  # the times are worth having without it
        recorder.gap(f"what batches cost their producer is not recorded: {error!r}")
    try:
        yield look
    finally:
        if look is not None:
            look.give_up()
