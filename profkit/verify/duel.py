"""Two versions of a program that take turns until it is clear which side of a limit they lie on.

Short blocks in random ABBA order over several pairs of long-lived processes, so that drift of the
machine meets both alike; a few looks at what there is by then.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from ..analyze.gate import sum_up
from ..errors import InputError
from ..schema.gate import Round
from ..schema.paced import Block
from .instance import GoneError, Instance, LateError, Launch, end_all

BLOCK_S = 0.02
"""A block's shortest duration. Source: FACTS of the gate's design: the spread of a block's
log-ratio hardly falls with its length, so many short ones win."""
BLOCK_STEPS = 10
WORKER_ROUNDS = 8
"""Batches that each loader worker makes in a block, at least: they come in bursts."""
LONGEST_BLOCK_S = 0.3
"""Above it a block has fewer steps than `BLOCK_STEPS`."""
LOOKS = (1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)
"""Of the time there is for measuring: when the data are looked at."""
RESTARTS = 3
"""Times in a row, for each pair of instances, that one may end before its blocks are made."""


@dataclass(slots=True, eq=False)
class Duel:
    """What there is to look at so far.

    Attributes:
        rounds: in order.
        measured_s: since the first block began.
        looks: how often there was a look.
        restarts: instances that ended by themselves and were started anew.
        last_words: how the last of those ended.
        late: names of the versions that were late with a block.
    """

    rounds: list[Round] = field(default_factory=list)
    measured_s: float = 0.0
    looks: int = 0
    restarts: int = 0
    last_words: str = ""
    late: set[str] = field(default_factory=set)


class EndsError(InputError):
    """No instance of a program lasts for its blocks.

    Args:
        message: what to tell the user.
        names: of the versions of which instances ended.
        words: how the last one did.
    """

    def __init__(self, message: str, names: Collection[str] = (), words: str = "") -> None:
        super().__init__(message)
        self.names = frozenset(names)
        self.words = words


def ends_too_soon(duel: Duel, names: Collection[str] = ()) -> EndsError:
    """What to say of a program of which no instance lasts for its blocks.

    Args:
        duel: in which they ended.
        names: see `EndsError`.
    """
    return EndsError(
        f"the program ended {duel.restarts} times before its blocks were made "
        f"({duel.last_words}): give it more epochs, or mend it",
        names,
        duel.last_words,
    )


def fight(
    launch: Callable[[int], Launch],
    instances: int,
    versions: int,
    *,
    deadline: float,
    starting: int,
    seed: int,
    is_clear: Callable[[Duel], bool],
    show: Callable[[str, float], None],
    met: Callable[[Sequence[Instance]], None],
) -> Duel:
    """Have the versions take turns until a look is clear, or the time is up.

    Args:
        launch: how an instance is started, each time anew; the even ones are base's and the odd
            ones new's where there are two versions.
        instances: of all versions together.
        versions: 2, or 1 where there is nothing to compare with.
        deadline: by `time.monotonic`, for all of it.
        starting: how many instances may start at a time.
        seed: of the order; the global random streams are left alone.
        is_clear: takes a look.
        show: told what happens, and the part of the time that is over.
        met: told the instances once they are warm; may raise to call it off.

    Returns:
        What was measured, after the last look.

    Raises:
        InputError: an instance ended before its first block, or none was warm in time.
    """
    running: dict[int, Instance] = {}
    try:
        _start(launch, instances, running, starting, deadline, show)
        met([running[row] for row in range(instances)])
        return take_turns(launch, versions, running, deadline, seed, is_clear, show)
    finally:
        end_all(list(running.values()))


def block_steps(step_ns: float, workers: int) -> int:
    """How many steps a block has whose steps take so long, in ns, with so many loader workers."""
    shortest = max(BLOCK_STEPS, ceil(BLOCK_S * 1e9 / step_ns))
    longest = max(1, int(LONGEST_BLOCK_S * 1e9 / step_ns))
    return max(min(shortest, longest), WORKER_ROUNDS * workers)


def _steps(running: Mapping[int, Instance], workers: int, *, alike: bool) -> dict[int, int]:
    """How many steps the blocks of each instance have.

    Args:
        running: warm ones.
        workers: the most that one of them has.
        alike: whether as many for all, since single steps are compared; else blocks take about as
            long, however much faster one of them is: after each pause caches are cold.
    """
    taken = {row: one.facts.step_ns for row, one in running.items() if one.facts is not None}
    typical = sorted(taken.values())[len(taken) // 2]
    return {
        row: block_steps(typical if alike else taken.get(row, typical), workers) for row in running
    }


def varied(steps: int, chance: random.Random) -> int:
    """A block's steps, a quarter more or fewer.

    The first one of a block does not count. What a program does every ten steps would always be
    done in those, or never, if all blocks had ten.
    """
    reach = max(1, steps // 4)
    return max(1, chance.randint(steps - reach, steps + reach))


def _workers(instance: Instance) -> int:
    loader = None if instance.facts is None else instance.facts.loader
    return 0 if loader is None else loader.num_workers or 0


def _start(
    launch: Callable[[int], Launch],
    instances: int,
    running: dict[int, Instance],
    starting: int,
    deadline: float,
    show: Callable[[str, float], None],
) -> None:
    waiting = list(range(instances))
    cold: list[int] = []
    while waiting or cold:
        while waiting and len(cold) < starting:
            cold.append(waiting.pop(0))
            running[cold[-1]] = Instance(launch(cold[-1]))
            running[cold[-1]].start()
        show(f"starting process {len(running)} of {instances}", 0.0)
        _warm(running[cold.pop(0)], deadline)


def _warm(instance: Instance, deadline: float) -> None:
    launch = instance.launch
    try:
        instance.wait_until_warm(deadline)
    except GoneError as gone:
        raise EndsError(
            f"{launch.name}: the program ended before it had trained {launch.warmup} steps "
            f"({gone}): give it more epochs, or see that it trains at all",
            {launch.name},
            str(gone),
        ) from None
    except LateError:
        raise InputError(
            f"{launch.name}: the time was up before its instances had trained {launch.warmup} "
            "steps: raise --max-time"
        ) from None


def take_turns(
    launch: Callable[[int], Launch],
    versions: int,
    running: dict[int, Instance],
    deadline: float,
    seed: int,
    is_clear: Callable[[Duel], bool],
    show: Callable[[str, float], None],
    restarts: int | None = None,
    *,
    with_gaps: bool = False,
) -> Duel:
    """The same with instances that run already, and go on afterwards.

    Args:
        launch, versions, deadline, seed, is_clear, show: see `fight`.
        running: warm instances by number; those that end by themselves are replaced in it.
            At the end one may be late with a block, see `Instance.settle`, or not warm.
        restarts: `RESTARTS` unless given.
        with_gaps: see `sum_up`.

    Raises:
        EndsError: instances ended again and again.
    """
    chance = random.Random(seed)
    duel = Duel()
    workers = [_workers(running[row]) for row in range(len(running))]
    steps = _steps(running, max(workers), alike=not with_gaps)
    began = time.monotonic()
    # The last one is due as soon as an instance is late; rounding must not put it off.
    looks = [*(began + share * (deadline - began) for share in LOOKS[:-1]), deadline]
    fresh = set(running)
    turn, failed = 0, 0
    ended: set[str] = set()
    while True:
        now = time.monotonic()
        duel.measured_s = now - began
        if now >= looks[0]:
            while looks and now >= looks[0]:
                looks.pop(0)
            duel.looks += 1
            if is_clear(duel) or not looks:
                return duel
        share = (now - began) / max(deadline - began, 1e-9)
        show(f"measuring: {len(duel.rounds)} rounds", min(1.0, share))
        pair = turn % (len(running) // versions)
        turn += 1
        rows = list(range(versions * pair, versions * (pair + 1)))
        chance.shuffle(rows)
        try:
            for row in rows:
                if row in fresh:  # its first block is warm-up, too
                    running[row].run_block(steps[row], deadline)
                    fresh.discard(row)
            found: dict[int, list[Block]] = {row: [] for row in rows}
            state = chance.getstate()
            for row in (*rows, *reversed(rows)):
                chance.setstate(state)  # equal numbers vary alike
                made = running[row].run_block(varied(steps[row], chance), deadline)
                found[row].append(Block(*made, workers[row]))
        except LateError:
            duel.late.add(running[row].launch.name)
            continue  # the last look is due
        except GoneError as gone:
            failed += 1
            ended.add(running[row].launch.name)
            duel.restarts += 1
            duel.last_words = str(gone)
            most = RESTARTS if restarts is None else restarts
            if failed > most * (len(running) // versions):
                raise ends_too_soon(duel, ended) from None
            _restart(launch, running, rows, fresh, deadline)
            continue
        failed = 0
        ended.clear()
        *base, new = [
            sum_up(
                found[row],
                [block for other in rows if other != row for block in found[other]],
                with_gaps=with_gaps,
            )
            for row in sorted(rows)
        ]
        ended_s = time.monotonic() - began
        duel.rounds.append(Round(pair, ended_s, base[0] if base else None, new))


def _restart(
    launch: Callable[[int], Launch],
    running: dict[int, Instance],
    rows: Sequence[int],
    fresh: set[int],
    deadline: float,
) -> None:
    """Start both instances of a pair anew: the one that has ended, and its opponent with it."""
    end_all([running[row] for row in rows])
    for row in rows:
        running[row] = Instance(launch(row))
        running[row].start()
    for row in rows:
        try:
            _warm(running[row], deadline)
        except InputError:
            if time.monotonic() < deadline:
                raise
        fresh.add(row)
