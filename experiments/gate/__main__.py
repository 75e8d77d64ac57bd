"""How often `profkit check` is right: `python -m experiments.gate`.

Writes reports/gate.md. Checks are kept below runs/gate, so that a run that was interrupted goes on
where it was; `--part N` takes only that many minutes and leaves the page as it is. All of it takes
about two hours on two cores, during which nothing else may run on the machine.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from ..measured import save
from .live import Case, cases, run_case
from .page import write_page

REPORT = Path("reports", "gate.md")
KEPT = Path("runs", "gate")
LIVE = ((1.0, 0, 24), (1.0, 1, 20), (1.0, 2, 20), (1.1, 0, 16), (1.1, 1, 14), (1.1, 2, 14))
"""True ratio, neighbours, checks: 64 of identical code and 44 of one that is 10 % slower."""
RECORDED = ((1.0, 0, 12), (1.0, 1, 12), (1.0, 2, 12))
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
    wanted = [*cases(_at_most(LIVE, few)), *cases(_at_most(RECORDED, few), RECORD_LIMIT)]
    end = None if given.part is None else time.monotonic() + 60 * given.part
    found: list[tuple[Case, dict[str, Any]]] = []
    for number, case in enumerate(wanted, 1):
        if end is not None and time.monotonic() > end:
            print(f"{number - 1} of {len(wanted)} checks are there")
            return
        found.append((case, run_case(case, given.kept)))
        facts = found[-1][1]["case"]
        print(f"{number}/{len(wanted)} {case.key}: {facts['outcome']}, {facts['wall_s']:.0f} s")
    save(given.output, write_page(found))


def _at_most(
    counts: tuple[tuple[float, int, int], ...], few: int | None
) -> list[tuple[float, int, int]]:
    return [(ratio, busy, count if few is None else few) for ratio, busy, count in counts]


if __name__ == "__main__":
    main()
