"""The nine rungs from the PyTorch example for MNIST to 99 % in under a second on a GPU.

Published times are those of a laptop with a GTX 1660 Ti.
"""

from .ladder import Ladder
from .recipe import Curve, Method, Recipe, Source

LADDER = Ladder("ladder", "99 % in under a second", aim=0.99)

LADDER.begin(
    "initial",
    Recipe(),
    why="The PyTorch example for MNIST, as it is.",
    published_s=172.0,
)
LADDER.step(
    "early_stopping",
    change={"stop.accuracy": 0.99},
    riders={"log_every": None},
    why="Most of the 14 epochs come after 99 % is reached.",
    published_s=57.4,
)
LADDER.step(
    "smaller_net",
    change={"network.pools": (True, True), "network.map_dropout": 0.0},
    why="Pooling after the first convolution quarters the work of the second one.",
    published_s=30.3,
)
LADDER.step(
    "data_loading",
    change={"data.source": Source.RESIDENT},
    riders={"data.reshuffle": False, "data.drop_last": True, "clock.includes_loading": False},
    why="The whole training set fits in memory: no sample is decoded twice.",
    published_s=7.31,
)
LADDER.step(
    "batch_128",
    change={"data.batch_size": 128},
    why="Half as many steps, each with its fixed cost.",
    published_s=4.66,
)
LADDER.step(
    "one_cycle",
    change={"schedule.curve": Curve.ONE_CYCLE, "optimizer.lr": 4.0, "stop.epochs": 2},
    riders={"stop.accuracy": None, "data.drop_last": False},
    why="A learning rate that rises and falls needs fewer epochs.",
    published_s=3.14,
    sources=("Smith & Topin 2017, Super-Convergence, arXiv:1708.07120",),
)
LADDER.step(
    "batch_256",
    change={"data.batch_size": 256},
    why="Half as many steps again.",
    published_s=2.31,
)
LADDER.step(
    "smaller_net_2",
    change={"network.widths": (24, 32), "network.dropout": 0.0},
    why="Two epochs need neither so many maps nor dropout.",
    published_s=1.74,
)
LADDER.step(
    "tuned",
    change={
        "network.pool_first": True,
        "network.kernels": (5, 3),
        "network.hidden": (256,),
        "optimizer.method": Method.ADAM,
        "optimizer.lr": 0.01,
        "optimizer.betas": (0.7, 0.9),
        "stop.epochs": 1,
        "data.test_batch_size": 2000,
    },
    why="Every constant tuned for one epoch.",
    published_s=0.762,
)
