"""Where in the step the host thread is."""

from enum import Enum


class Stage(str, Enum):
    """The six stages, in the order in which a step goes through them; they partition it."""

    DATALOADER = "dataloader"
    TRANSFER = "transfer"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    OTHER = "other"

    @property
    def label(self) -> str:
        """The words that a reader sees."""
        return _LABELS[self]


STAGES: tuple[Stage, ...] = tuple(Stage)

_LABELS = {
    Stage.DATALOADER: "data wait",
    Stage.TRANSFER: "transfer",
    Stage.FORWARD: "forward",
    Stage.BACKWARD: "backward",
    Stage.OPTIMIZER: "optimizer",
    Stage.OTHER: "other",
}
