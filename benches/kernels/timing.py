"""Times functions against each other on one device, forward and backward apart.

Repeats are interleaved, so that a clock that drifts drifts for all; the median is
reported. Between two measurements a buffer larger than any L2 cache is written, which
also lets the host run ahead: what is timed is the device, unless an implementation
itself waits for it or launches more slowly than it computes.
"""

import statistics
import sys
import time

import torch

FLUSH_BYTES = 512 << 20  # ten times an H100's L2


def require_gpu(device, otherwise):
    """Ends the program with a sentence where a GPU is asked for and torch sees none."""
    if device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"error: expected a GPU that torch sees, found none ({otherwise})")


class Clock:
    """Marks of time on a device; milliseconds between two of them."""

    def __init__(self, device):
        self.cuda = device == "cuda"
        size = FLUSH_BYTES // 4 if self.cuda else 1
        self.buffer = torch.empty(size, dtype=torch.int32, device=device)

    def flush(self):
        """Empties the cache and gives the host time to run ahead."""
        for _ in range(12):
            self.buffer.zero_()

    def mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, start, end):
        if not self.cuda:
            return (end - start) * 1e3
        end.synchronize()
        return start.elapsed_time(end)


def compare(functions, leaves, upstream, clock, repeats, budget_s=4.0):
    """Rows of medians by name, over `repeats` or what a budget of seconds allows.

    `functions` take the leaves and return one tensor or, if `upstream` is one, a tuple;
    without `upstream` there is no backward. One that raises has its error for a row: a
    peer that does not run here must not cost the others their times.
    """
    rows, running = {}, {}
    for name, function in functions.items():
        try:
            for _ in range(2):
                step(function, leaves, upstream, clock)
            rows[name] = {"peak_mib": peak_mib(function, leaves, upstream, clock)}
            running[name] = ([], [])
        except Exception as error:
            rows[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    stop = time.perf_counter() + budget_s
    for _ in range(repeats):
        for name, (forward, backward) in running.items():
            once = step(functions[name], leaves, upstream, clock)
            forward.append(once[0])
            backward.append(once[1])
        if time.perf_counter() > stop:
            break
    for name, (forward, backward) in running.items():
        rows[name]["forward_ms"] = statistics.median(forward)
        if upstream is not None:
            rows[name]["backward_ms"] = statistics.median(backward)
        rows[name]["repeats"] = len(forward)
    return rows


def step(function, leaves, upstream, clock):
    """Milliseconds of a forward and of a backward, 0 where there is none."""
    for leaf in leaves:
        leaf.grad = None
    clock.flush()
    marks = [clock.mark()]
    out = function(*leaves)
    marks.append(clock.mark())
    if upstream is None:
        return clock.milliseconds(*marks), 0.0
    clock.flush()
    marks.append(clock.mark())
    torch.autograd.backward(out, upstream)
    marks.append(clock.mark())
    return clock.milliseconds(*marks[:2]), clock.milliseconds(*marks[2:])


def peak_mib(function, leaves, upstream, clock):
    """Most memory held beside what was there, gradients included; MiB."""
    if not clock.cuda:
        return None
    for leaf in leaves:
        leaf.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out = function(*leaves)
    if upstream is not None:
        torch.autograd.backward(out, upstream)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def ceilings(clock):
    """What this device copies and multiplies at best: GB/s and bf16 TFLOP/s."""
    if not clock.cuda:
        return {}
    source = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), clock)
    a, b = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    product = timed(lambda: a @ b, clock)
    return {
        "copy_gb_s": 2 * source.nbytes / copy / 1e6,
        "bf16_tflop_s": 2 * 8192**3 / product / 1e9,
    }


def timed(function, clock, repeats=10):
    """Median milliseconds of a function by itself."""
    times = []
    for _ in range(repeats + 2):
        clock.flush()
        start = clock.mark()
        function()
        times.append(clock.milliseconds(start, clock.mark()))
    return statistics.median(times[2:])
