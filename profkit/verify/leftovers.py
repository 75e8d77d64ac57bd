"""What a check that was killed left behind: told by the names of its directories."""

import re
from pathlib import Path

from ..probe.liveness import is_alive, process_facts
from ..schema.run import ProcessFacts
from ..scripts.workplace import PREFIX

_OWNED = re.compile(re.escape(PREFIX) + r"check-([0-9a-f]{16})-(\d{1,9})-(\d{1,12})-.*", re.ASCII)


def own_prefix() -> str:
    """How the names of this process's directories begin: with whose they are."""
    facts = process_facts()
    return f"{PREFIX}check-{facts.machine}-{facts.pid}-{facts.created_s:.0f}-"


def left_behind(parent: Path) -> list[Path]:
    """Such directories in a directory, whose process is no longer there."""
    try:
        return [one for one in parent.iterdir() if is_abandoned(one)]
    except OSError:
        return []


def is_abandoned(place: Path) -> bool:
    """Whether a check of this machine made it, and is gone."""
    found = _OWNED.fullmatch(place.name)
    if found is None:
        return False
    machine, pid, created_s = found.groups()
    return is_alive(ProcessFacts(int(pid), float(created_s), machine)) is False
