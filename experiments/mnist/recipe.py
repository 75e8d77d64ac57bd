"""A training as data: everything that decides what it computes and what its clock counts."""

from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Any


class Source(Enum):
    """Where batches come from."""

    LOADER = "DataLoader"
    RESIDENT = "one tensor on the device"


class Method(Enum):
    """How parameters are updated."""

    ADADELTA = "Adadelta"
    ADAM = "Adam"
    RMSPROP = "RMSprop"
    SGD = "SGD"


class Curve(Enum):
    """How the learning rate changes."""

    CONSTANT = "constant"
    EPOCH_DECAY = "times gamma after each epoch"
    COSINE = "half a cosine to nothing over all batches"
    ONE_CYCLE = "one cycle over all batches"


class Activation(Enum):
    """What stands between layers."""

    RELU = "relu"
    GELU = "gelu"
    TANH = "tanh"
    SIGMOID = "sigmoid"


class Precision(Enum):
    """What forward and backward compute in."""

    FP32 = "fp32"
    BF16 = "bf16 autocast"


@dataclass(frozen=True, slots=True)
class Augment:
    """By how much each image is changed at random, anew each time.

    Attributes:
        rotation: degrees to either side, at most.
        shift: share of a side, at most, in each direction.
        scale: share by which it grows or shrinks, at most.
        noise: standard deviation of what is added to pixels as the network is given them.
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on.

    Attributes:
        workers: of the DataLoader; None: as the PyTorch example has it, one with pinned memory on a
            GPU, and none on a CPU.
        reshuffle: a new order in each epoch; else one that is drawn once.
        drop_last: whether a last batch that is not full is left out.
        side: of the middle of an image that is kept, in pixels; of resident data only.
        is_normalized: whether the pixels' mean and deviation are taken out; of a DataLoader's
            images, resident ones always are.
        augment: of the images that are trained on.
    """

    source: Source = Source.LOADER
    batch_size: int = 64
    test_batch_size: int = 1000
    workers: int | None = None
    reshuffle: bool = True
    drop_last: bool = False
    side: int = 28
    is_normalized: bool = True
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, slots=True)
class Network:
    """Convolutions, each with an activation, then dense layers, then ten scores.

    Attributes:
        widths, kernels: of the convolutions; none makes a perceptron.
        strides: of the convolutions; none: each moves by one pixel.
        pools: after which of them maps are halved by max pooling.
        pool_first: pooling before relu: the same numbers from a quarter of the relus.
        activation: behind each convolution and dense layer.
        batch_norm: behind each convolution and dense layer, before its activation.
        is_residual: a convolution of one pixel, added to each convolution but the first.
        has_attention: each map behind the last convolution weighted by all maps' means.
        is_whitened: the first convolution is what makes patches of the training images white,
            and stays so.
        map_dropout: chance that a map is zeroed behind the last convolution.
        hidden: widths of the dense layers between.
        dropout: behind the last of these.
    """

    widths: tuple[int, ...] = (32, 64)
    kernels: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] = ()
    pools: tuple[bool, ...] = (False, True)
    pool_first: bool = False
    activation: Activation = Activation.RELU
    batch_norm: bool = False
    is_residual: bool = False
    has_attention: bool = False
    is_whitened: bool = False
    map_dropout: float = 0.25
    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.5


@dataclass(frozen=True, slots=True)
class Optimizer:
    """What updates the parameters.

    Attributes:
        momentum: SGD's (Nesterov's where `nesterov` says so) and RMSprop's.
        betas: Adam's.
        weight_decay: added to gradients.
        is_fused: all parameters are updated by one kernel; of Adam and SGD.
        clip_norm: the norm of all gradients together is made no larger than this; None: it is not.
    """

    method: Method = Method.ADADELTA
    lr: float = 1.0
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    is_fused: bool = False
    clip_norm: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate changes.

    Attributes:
        gamma: an epoch's decay.
        rising: the part of a cycle until its peak, the optimizer's learning rate.
    """

    curve: Curve = Curve.EPOCH_DECAY
    gamma: float = 0.7
    rising: float = 0.3


@dataclass(frozen=True, slots=True)
class Stop:
    """When training ends.

    Attributes:
        epochs: at most.
        accuracy: on the test images; it ends after the first epoch that reaches this. None: never
            before all epochs are over.
        steps: batches at most, over all epochs; None: as many as the epochs have.
    """

    epochs: int = 14
    accuracy: float | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """What counts as time.

    Attributes:
        is_warm: libraries have computed some such steps and a test, on a network and images of no
            use, before time counts; what that took stands beside it.
        includes_loading: whether reading the files and making the source does. From the first
            batch's request to the last test's accuracy everything always counts.
    """

    includes_loading: bool = True
    is_warm: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    """How it is computed.

    Attributes:
        keeps_freed_memory: malloc keeps what is freed instead of giving it back to the system, from
            which it would come back page by page.
    """

    precision: Precision = Precision.FP32
    channels_last: bool = False
    keeps_freed_memory: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training; the defaults are the PyTorch example for MNIST.

    Attributes:
        label_smoothing: probability that is spread over all classes.
        log_every: batches from one printed loss to the next, for each of which the loop waits;
            None: none is printed.
    """

    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    stop: Stop = field(default_factory=Stop)
    clock: Clock = field(default_factory=Clock)
    compute: Compute = field(default_factory=Compute)
    label_smoothing: float = 0.0
    log_every: int | None = 100


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with changes.

    Args:
        recipe: before.
        changes: new values by path, such as `data.batch_size`.

    Raises:
        ValueError: there is no such path, or a change changes nothing.
    """
    for path, value in changes.items():
        recipe = _replaced(recipe, path, path.split("."), value)
    return recipe


def value_of(recipe: Recipe, path: str, text: str) -> Any:
    """What a text means at a path of a recipe: a Python literal, or the name of a choice.

    Raises:
        ValueError: there is no such path, or the text is neither.
    """
    part: Any = recipe
    for name in path.split("."):
        if not is_dataclass(part) or name not in (one.name for one in fields(part)):
            raise ValueError(f"{path}: there is no such path")
        part = getattr(part, name)
    if isinstance(part, Enum):
        kinds = type(part)
        if text.upper() not in kinds.__members__:
            names = ", ".join(one.name.lower() for one in kinds)
            raise ValueError(f"{path}={text}: there are {names}")
        return kinds[text.upper()]
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(f"{path}={text}: write a value such as {part!r}") from None


def _replaced(part: Any, path: str, names: list[str], value: Any) -> Any:
    first, *rest = names
    known = [one.name for one in fields(part)]
    if first not in known:
        raise ValueError(f"{path}: there is no {first} among {', '.join(known)}")
    before = getattr(part, first)
    if rest:
        if not is_dataclass(before):
            raise ValueError(f"{path}: {first} has no parts")
        return replace(part, **{first: _replaced(before, path, rest, value)})
    if is_dataclass(before):
        raise ValueError(
            f"{path}: change its parts one by one, such as {path}.{fields(before)[0].name}"
        )
    if before == value:
        raise ValueError(f"{path} is {value!r} already: the change changes nothing")
    return replace(part, **{first: value})


def difference(before: Recipe, after: Recipe) -> dict[str, Any]:
    """What `changed` must be given to make the one of the other: new values by path."""
    return _differences(before, after, "")


def _differences(before: Any, after: Any, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(before):
        old, new = getattr(before, one.name), getattr(after, one.name)
        if is_dataclass(old):
            found |= _differences(old, new, f"{prefix}{one.name}.")
        elif old != new:
            found[prefix + one.name] = new
    return found
