"""The runs of a ladder divided among the processes that `torchrun` started.

Each run is trained by one process: it has the bits that it has where one trains all, and
neither a batch of one row nor a model of one head has to be divided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from triptych.errors import Interrupted
from triptych.miniseries.points import Point
from triptych.miniseries.running import bits_of

POLL_SECONDS = 1.0  # runs take minutes


def divide(points: Sequence[Point], processes: int) -> list[list[Point]]:
    """The runs of each process, in order; the dearest goes first to who has least.

    That takes at most 4/3 of the shortest time there is (Graham 1969).
    """
    shares: list[list[Point]] = [[] for _ in range(processes)]
    for point in sorted(points, key=lambda point: point.flops, reverse=True):
        min(shares, key=lambda share: sum(p.flops for p in share)).append(point)
    return [[point for point in points if point in share] for share in shares]


def wait_for(points: Sequence[Point], should_stop: Callable[[], bool]) -> list[float]:
    """Held-out bits a byte of all runs, as soon as others have trained theirs.

    Raises:
        Interrupted: the process is to stop; the same call goes on.
    """
    while True:
        found = [bits_of(point) for point in points]
        bits = [value for value in found if value is not None]
        if len(bits) == len(points):
            return bits
        if should_stop():
            raise Interrupted(
                f"stopped while {len(points) - len(bits)} of {len(points)} runs were "
                "trained by other processes: run again to go on"
            )
        time.sleep(POLL_SECONDS)
