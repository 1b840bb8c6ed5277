"""Data frames of Dask: the columns that a model uses, fetched from the workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bayou.errors import DataError


def is_frame(data: Any) -> bool:
    """Whether this is a data frame of Dask; nothing is imported to find out."""
    return type(data).__module__.startswith("dask.") and hasattr(data, "npartitions") and hasattr(data, "columns")


def gathered(data: Any, columns: Iterable[str | None], client: Any) -> Any:
    """Return the columns of a data frame of Dask that are there, as one of pandas, in the order of the partitions.

    Raises
    ------
    DataError
        If a partition cannot be computed: what Dask says.
    """
    wanted = {name for name in columns if name is not None}
    # a column that is missing is named by the design, in its words
    used = [name for name in data.columns if name in wanted]
    try:
        return client.compute(data[used]).result()
    except Exception as error:  # whatever a partition's own code raises
        raise DataError(f"The data frame of Dask cannot be computed: {type(error).__name__}: {error}") from error
