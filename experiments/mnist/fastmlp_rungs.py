"""The way to 97 % on a CPU: a perceptron, fed by a DataLoader at first.

Constants are chosen on training images that are left out of training, with seeds of their own:
`python -m experiments.mnist choices`. So are the steps after which a training ends: the fewest of
those tried whose mean accuracy there is beyond the aim by what two sets of 10,000 images differ by
(0.24 points, standard deviation).
"""

from .ladder import Ladder
from .recipe import (
    Clock,
    Curve,
    Data,
    Method,
    Network,
    Optimizer,
    Precision,
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
    why="Workers and intra-op threads may want more cores than there are.",
)
FASTMLP.step(
    "resident",
    change={"data.source": Source.RESIDENT},
    riders={"clock.includes_loading": False},
    why="What is decoded anew in each epoch is decoded once.",
)
FASTMLP.step(
    "one_epoch",
    change={
        "optimizer.method": Method.ADAM,
        "optimizer.lr": 0.01,
        "optimizer.betas": (0.7, 0.9),
        "schedule.curve": Curve.ONE_CYCLE,
        "schedule.rising": 0.1,
        "data.batch_size": 256,
        "stop.epochs": 1,
    },
    riders={"optimizer.momentum": 0.0, "stop.accuracy": None, "data.reshuffle": False},
    why="FastMLP's own network with a rate that rises and falls: one epoch instead of several.",
    sources=("Smith & Topin 2017, Super-Convergence, arXiv:1708.07120",),
)
FASTMLP.step(
    "one_layer",
    change={"network.hidden": (256,)},
    riders={"data.test_batch_size": 10_000},
    why="784-256-10: a layer less has fewer operations, and a third fewer calls.",
)
FASTMLP.step(
    "middle_20",
    change={"data.side": 20},
    why="Digits were drawn 20 by 20 and centred by mass: little lies outside the middle.",
    sources=("LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",),
)
FASTMLP.step(
    "one_kernel",
    change={"optimizer.is_fused": True, "compute.keeps_freed_memory": True},
    why="What is left is the fixed cost of a step: one kernel for the update, no page faults.",
)
FASTMLP.step(
    "mlp_bf16",
    change={"compute.precision": Precision.BF16, "data.batch_size": 384},
    riders={"clock.is_warm": True},
    why="Half the bytes; larger batches pay the fixed cost less often.",
    sources=("Kalamkar et al. 2019, A Study of BFLOAT16, arXiv:1905.12322",),
)
FASTMLP.step(
    "mlp_smoothed",
    change={"label_smoothing": 0.1},
    why="Accuracy that costs no time, to be spent on fewer steps.",
    sources=("Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567",),
)
FASTMLP.step(
    "mlp_ends_early",
    change={"stop.steps": 110},
    why="Seven tenths of an epoch: the fewest steps with which `choices` shows enough accuracy.",
)
