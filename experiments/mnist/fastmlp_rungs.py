"""The way to 97 % on a CPU: a perceptron, fed by a DataLoader at first."""

from .ladder import Ladder
from .recipe import (
    Clock,
    Curve,
    Data,
    Method,
    Network,
    Optimizer,
    Recipe,
    Schedule,
    Source,
    Stop,
)

FASTMLP = Ladder("fastmlp", "FastMLP: 97 % on a CPU", aim=0.97)

FASTMLP.begin(
    "fastmlp",
    Recipe(
        data=Data(batch_size=512, test_batch_size=1024, workers=2),
        network=Network(
            widths=(), kernels=(), pools=(), map_dropout=0.0, hidden=(256, 128), dropout=0.0
        ),
        optimizer=Optimizer(Method.SGD, lr=0.05, momentum=0.9),
        schedule=Schedule(Curve.CONSTANT),
        stop=Stop(epochs=10, accuracy=0.97),
        clock=Clock(includes_loading=True),
        log_every=None,
    ),
    why="784-256-128-10 by SGD, from a DataLoader with two workers.",
)
FASTMLP.step(
    "no_workers",
    change={"data.workers": 0},
    why="On two cores, two workers and two intra-op threads take each other's cores.",
)
FASTMLP.step(
    "resident",
    change={"data.source": Source.RESIDENT},
    riders={"clock.includes_loading": False},
    why="Decoding holds nine tenths of the step; decoded once, it holds nothing.",
)
