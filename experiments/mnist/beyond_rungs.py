"""Beyond the last rung: 99 % on a CPU in fewer seconds.

Constants are chosen on training images that are left out of training, with seeds of their own:
`python -m experiments.mnist choices`. So are the steps after which a training ends: the fewest of
those tried whose mean accuracy there is beyond the aim by what two sets of 10,000 images differ by
(0.14 points, standard deviation), else an epoch of what is left.
"""

from .ladder import Ladder
from .recipe import Precision
from .rungs import LADDER

BEYOND = Ladder(
    "beyond",
    "99 % on a CPU, beyond the last rung",
    aim=0.99,
    untried=(
        "Batch norm and more maps: not kept; `choices` shows some gain on left-out training "
        "images, but that a training takes a good deal longer with them.",
        "A whitening first layer (Jordan 2024, arXiv:2404.00498) and small random shifts: not "
        "kept, since `choices` shows no gain, and each takes longer.",
        "Progressive resizing (Howard & Gugger 2020, fastai): not tried; all steps see the middle "
        "24 by 24 pixels.",
        "Linear scaling of the rate with larger batches (Goyal et al. 2017, arXiv:1706.02677): "
        "not tried by its rule; rate and batch size were each chosen on left-out images.",
        "torch.compile and CUDA graphs: not tried; compiling takes longer here than the training.",
    ),
)

BEYOND.begin(
    "tuned_again",
    LADDER.rungs[-1].recipe,
    why="The ladder's last rung, as it is.",
)
BEYOND.step(
    "channels_last",
    change={"compute.channels_last": True},
    why="`profkit tune` found it for the rung before (reports/tune.md): oneDNN's convolutions read "
    "all channels of a pixel at once.",
    sources=("PyTorch: Channels Last Memory Format in PyTorch",),
)
BEYOND.step(
    "bf16",
    change={"compute.precision": Precision.BF16},
    why="`profkit tune` found it as well: half the bytes; and CPUs with bf16 units multiply it "
    "faster than fp32.",
    sources=("Kalamkar et al. 2019, A Study of BFLOAT16, arXiv:1905.12322",),
)
BEYOND.step(
    "memory_kept",
    change={"compute.keeps_freed_memory": True},
    why="malloc gives large tensors back after each use: each comes back page fault by page fault.",
    sources=("mallopt(3) of glibc",),
)
BEYOND.step(
    "fused",
    change={"optimizer.is_fused": True},
    why="One kernel updates all parameters.",
    sources=("PyTorch: torch.optim.Adam, fused",),
)
BEYOND.step(
    "middle_24",
    change={"data.side": 24},
    why="Next to nothing is written on the two outermost pixels of each side.",
)
BEYOND.step(
    "strided",
    change={"network.strides": (2, 1), "network.pools": (False, True)},
    why="The first convolution looks at every other pixel instead of pooling what it found: a "
    "quarter of its work, and no pooling.",
    sources=("Springenberg et al. 2015, Striving for Simplicity, arXiv:1412.6806",),
)
BEYOND.step(
    "smoothed",
    change={"label_smoothing": 0.1},
    why="Accuracy that costs no time, to be spent on less work.",
    sources=("Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567",),
)
BEYOND.step(
    "reshaped",
    change={
        "network.widths": (16, 48),
        "network.hidden": (128,),
        "optimizer.lr": 0.02,
        "schedule.rising": 0.2,
    },
    why="Fewer maps where they are large, more where they are small: fewer operations; a higher "
    "rate for them. That it is faster is not shown; `choices --undo` shows that it is a little "
    "more accurate.",
    sources=("Smith & Topin 2017, Super-Convergence, arXiv:1708.07120",),
)
BEYOND.step(
    "ends_early",
    change={"stop.steps": 195},
    riders={"clock.is_warm": True},
    why="Five sixths of an epoch: as many steps as the constants were chosen with; with fewer, "
    "`choices` shows too little accuracy.",
)
BEYOND.step(
    "ablated",
    change={"compute.keeps_freed_memory": False, "optimizer.is_fused": False},
    why="What earns nothing is taken out again: `choices --undo` shows of these two neither time "
    "nor accuracy, of each technique that stays one of them.",
)
BEYOND.step(
    "ablated_fp32",
    on="ablated",
    change={"compute.precision": Precision.FP32},
    why="The same on a CPU that has no bf16 units.",
)
