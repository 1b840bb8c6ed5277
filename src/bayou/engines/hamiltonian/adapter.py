"""The only file that knows nutpie: two of its private signatures, and its public way in as the fallback.

nutpie's compiled part takes a log density as the address of a C function; that is private, and what PyMC models use.
Where it has other signatures than those of 0.16, chains go through `from_pyfunc`, which calls Python for every
gradient. The compiled part is loaded by itself: the package around it imports arviz, which takes seconds.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.engines.hamiltonian.callback import put_down
from bayou.errors import Unsupported
from bayou.joint.pointer import call, log_density

if TYPE_CHECKING:
    from bayou.engines.hamiltonian.tape import Tape
    from bayou.joint import JointDensity

MODULE = "nutpie._lib"
LEAST_WARMUP = 20  # draws in which nutpie can find a step size; shorter ones it does not take
SIGNATURES = {  # what the pointers need of nutpie, as 0.16 has it
    "LogpFunc": "(ptr, user_data_ptr, keep_alive)",
    "ExpandFunc": "(dim, expanded_dim, ptr, user_data_ptr, keep_alive)",
    "PyMcModel": "(density, expand, variables, dim, dim_sizes, coords, init_func, transform_adapter)",
    "PySampler.from_pymc": "(settings, cores, model, progress_type, store)",
}
STATISTICS = {  # nutpie's name -> ArviZ's
    "logp": "lp",
    "energy": "energy",
    "diverging": "diverging",
    "depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "n_steps": "n_steps",
    "mean_tree_accept": "acceptance_rate",
    "step_size": "step_size",
}


@dataclass(frozen=True)
class Settings:
    """What nutpie is told of one chain."""

    draws: int
    warmup: int
    seed: int
    target_accept: float
    max_depth: int
    diagonal: bool  # mass matrix; one of low rank otherwise


@cache
def library() -> Any:
    """Return nutpie's compiled part.

    Raises
    ------
    Unsupported
        If nutpie is not installed or cannot be loaded.
    """
    if MODULE in sys.modules:
        return sys.modules[MODULE]
    package = find_spec("nutpie")
    folders = [] if package is None else [Path(p) for p in package.submodule_search_locations or ()]
    files = [f / f"_lib{end}" for f in folders for end in EXTENSION_SUFFIXES if (f / f"_lib{end}").is_file()]
    try:
        if files:
            spec = spec_from_file_location(MODULE, files[0])
            assert spec is not None and spec.loader is not None
            found = module_from_spec(spec)
            spec.loader.exec_module(found)
            sys.modules[MODULE] = found  # where a later `import nutpie` looks for it
            return found
        from nutpie import _lib

        return _lib
    except ImportError as error:
        raise Unsupported(
            f"engine='nuts' needs the package nutpie, which cannot be loaded here ({error}). "
            "Install nutpie>=0.16.8,<0.17, or use engine='metropolis', which samples the same models."
        ) from error


@cache
def takes_pointers() -> bool:
    """Whether nutpie's private signatures are those that this file knows."""
    for path, signature in SIGNATURES.items():
        found: Any = library()
        for name in path.split("."):
            found = getattr(found, name, None)
        if getattr(found, "__text_signature__", None) != signature:
            return False
    return True


class Run:
    """One chain of nutpie's, in a thread of its own.

    Parameters
    ----------
    density
        The joint log density.
    settings
        Of the chain.
    start
        Called for a starting point (size,), again if its log density is not finite.
    tape
        Where the draws go.

    Notes
    -----
    Where `takes_pointers` says no, Python is called for every gradient: the same draws, later.
    """

    def __init__(self, density: JointDensity, settings: Settings, start: Callable[[], Array], tape: Tape) -> None:
        make = _native if takes_pointers() else _called
        self._sampler, self._held = make(density, settings, start, tape)

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; True when the chain is finished.

        Raises
        ------
        Unsupported
            If the chain could not begin or broke off.
        """
        try:
            self._sampler.wait(seconds)
        except TimeoutError:
            return False
        except BaseException as error:  # a panic of nutpie's is no Exception
            if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
                raise
            said = str(error).split("Stack backtrace", 1)[0].strip().rstrip(".")
            raise Unsupported(
                f"NUTS could not sample this model: {said}. Give proper or tighter priors, or use engine='metropolis'."
            ) from error
        return True

    def stop(self) -> None:
        """End the chain; what it has made stays."""
        if not self._sampler.is_empty(ignore_error=True):
            self._sampler.abort()

    def statistics(self) -> dict[str, Array]:
        """Return what stands beside the draws, with those of the warm-up, under ArviZ's names; ends the run."""
        results = self._sampler.take_results()
        (batch,) = results.get_arrow_trace()[1]
        return {ours: np.asarray(batch.column(name).to_numpy(), dtype=np.float64) for name, ours in STATISTICS.items()}


def _arguments(library: Any, settings: Settings) -> Any:
    """Return nutpie's settings."""
    kind = library.PyNutsSettings.Diag if settings.diagonal else library.PyNutsSettings.LowRank
    made = kind(settings.seed)
    made.num_chains = 1
    made.num_tune, made.num_draws = settings.warmup, settings.draws
    made.target_accept = settings.target_accept
    made.maxdepth = settings.max_depth
    return made


def _native(density: JointDensity, settings: Settings, start: Callable[[], Array], tape: Tape) -> tuple[Any, Any]:
    """Start a chain by pointers: nutpie 0.16's private LogpFunc and ExpandFunc."""
    of = library()
    job = density.new_job()  # data shared by all chains, scratch of its own
    evaluate = log_density(job.kind)
    record = put_down(tape.packed.kind)
    size = density.size
    model = of.PyMcModel(
        of.LogpFunc(evaluate.address, job.address, (evaluate, job)),
        of.ExpandFunc(size, 1, record.address, tape.packed.address, (record, tape)),
        of.PyVariable.new_variables(["kept"], ["float64"], [()], {}, {}),
        size,
        {},
        {},
        lambda seed: start(),
        None,
    )
    run = of.PySampler.from_pymc(_arguments(of, settings), 1, model, of.ProgressType.none(), of.PyStorage.arrow())
    return run, model


def _called(density: JointDensity, settings: Settings, start: Callable[[], Array], tape: Tape) -> tuple[Any, Any]:
    """Start a chain through the public `from_pyfunc`; it needs all of nutpie, which imports arviz."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that nutpie imports
        from nutpie import sample
        from nutpie.compiled_pyfunc import from_pyfunc

    job = density.new_job()

    def evaluate(q: Array) -> tuple[float, Array]:
        gradient = np.zeros(density.size)
        value = call(job, np.array(q, dtype=np.float64), gradient)
        return (value, gradient) if np.isfinite(value + gradient.sum()) else (-np.inf, np.zeros(density.size))

    def expand(q: Array) -> dict[str, Array]:
        tape.put(q)
        return {"kept": np.zeros(())}

    model = from_pyfunc(
        density.size,
        lambda: evaluate,
        lambda seed1, seed2, chain: expand,
        [np.dtype(np.float64)],
        [()],
        ["kept"],
        make_initial_point_fn=lambda seed: start(),
    )
    background = sample(
        model,
        draws=settings.draws,
        tune=settings.warmup,
        chains=1,
        cores=1,
        seed=settings.seed,
        progress_bar=False,
        blocking=False,
        low_rank_modified_mass_matrix=not settings.diagonal,
        target_accept=settings.target_accept,
        maxdepth=settings.max_depth,
        return_raw_trace=True,
    )
    return background._sampler, background  # which ends the chain when nobody holds it
