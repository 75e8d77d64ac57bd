"""A CNN on a CPU in under a minute: its optimizers, its augmentation, and what holds it up."""

from .ladder import Ladder
from .recipe import Curve, Data, Method, Network, Optimizer, Recipe, Schedule, Source, Stop

MINUTE = Ladder("minute", "A CNN on a CPU in under a minute", aim=0.98)

MINUTE.begin(
    "minute_adam",
    Recipe(
        data=Data(batch_size=32),
        network=Network(pools=(True, True), map_dropout=0.0, hidden=(), dropout=0.0),
        optimizer=Optimizer(Method.ADAM, lr=0.001),
        schedule=Schedule(Curve.CONSTANT),
        stop=Stop(epochs=5),
        log_every=None,
    ),
    why="Two convolutions and Adam, from a DataLoader, for five epochs.",
)
MINUTE.step(
    "minute_sgd",
    on="minute_adam",
    change={"optimizer.method": Method.SGD},
    riders={"optimizer.lr": 0.01, "optimizer.momentum": 0.9},
    why="SGD has less to do for each parameter; it wants a learning rate of its own.",
    sources=("Sutskever et al. 2013, On the importance of initialization and momentum",),
)
MINUTE.step(
    "minute_rmsprop",
    on="minute_adam",
    change={"optimizer.method": Method.RMSPROP},
    why="RMSprop keeps one mean for each parameter where Adam keeps two.",
    sources=("Tieleman & Hinton 2012, Lecture 6.5 of Neural Networks for Machine Learning",),
)
MINUTE.step(
    "minute_augmented",
    on="minute_adam",
    change={"data.augment.rotation": 10.0, "data.augment.shift": 0.1},
    why="Images turned and shifted at random, each by itself on its way to the batch.",
    sources=("Simard et al. 2003, Best Practices for Convolutional Neural Networks, ICDAR",),
)
MINUTE.step(
    "minute_resident",
    on="minute_adam",
    change={"data.source": Source.RESIDENT},
    why="What the DataLoader decodes anew in each epoch is decoded once.",
)
MINUTE.step(
    "minute_resident_augmented",
    on="minute_resident",
    change={"data.augment.rotation": 10.0, "data.augment.shift": 0.1},
    why="A whole batch is turned and shifted at once.",
)
