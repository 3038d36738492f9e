"""The processes that train one model together, each on its share of a step's rows.

Every process holds the whole model. A step's rows are the same whatever the number of
processes; each takes a run of them, gradients are added up, and the sum is divided once,
by the count of the whole step. So another number changes rounding and nothing else, and a
checkpoint does not know how many there were.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from triptych.device import told_by_torchrun
from triptych.errors import ConfigError, IntegrityError
from triptych.train.parallel import nearest_divisors

# A process that waits this long for another one gives up. Evaluation and saving are done
# by one while the others wait.
TIMEOUT = timedelta(minutes=30)
# The name of a container may be known a little later than another one asks for it.
NAME_SECONDS = 60.0
SILENT_SECONDS = 15.0  # how long others are waited for at the start without a word
BUCKET_NUMBERS = (
    8 << 20
)  # 32 MiB of float32: few calls, little memory beside the gradients

logger = logging.getLogger("triptych.train")


class CopyLost(Exception):
    """A process is gone or was not heard: what was exchanged cannot be trusted."""


@dataclass(frozen=True)
class Ranks:
    """One process among `size`; alone by default.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        host_group: where numbers of the host are exchanged; None if alone.
        readers: neighbours that read the same rows.
        repeaters: neighbours, of these, that have the same sums, for a product is
            spread over them; the other readers have those of other tokens.
    """

    rank: int = 0
    size: int = 1
    host_group: Any = None
    readers: int = 1
    repeaters: int = 1

    @classmethod
    def current(cls, readers: int = 1, repeaters: int = 1) -> Ranks:
        """Those of torch.distributed where it is initialised; else alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        size = dist.get_world_size()
        if size == 1:
            return cls()
        return cls(
            dist.get_rank(),
            size,
            dist.new_group(backend="gloo", timeout=TIMEOUT),
            readers,
            repeaters,
        )

    def apart(self) -> Ranks:
        """The same processes, with a line of their own, for another thread to use."""
        return Ranks.current(self.readers, self.repeaters)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes what all share."""
        return self.rank == 0

    @property
    def place(self) -> tuple[int, int]:
        """Number of the share of a step's rows that is read here, and how many shares.

        Those that read the same rows count as one.
        """
        return self.rank // self.readers, self.size // self.readers

    def share(self, num_rows: int) -> range:
        """The rows of a step that are this process's: runs of one length, in order.

        Raises:
            ConfigError: the processes do not divide the rows.
        """
        self.require_shares([num_rows])
        number, count = self.place
        length = num_rows // count
        return range(number * length, (number + 1) * length)

    def require_shares(self, rows: Iterable[int]) -> None:
        """Refuses steps of so many rows each, unless these processes can share all.

        Raises:
            ConfigError: they do not divide one of the numbers; the nearest that do.
        """
        numbers = sorted(set(rows))
        (_, size), common = self.place, math.gcd(*numbers)
        if common % size == 0:
            return
        near = [n * self.readers for n in nearest_divisors(common, size)]
        times = f"{self.readers} times " if self.readers > 1 else ""
        raise ConfigError(
            f"processes: expected {times}a number that divides the "
            f"{' and '.join(map(str, numbers))} rows of a step, found {self.size}; "
            f"the nearest are {', '.join(map(str, near))}"
        )

    def gather_shares(self, value: Any) -> list[Any]:
        """`gather`, but one value for all that read the same rows."""
        return self.gather(value)[:: self.readers]

    def gather_sums(self, value: Any) -> list[Any]:
        """`gather`, but one value for all that have the same sums."""
        return self.gather(value)[:: self.repeaters]

    def gather(self, value: Any) -> list[Any]:
        """What every process gives, in order of ranks: anything that is JSON.

        It is also where processes wait for each other.
        """
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([own.numel()]), group=self.host_group)
        longest = int(max(lengths))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: own.numel()] = own
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.host_group)
        pairs = zip(parts, lengths, strict=True)
        return [json.loads(bytes(part[: int(n)].tolist())) for part, n in pairs]

    def add_totals(
        self, totals: Mapping[str, Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        """`add_sums` of the scalars of all processes, on the device, with the same bits.

        The host exchanges names only, and does not wait for the numbers.
        """
        if self.size == 1:
            return dict(totals)
        names = list(dict.fromkeys(chain.from_iterable(self.gather_sums([*totals]))))
        zero = torch.zeros((), dtype=torch.float64, device=device)
        own = torch.stack([totals.get(name, zero) for name in names])
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        added: Tensor = sum(parts[:: self.repeaters], start=torch.zeros_like(own))
        return dict(zip(names, added.unbind(), strict=True))

    def agree(self, value: Any, what: str) -> None:
        """Goes on only if every process has the same value, which is JSON.

        Raises:
            IntegrityError: they differ.
        """
        found = self.gather(value)
        if any(other != found[0] for other in found):
            raise IntegrityError(
                f"{what}: expected the same in all {self.size} processes, found "
                f"{found}; do they share one folder?"
            )

    def wait(self) -> None:
        """Waits for the others, between two steps."""
        self.gather(None)

    def add_up(self, tensor: Tensor) -> None:
        """Adds up a tensor of all processes, in place."""
        dist.all_reduce(tensor)

    def agreed(self, number: Tensor) -> Tensor:
        """A float32 scalar that each should have alike: the mean, on its device.

        Equal ones stay what they are, to the bit. If one process's memory has it wrong,
        all see the same, and none does a step again that the others go on from.
        """
        if self.size == 1:
            return number
        total = number.detach().double()  # sums of equal float32 numbers are exact
        self.add_up(total)
        return (total / self.size).to(number.dtype)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Adds up the gradients of all processes, in place.

        Where no process has a gradient, none has one afterwards.
        """
        if self.size == 1:
            return
        parameters = [p for p in parameters if p.requires_grad]
        has = self.gather([p.grad is not None for p in parameters])
        used = [p for p, *any_has in zip(parameters, *has, strict=True) if any(any_has)]
        sum_over(used, self.add_up)

    def same_start(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's numbers."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


def sum_over(parameters: Sequence[Tensor], add_up: Callable[[Tensor], object]) -> None:
    """Adds up gradients, in place, over the processes that `add_up` adds a tensor up of.

    They must give the same parameters; one without a gradient has 0.
    """
    for bucket in _buckets(parameters):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        add_up(flat)
        parts = torch.split(flat, [p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Parameters in order, of one type a bucket, few enough that a copy is small."""
    bucket: list[Tensor] = []
    numbers = 0  # in the bucket; experts may be thousands of small matrices
    for parameter in parameters:
        numbers += parameter.numel()
        if bucket and (numbers > BUCKET_NUMBERS or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, numbers = [], parameter.numel()
        bucket.append(parameter)
    if bucket:
        yield bucket


def add_sums(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Sums by name, added in the order given."""
    totals: dict[str, float] = {}
    for part in parts:
        for key, value in part.items():
            totals[key] = totals.get(key, 0.0) + value
    return totals


@contextmanager
def first_process_first() -> Iterator[None]:
    """Lets the first process through a block before the others, who find what it made.

    Raises:
        ConfigError: it could not make it; what it said, in the others.
    """
    ranks = Ranks.current()
    if not ranks.is_first:
        said = ranks.gather(None)[0]
        if said is not None:
            raise ConfigError(f"process 0: {said}")
        yield
        return
    try:
        yield
    except (ValueError, OSError) as error:
        ranks.gather(str(error))
        raise
    ranks.gather(None)


def num_processes() -> int:
    """How many `torchrun` started, or have joined without it; else 1."""
    if _joined_untold():
        return dist.get_world_size()
    return told_by_torchrun("WORLD_SIZE", 1)


def is_first_process() -> bool:
    """Whether this is the one that speaks for all, also before they have joined."""
    if _joined_untold():
        return dist.get_rank() == 0
    return num_processes() == 1 or os.environ.get("RANK", "0") == "0"


def _joined_untold() -> bool:
    """Whether torch.distributed knows of processes that the environment does not tell of.

    So it is with `torch.multiprocessing.spawn`, whose processes call
    `init_process_group` themselves.
    """
    untold = "WORLD_SIZE" not in os.environ
    return untold and dist.is_available() and dist.is_initialized()


@contextmanager
def alone() -> Iterator[tuple[int, int]]:
    """Within, this process trains by itself, whichever `torchrun` started beside it.

    Yields:
        Its number, from 0, and how many there are.
    """
    own = {"RANK": os.environ.get("RANK"), "WORLD_SIZE": os.environ.get("WORLD_SIZE")}
    number, count = told_by_torchrun("RANK", 0), num_processes()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1"}
    try:
        yield number, count
    finally:
        for name, value in own.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that `torchrun` started, where it did; leaves them at the end.

    Raises:
        ConfigError: they cannot be reached.
        ConnectionError: another one is gone, or was not heard in time.
    """
    if num_processes() == 1 or dist.is_initialized():
        yield
        return
    _require_number()
    _require_address()
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with _said_if_waiting(), _ended_by_signals():
            dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT: expected those that `torchrun` "
            f"sets, found {error}"
        ) from error
    try:
        yield
        dist.barrier()  # nobody leaves while another still talks to it
    except RuntimeError as error:
        if not _tells_of_another(error):
            raise
        raise ConnectionError(
            "another process of this run has ended or was not heard in time, found "
            f"{str(error).strip().splitlines()[0]}; what it said comes before or behind "
            "this; started again, all go on from the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within, SIGTERM and Ctrl-C end the process, as nothing is lost yet.

    Handlers in Python would wait for torch, which waits for others for half an hour.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python lets nobody set a handler
        return
    stops = (signal.SIGTERM, signal.SIGINT)
    before: list[Any] = [signal.signal(stop, signal.SIG_DFL) for stop in stops]
    try:
        yield
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler or signal.SIG_DFL)  # None: not Python's


def _require_number() -> None:
    """Refuses a number that none of the processes has: it would be waited for in vain."""
    number, count = told_by_torchrun("RANK", 0), num_processes()
    if number >= count:
        raise ConfigError(
            f"RANK: expected 0 to {count - 1}, of {count} processes (WORLD_SIZE), found "
            f"{number}"
        )


def _require_address() -> None:
    """Refuses a name that no machine has: torch would ask for it as long as for others."""
    host, end = os.environ.get("MASTER_ADDR"), time.monotonic() + NAME_SECONDS
    while host is not None:  # torch says it if there is none
        try:
            socket.getaddrinfo(host, None)
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() >= end:
                raise ConfigError(
                    "MASTER_ADDR: expected the name or address of the machine of process "
                    f"0, found `{host:.255}`, which is none within {NAME_SECONDS:.0f} "
                    f"seconds: {error}"
                ) from None
        time.sleep(min(1.0, NAME_SECONDS))


@contextmanager
def _said_if_waiting() -> Iterator[None]:
    """Within, says whom this process waits for, if that takes long."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    said = threading.Timer(
        SILENT_SECONDS,
        logger.warning,
        [
            "process %s waits for the others of %d, at %s, for at most %d minutes",
            *(os.environ.get("RANK"), num_processes(), place),
            TIMEOUT.total_seconds() // 60,
        ],
    )
    said.daemon = True
    said.start()
    try:
        yield
    finally:
        said.cancel()


def _tells_of_another(error: RuntimeError) -> bool:
    """Whether an exchange failed; gloo says so by no class of its own."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)
