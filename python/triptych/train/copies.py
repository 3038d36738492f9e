"""Copies of a model, of which each is a process that may die or join: by torchft.

A lighthouse, a process of torchft's that all copies reach, says before every step who is
there: the quorum. Who is behind is given the state of the others (see `joining`). Sums are
exchanged by gloo, through the host's memory.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, TCPStore  # type: ignore[attr-defined]
from torchft import Manager, ProcessGroupGloo

from triptych.errors import ConfigError, IntegrityError
from triptych.train.checkpoint import Snapshot
from triptych.train.joining import Joining
from triptych.train.ranks import TIMEOUT, CopyLost, Ranks

# Seconds, unless these variables of torchft's say otherwise, after which a copy that is not
# heard counts as lost (one whose process ends is missed at once), after which no quorum is
# waited for, and after which the lighthouse is not either.
SECONDS = {
    "TORCHFT_TIMEOUT_SEC": 60,
    "TORCHFT_QUORUM_TIMEOUT_SEC": int(TIMEOUT.total_seconds()),
    "TORCHFT_CONNECT_TIMEOUT_SEC": 60,
}


class Copies(Ranks):
    """One copy among those of the present quorum; alone before the first one.

    Args:
        output: folder of the run, which all copies share.
        take: the run as it stands, for one that is behind.
        load: goes to where a checkpoint stands.
    """

    def __init__(
        self,
        output: Path,
        take: Callable[[], Snapshot],
        load: Callable[[Path], None],
    ) -> None:
        self._timeout, self._quorum_timeout, self._connect_timeout = map(
            _seconds, SECONDS
        )
        self._take, self._load = take, load
        self._rank, self._size, self._first = 0, 1, False
        self._meets = False
        # The quorum that did the last step; None if its result was read from files.
        self.done_by: int | None = None
        # Where the state of the others is, if this one lacks it.
        self._behind: Path | None = None
        self._group = _Group(self._timeout)
        self._joining = Joining(output / "joining")
        self._manager: Any = None  # until this copy joins

    def join(self) -> None:
        """Lets the lighthouse hear of this copy, which must soon `meet` the others.

        Raises:
            ConnectionError: it is not reached.
        """
        host = socket.gethostname()
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        with _reaching_the_lighthouse():
            self._manager = Manager(
                pg=self._group,
                load_state_dict=self._note,
                state_dict=self._take,
                min_replica_size=1,
                use_async_quorum=False,
                timeout=self._timeout,
                quorum_timeout=self._quorum_timeout,
                connect_timeout=self._connect_timeout,
                rank=0,
                world_size=1,
                store_addr=host,
                store_port=self._store.port,
                replica_id=os.environ.get("REPLICA_GROUP_ID"),
                checkpoint_transport=self._joining,
            )

    @property
    def rank(self) -> int:
        """Number of this copy in the quorum."""
        return self._rank

    @property
    def size(self) -> int:
        """How many copies are in the quorum."""
        return self._size

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes what all share: in a quorum, number 0."""
        return self._first

    def share(self, num_rows: int) -> range:
        """The rows of a step that are this copy's; lengths differ by one at most."""
        first, end = (num_rows * n // self.size for n in (self.rank, self.rank + 1))
        return range(first, end)

    def require_shares(self, rows: Iterable[int]) -> None:
        """Any number will do."""

    def meet(self, step: int) -> bool:
        """Waits for a quorum; a copy that is behind goes to where the others stand.

        Args:
            step: steps that this copy has done; behind is who has done fewer than
                another, and before the first step all but one.

        Returns:
            Whether it is another quorum than before.

        Raises:
            CopyLost: it could not be made to work; another one may.
            ConnectionError: there is none, as the lighthouse is not reached or has not
                as many copies as it wants.
        """
        if self._manager is None:
            self.join()
        self._meets = True
        self._manager.load_state_dict({"step": step, "batches_committed": 0})
        with _reaching_the_lighthouse():
            self._manager.start_quorum()
        self._rank = self._manager.participating_rank() or 0
        self._size = self._manager.num_participants()
        self._first = self._rank == 0
        self._check()
        self._heal()
        is_new, self._group.is_new = self._group.is_new, False
        return is_new

    def commit(self) -> None:
        """Ends what began with `meet`: the step counts.

        Raises:
            CopyLost: it does not, for this copy at least.
        """
        self._meets = False
        if not self._manager.should_commit():
            raise CopyLost("the step is not committed")
        self.done_by = self._group.quorum

    def give_up(self, why: str) -> None:
        """Ends it without the step, and lets the others notice."""
        # Who only waits for a copy that has given up is not told by the one that died:
        # of four, the others stood still until the timeout.
        self._group.abort()
        if self._meets:
            self._meets = False
            self._manager.report_error(CopyLost(why))
            self._manager.should_commit()

    def leave(self) -> None:
        """Takes no further part; must be called once."""
        self._group.abort()
        if self._manager is not None:
            self._manager.shutdown()

    def clear(self) -> None:
        """Removes what was written for copies that were behind: they are no longer."""
        self._joining.clear()

    def wait(self) -> None:
        """Does nothing: the next quorum is where copies wait for each other."""

    def gather(self, value: Any) -> list[Any]:
        """What every copy gives, which is JSON; outside of a step it is on its own.

        Raises:
            CopyLost: it cannot be known.
        """
        if not self._meets or self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = own.numel()
        self.add_up(lengths)
        # A row a copy and zeros elsewhere, since sums are what the Manager exchanges.
        parts = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
        parts[self.rank, : own.numel()] = own
        self.add_up(parts)
        pairs = zip(parts, lengths, strict=True)
        return [json.loads(bytes(part[: int(n)].tolist())) for part, n in pairs]

    def add_up(self, tensor: Tensor) -> None:
        """Adds up a tensor of all copies, in place, through the host's memory.

        Raises:
            CopyLost: one did not give its own.
        """
        here = tensor.cpu()
        self._manager.allreduce(here, reduce_op=ReduceOp.SUM).wait()
        self._check()
        if here is not tensor:
            tensor.copy_(here)

    def same_start(self, tensors: Any) -> None:
        """Does nothing: at the first quorum of a run all but one are behind."""

    def _note(self, folder: Path) -> None:
        self._behind = folder

    def _heal(self) -> None:
        folder, self._behind = self._behind, None
        if folder is None:
            return
        self.done_by = None
        try:
            self._load(folder)
        except (OSError, IntegrityError) as error:
            if folder.exists():
                raise
            raise CopyLost("the others went on before this copy had joined") from error

    def _check(self) -> None:
        error = self._manager.errored()
        if error is not None:
            raise CopyLost(str(error.original_exception).strip().split("\n")[0])


def _seconds(name: str) -> timedelta:
    given = os.environ.get(name, str(SECONDS[name]))
    if not given.isdecimal():
        raise ConfigError(f"{name}: expected a whole number of seconds, found {given}")
    return timedelta(seconds=int(given))


@contextmanager
def _reaching_the_lighthouse() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, TimeoutError) as error:
        raise ConnectionError(
            "TORCHFT_LIGHTHOUSE: expected a lighthouse that gives a quorum at "
            f"{os.environ.get('TORCHFT_LIGHTHOUSE')}, found {error}"
        ) from error


class _Group(ProcessGroupGloo):  # type: ignore[misc]
    """gloo, which tells whether it has been set up again, and for which quorum."""

    is_new, quorum = False, 0

    def configure(
        self,
        store_addr: str,
        replica_id: str,
        rank: int,
        world_size: int,
        quorum_id: int = 0,
        *others: Any,
    ) -> None:
        super().configure(store_addr, replica_id, rank, world_size, quorum_id, *others)
        self.is_new, self.quorum = True, quorum_id
