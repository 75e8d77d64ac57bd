"""98 % with 40 % less: each claimed trick by itself, then all at once."""

from .ladder import Ladder
from .recipe import Curve, Data, Method, Network, Optimizer, Recipe, Schedule, Source, Stop

PLAIN = "plain"
FORTY = Ladder("forty", "98 % with 40 % less", aim=0.98)

FORTY.begin(
    PLAIN,
    Recipe(
        data=Data(is_normalized=False),
        network=Network(),
        optimizer=Optimizer(Method.ADAM, lr=0.001),
        schedule=Schedule(Curve.CONSTANT),
        stop=Stop(epochs=2),
        log_every=None,
    ),
    why="The network of the claim, Adam, batches of 64 from a DataLoader; none of the tricks.",
)
_TRICKS: tuple[tuple[str, dict[str, object], str, str], ...] = (
    (
        "batched",
        {"data.batch_size": 256},
        "A quarter of the steps, each with its fixed cost.",
        "Goyal et al. 2017, Accurate, Large Minibatch SGD, arXiv:1706.02677",
    ),
    (
        "prefetched",
        {"data.workers": 1},
        "A worker decodes while the step computes.",
        "torch.utils.data",
    ),
    (
        "rotated",
        {"data.augment.rotation": 10.0},
        "Images are turned at random.",
        "Simard et al. 2003, Best Practices for Convolutional Neural Networks, ICDAR",
    ),
    (
        "scaled",
        {"data.augment.scale": 0.1},
        "Images grow and shrink at random.",
        "Simard et al. 2003, Best Practices for Convolutional Neural Networks, ICDAR",
    ),
    (
        "noisy",
        {"data.augment.noise": 0.1},
        "Pixels are disturbed at random.",
        "Bishop 1995, Training with Noise is Equivalent to Tikhonov Regularization",
    ),
    (
        "normalised",
        {"data.is_normalized": True},
        "Inputs of mean nought and deviation one.",
        "LeCun et al. 1998, Efficient BackProp",
    ),
    (
        "annealed",
        {"schedule.curve": Curve.COSINE},
        "The learning rate falls to nothing.",
        "Loshchilov & Hutter 2017, SGDR, arXiv:1608.03983",
    ),
    (
        "stopped",
        {"stop.accuracy": 0.98},
        "No epoch after the one that reaches 98 %.",
        "Prechelt 1998, Early Stopping - But When?",
    ),
    (
        "clipped",
        {"optimizer.clip_norm": 1.0},
        "No update larger than one.",
        "Pascanu et al. 2013, On the difficulty of training recurrent networks, arXiv:1211.5063",
    ),
    (
        "batch_normed",
        {"network.batch_norm": True},
        "Each layer's inputs normalised by batch.",
        "Ioffe & Szegedy 2015, Batch Normalization, arXiv:1502.03167",
    ),
    (
        "residual",
        {"network.is_residual": True},
        "Each convolution adds to its input.",
        "He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
    ),
    (
        "attending",
        {"network.has_attention": True},
        "Maps are weighted by all maps' means.",
        "Hu et al. 2018, Squeeze-and-Excitation Networks, arXiv:1709.01507",
    ),
)
for _name, _change, _why, _source in _TRICKS:
    FORTY.step(_name, on=PLAIN, change=_change, why=_why, sources=(_source,))
FORTY.step(
    "in_memory",
    on="normalised",
    change={"data.source": Source.RESIDENT},
    why="The data in memory is not among the claims; it is what profkit says of the data wait.",
)
FORTY.step(
    "all_tricks",
    on=PLAIN,
    change={path: value for _, change, _, _ in _TRICKS for path, value in change.items()},
    why="All that is claimed, at once.",
)
