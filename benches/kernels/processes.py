"""Cases in processes of their own, of which one that dies costs its case alone.

A compiler that aborts, or memory that runs out, ends a process without an exception; a pool
of which one ended gives up all that it has not done.
"""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context


def in_processes(work, cases, jobs, died):
    """What `work(*case)` gives of each, in order; `died(*case)` of what ended its process."""
    if not cases:
        return []
    done = attempted(work, cases, jobs)
    left = [case for case in cases if case not in done]
    if left and len(cases) == 1:
        return [died(*left[0])]
    for half in (left[: len(left) // 2], left[len(left) // 2 :]):
        done |= dict(zip(half, in_processes(work, half, jobs, died), strict=True))
    return [done[case] for case in cases]


def attempted(work, cases, jobs):
    """By case, what was done until a process died."""
    with ProcessPoolExecutor(min(jobs, len(cases)), get_context("spawn")) as pool:
        futures = {case: pool.submit(work, *case) for case in cases}
    return {
        case: future.result()
        for case, future in futures.items()
        if not isinstance(future.exception(), BrokenProcessPool)
    }
