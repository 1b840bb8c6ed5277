"""Data frames of Dask, read partition by partition: the workers compute them, and no process holds all their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bayou.streaming import Source

AHEAD = 2  # partitions for each worker that are computed before they are asked for


def is_frame(data: Any) -> bool:
    """Whether this is a data frame of Dask; nothing is imported to find out."""
    return type(data).__module__.startswith("dask.") and hasattr(data, "npartitions") and hasattr(data, "columns")


class Partitions(Source):
    """A data frame of Dask, its columns computed by the workers of a client, anew for each pass.

    Parameters
    ----------
    data : dask.dataframe.DataFrame
    client : distributed.Client
    """

    def __init__(self, data: Any, client: Any) -> None:
        self.data, self.client = data, client
        self.what = f"a data frame of Dask with {data.npartitions} partitions"
        self.names = tuple(str(name) for name in data.columns)

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Return the columns of each partition, in the order of the partitions; some are computed ahead."""
        waiting = deque(self.data[list(columns)].to_delayed())
        ahead: deque[Any] = deque()
        try:
            while waiting or ahead:
                while waiting and len(ahead) < AHEAD * max(len(self.client.nthreads()), 1):
                    ahead.append(self.client.compute(waiting.popleft()))
                yield pa.Table.from_pandas(ahead.popleft().result(), preserve_index=False)
        finally:
            self.client.cancel(list(ahead))
