import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "agg")

# the same examples in every run: a failure can be rerun
settings.register_profile("bayou", derandomize=True, deadline=None, database=None)
settings.load_profile("bayou")


# a shell has its background jobs ignore Ctrl-C, and processes inherit that: those that tests begin must not
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference numbers and data beside the repository; a clone without them skips, by name."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip("needs ../shared (reference numbers and data), which is not beside this clone")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_240_229)
