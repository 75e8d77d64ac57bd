"""How often `profkit check` is right: `python -m experiments.gate`.

Writes reports/gate.md. Checks are kept below runs/gate, so that a run that was interrupted goes on
where it was; `--part N` takes only that many minutes and leaves the page as it is. All of it takes
about 90 minutes on two cores, during which nothing else may run on the machine.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from ..measured import save
from .live import LOOPS, Case, cases, run_case, true_ratios
from .page import write_page

REPORT = Path("reports", "gate.md")
KEPT = Path("runs", "gate")
SLOWER = 1.095
"""Makes the steps about 10 % longer, see `program.py`; the page says by how much."""
LIVE = (
    *((1.0, 0, 21), (1.0, 1, 21), (1.0, 2, 20)),
    *((SLOWER, 0, 14), (SLOWER, 1, 14), (SLOWER, 2, 14)),
)
"""Factor, neighbours, checks: 62 of identical code and 42 of one that is slower."""
RARE, RARE_SLOWER = 10, 3.0
LIVE_RARE = ((RARE_SLOWER, 0, 5),)
"""One step in ten takes three times as long: 20 % more time, and a typical step none."""
RECORDED = ((1.0, 0, 6), (1.0, 1, 6), (1.0, 2, 6))
"""The same, held against a limit so near that they last as long as they may."""
RECORD_LIMIT = "0.01%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument("--part", type=float, help="minutes to take for checks")
    parser.add_argument("--quick", action="store_true", help="two checks of each kind")
    given = parser.parse_args()

    few = 2 if given.quick else None
    wanted = [
        *cases(_at_most(LIVE, few)),
        *cases(_at_most(LIVE_RARE, few), rare=RARE),
        *cases(_at_most(RECORDED, few), RECORD_LIMIT),
    ]
    end = None if given.part is None else time.monotonic() + 60 * given.part
    truth = {loop: true_ratios(loop, SLOWER, given.kept) for loop in LOOPS}
    found: list[tuple[Case, dict[str, Any]]] = []
    for number, case in enumerate(wanted, 1):
        if end is not None and time.monotonic() > end:
            print(f"{number - 1} of {len(wanted)} checks are there")
            return
        found.append((case, run_case(case, given.kept)))
        facts = found[-1][1]["case"]
        print(f"{number}/{len(wanted)} {case.key}: {facts['outcome']}, {facts['wall_s']:.0f} s")
    save(given.output, write_page(found, SLOWER, truth))


def _at_most(
    counts: tuple[tuple[float, int, int], ...], few: int | None
) -> list[tuple[float, int, int]]:
    return [(ratio, busy, count if few is None else few) for ratio, busy, count in counts]


if __name__ == "__main__":
    main()
