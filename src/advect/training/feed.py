"""Batches by number: which samples, which noise and which pairing are functions of (seed, stage, step, shard) alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from advect.batch import Batch
from advect.codecs import Codec, Identity
from advect.conditions import Conditions
from advect.data.base import Data
from advect.randomness import generator, randperm
from advect.transport import Transport


class Order:
    """The order of samples: a permutation per epoch, by seed; positions run on from epoch to epoch.

    Args:
        size: Number of samples.
        path: Seed path of the run, (seed, stage).
    """

    def __init__(self, size: int, path: tuple[int | str, ...]) -> None:
        self.size, self.path = size, path
        self._lock = threading.Lock()
        self._epochs: dict[int, Tensor] = {}

    def epoch(self, number: int) -> Tensor:
        """The permutation of one epoch; the latest few are kept."""
        with self._lock:
            if number not in self._epochs:
                self._epochs[number] = randperm(self.size, generator(*self.path, "order", number))
                for old in sorted(self._epochs)[:-3]:
                    del self._epochs[old]
            return self._epochs[number]

    def __call__(self, start: int, count: int) -> Tensor:
        """The sample numbers at positions start, ..., start + count - 1, shape (count,)."""
        epoch, place = divmod(start, self.size)
        pieces = []
        while count > 0:
            pieces.append(self.epoch(epoch)[place : place + count])
            count -= len(pieces[-1])
            epoch, place = epoch + 1, 0
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Feed:
    """From sample numbers to a batch that an objective can take: load, encode, drop conditions, draw x0 and pair.

    Args:
        data: Where samples come from (split "train").
        codec: Data to state.
        conditions: With their probabilities of being dropped.
        transport: Draws x0 and pairs.
        path: Seed path of the run, (seed, stage).
        batch_size: Samples per step.
        shards: Parts of a step's batch.
        device: Where batches go before they are encoded and paired.
        dtype: Floating type of batches.
    """

    def __init__(
        self,
        data: Data,
        codec: Codec,
        conditions: Conditions,
        transport: Transport,
        path: tuple[int | str, ...],
        batch_size: int,
        shards: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.data, self.codec, self.conditions, self.transport = data, codec, conditions, transport
        self.path, self.batch_size, self.shards = path, batch_size, shards
        self.device, self.dtype = device, dtype
        self.names = [item.name for item in conditions.items]
        self.order = Order(data.size("train"), path)

    def generator(self, step: int, shard: int, purpose: str) -> torch.Generator:
        """The random numbers of one purpose in one shard of one step, on the device of the training."""
        return generator(*self.path, step, shard, purpose, device=self.device)

    @torch.no_grad()
    def __call__(self, step: int, shard: int) -> Batch:
        size = self.batch_size // self.shards
        index = self.order(step * self.batch_size + shard * size, size)
        batch = self.data.batch("train", index, generator(*self.path, step, shard, "data"))
        if len(batch.cond) > len(self.names):
            batch = batch.replace(cond={name: batch.cond[name] for name in self.names})
        if batch.x1.dtype != self.dtype or batch.x1.device != self.device:
            batch = batch.to(self.device, self.dtype)
        if not isinstance(self.codec, Identity):
            draw = self.generator(step, shard, "encode")
            x0 = batch.x0 if batch.x0 is None else self.codec.encode(batch.x0, draw)
            batch = batch.replace(x1=self.codec.encode(batch.x1, draw), x0=x0)
        if self.conditions.drop:
            batch = self.conditions.drop_from(batch, self.generator(step, shard, "drop"))
        return self.transport.pair(batch, self.generator(step, shard, "pair"))


def ahead(
    make: Callable[[int, int], Batch], places: Iterator[tuple[int, int]], workers: int
) -> Generator[Batch, None, None]:
    """Yield ``make(step, shard)`` for every place in order; `workers` threads work on the next ones meanwhile."""
    if workers == 0:
        for place in places:
            yield make(*place)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="advect-feed")
    waiting: deque[Future[Batch]] = deque()
    try:
        for place in places:
            waiting.append(pool.submit(make, *place))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
