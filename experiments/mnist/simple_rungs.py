"""Why does a simple CNN take so long? Its batch size, its learning rate and its activations."""

from .ladder import Ladder
from .recipe import (
    Activation,
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

SIMPLE = Ladder("simple", "Why does a simple CNN take so long?", aim=0.97)

SIMPLE.begin(
    "simple",
    Recipe(
        data=Data(batch_size=32),
        network=Network(
            widths=(32,), kernels=(3,), pools=(True,), map_dropout=0.0, hidden=(), dropout=0.0
        ),
        optimizer=Optimizer(Method.ADAM, lr=0.001),
        schedule=Schedule(Curve.CONSTANT),
        stop=Stop(epochs=10),
        log_every=None,
    ),
    why="One convolution and Adam, batches of 32 from a DataLoader, for ten epochs.",
)
SIMPLE.step(
    "simple_128",
    on="simple",
    change={"data.batch_size": 128},
    why="A quarter of the iterations; is an iteration four times as dear?",
)
SIMPLE.step(
    "simple_resident",
    on="simple",
    change={"data.source": Source.RESIDENT},
    why="What is left of the time when no sample is decoded twice.",
)
SIMPLE.step(
    "until_97",
    on="simple",
    change={"stop.accuracy": 0.97},
    why="Most of the ten epochs come after 97 % is reached.",
)
for _name, _path, _value in (
    ("lr_0001", "optimizer.lr", 0.0001),
    ("lr_01", "optimizer.lr", 0.01),
    ("lr_1", "optimizer.lr", 0.1),
    ("gelu", "network.activation", Activation.GELU),
    ("tanh", "network.activation", Activation.TANH),
    ("sigmoid", "network.activation", Activation.SIGMOID),
):
    SIMPLE.step(
        _name,
        on="until_97",
        change={_path: _value},
        why="What the time to 97 % owes to this choice.",
    )
