"""A loop with injected costs: `python -m experiments.truth.loop --cost forward:spin:5`.

It is the user's program, knows nothing of any profiler, and writes its own truth as JSON.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .costs import PORTION_NS, Cost
from .ledger import Ledger

PLACES = ("data", "transfer", "forward", "backward", "optimizer", "logging")
CLASSES = 10
ENDLESS = 1_000_000

now = time.perf_counter_ns


class PayingData(Dataset[tuple[Tensor, int, int]]):
    """Samples whose making costs a batch's cost, in equal portions over the batch."""

    def __init__(self, samples: int, batch: int, width: int, cost: Cost | None, ns: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._x = torch.randn(batch, width, generator=generator)
        self._samples, self._batch = samples, batch
        self._cost = cost
        portions = min(batch, max(1, ns // PORTION_NS))
        self._every, self._ns = batch // portions, ns // portions
        self._portions = portions

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        row = index % self._batch
        paid = 0
        if (
            self._cost is not None
            and row % self._every == 0
            and row // self._every < self._portions
        ):
            paid = self._cost.pay(self._ns)
        return self._x[row], row % CLASSES, paid


def collate(samples: list[tuple[Tensor, int, int]]) -> tuple[Tensor, Tensor, int]:
    xs, ys, paid = zip(*samples, strict=True)
    return torch.stack(xs), torch.tensor(ys), sum(paid)


class PayingCopy(Tensor):
    """A tensor whose copies to another device take a known time."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "to":
            args[0].charge()
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class PayingBackward(torch.autograd.Function):
    """The identity, with a costly gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, charge: Any) -> Tensor:
        ctx.charge = charge
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        ctx.charge()
        return grads[0], None


class PayingModel(nn.Module):
    """Two linear layers, and what is charged in both directions."""

    def __init__(self, width: int, charges: dict[str, Any]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES))
        self._charges = charges

    def forward(self, x: Tensor) -> Tensor:
        if charge := self._charges.get("forward"):
            charge()
        x = self.layers(x)
        if charge := self._charges.get("backward"):
            x = PayingBackward.apply(x, charge)  # type: ignore[no-untyped-call]
        return x


class PayingSGD(torch.optim.SGD):
    """SGD with a costly step."""

    charge: Any = None

    def step(self, closure: Any = None) -> Any:
        if self.charge is not None:
            self.charge()
        return super().step(closure)


class Metrics:
    """A logger like those in people's loops; it spends its time in its own function."""

    def __init__(self, ledger: Ledger, kind: str, ns: int, scratch: Path) -> None:
        self._paid, self._kind, self._ns = ledger.paid["logging"], kind, ns
        self._log = os.open(scratch / "metrics.log", os.O_CREAT | os.O_WRONLY, 0o600)

    def log_metrics(self, step: int, batch: object) -> None:
        began = now()
        end = began + self._ns
        if self._kind == "sleep":
            time.sleep(self._ns / 1e9)
        elif self._kind == "spin":
            while now() < end:
                pass
        else:
            while True:
                os.pwrite(self._log, b"loss 0.1\n" * 500, 0)
                os.fsync(self._log)
                if now() >= end:
                    break
        self._paid[step] = now() - began


def parse_cost(text: str) -> tuple[str, str, int]:
    """`place:kind:ms` as place, kind and ns."""
    place, kind, ms = text.split(":")
    if place not in PLACES:
        raise argparse.ArgumentTypeError(f"{place} is none of {', '.join(PLACES)}")
    return place, kind, int(float(ms) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="JSON to write")
    parser.add_argument("--cost", type=parse_cost, action="append", default=[])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epoch", type=int, default=0, help="steps an epoch; 0: one for all")
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    scratch = given.truth.parent
    wanted = {place: (kind, ns) for place, kind, ns in given.cost}
    ledger = Ledger(wanted)
    charges: dict[str, Any] = {}
    costs = {}
    for place, (kind, ns) in wanted.items():
        costs[place] = Cost(kind, reads=place == "data", scratch=scratch)

        def charge(
            pay: Any = costs[place].pay, ns: int = ns, paid: Any = ledger.paid[place]
        ) -> None:
            paid[ledger.step] += pay(ns)

        charges[place] = charge
    data = PayingData(
        (given.epoch or ENDLESS) * given.batch,
        given.batch,
        given.width,
        costs.get("data"),
        wanted.get("data", ("", 0))[1],
    )
    loader = DataLoader(data, given.batch, num_workers=given.workers, collate_fn=collate)
    model = PayingModel(given.width, charges)
    criterion = nn.CrossEntropyLoss()
    optimizer = PayingSGD(model.parameters(), lr=0.01)
    optimizer.charge = charges.get("optimizer")
    transfer = None
    if "transfer" in wanted:
        courier = torch.zeros(1).as_subclass(PayingCopy)
        courier.charge = charges["transfer"]  # type: ignore[attr-defined]

        def transfer() -> object:
            return courier.to("meta")

    log = None
    if "logging" in wanted:
        log = Metrics(ledger, *wanted["logging"], scratch).log_metrics

    data_paid = ledger.paid.get("data")

    def loss_of(batch: tuple[Tensor, Tensor, int]) -> Tensor:
        x, y, paid = batch
        if data_paid is not None:
            data_paid[ledger.step] = paid
        loss: Tensor = criterion(model(x), y)
        return loss

    ledger.train(
        loader,
        given.seconds,
        loss_of=loss_of,
        optimizer=optimizer,
        transfer=transfer,
        log=log,
    )
    ledger.write(given.truth)


if __name__ == "__main__":
    main()
