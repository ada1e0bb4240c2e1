"""How long a person labelled, and how many points an hour."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pointcover.labelling.point_log import Record, time_of

BREAK_S: Final = 120.0
"""A longer time between two actions is a break, and does not count."""

FIRST_S: Final = 5.0
"""Time that the first action after a break counts as."""


@dataclass(frozen=True)
class Pace:
    """The time of all people together, without breaks."""

    minutes: float
    points_per_hour: float | None
    """None before there is a minute."""


def measure_pace(records: Iterable[Record], points: int) -> Pace:
    """Measure the time from the actions of each person.

    Args:
        records: of the log.
        points: labelled ones.
    """
    seconds = 0.0
    last: dict[str, float] = {}
    for record in sorted(records, key=lambda one: one.time):
        now = time_of(record.time).timestamp()
        gap = now - last.get(record.author, float("-inf"))
        seconds += gap if gap <= BREAK_S else FIRST_S
        last[record.author] = now
    rate = points / seconds * 3600 if seconds >= 60 else None
    return Pace(round(seconds / 60, 1), None if rate is None else round(rate))
