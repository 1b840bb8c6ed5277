"""The one result: draws by name, the names that users see, and the tree that ArviZ reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array, Integers
from bayou.errors import BayouError, Unsupported
from bayou.posterior.approximation import Approximation
from bayou.posterior.estimates import Estimates
from bayou.posterior.lazy import DrawnOnDemand
from bayou.posterior.names import (
    coordinate,
    dimensions,
    estimated_pairs,
    factor_names,
    file_name,
    hyperparameter_names,
    node_names,
)

if TYPE_CHECKING:
    import xarray as xr

    from bayou.design.structured import StructuredTerm
    from bayou.model import Model

__all__ = ["Posterior", "coordinate", "estimated_pairs", "factor_names", "file_name"]

MOMENTS = ("mean_b_", "sd_within_b_", "mean_f_", "sd_within_f_")
KEPT = ("b_", "f_")  # coefficients, of which an engine may keep some draws only


@dataclass(eq=False)
class Posterior:
    """Draws from the posterior of a model, whichever engine made them.

    Parameters
    ----------
    model
        The frozen model that was fitted.
    engine
        The settings of the engine, as they are printed.
    draws
        Arrays that begin with (chain, draw): ``beta`` (…, P), the dispersion (…) or (…, L) with
        ``sigma_by``, and for each grouping ``sd_g`` (…, p), ``cor_g`` (…, p, p) where coefficients
        are correlated, ``b_g`` (…, J, p) where the engine kept them. Here ``g`` is the factor's
        printed name (`names`). For each structured effect t its hyperparameters ``sd_t``, ``rho_t``, ``phi_t`` (…)
        and ``f_t`` (…, m), with ``by`` (…, R, m). The engine that keeps only some draws of b and f gives those, their
        numbers as ``info["effect_draws"]``, and running moments ``mean_b_g``, ``sd_within_b_g``
        (chain, J, p), which are moved to `moments`. A `DrawnOnDemand` is kept as it is, and drawn from when
        somebody looks at it.
    statistics
        Per draw, shape (chain, draw): log density, acceptance, divergences.
    info
        What can be said in JSON: seconds, seed, warmup, thin, messages (a list of sentences).
    group_statistics
        Per chain and level, e.g. ``acceptance_g`` (chain, J).
    estimates
        What an engine that maximises a likelihood found; None for samplers.
    approximation
        Marginal densities of an engine that approximates the posterior by them; None for others.
    """

    model: Model
    engine: str
    draws: Mapping[str, Array]
    statistics: dict[str, Array] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    group_statistics: dict[str, Array] = field(default_factory=dict)
    moments: dict[str, Array] = field(default_factory=dict)
    estimates: Estimates | None = None
    approximation: Approximation | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.draws, DrawnOnDemand):
            arrays = {k: np.asarray(v, dtype=np.float64) for k, v in self.draws.items()}
            self.moments |= {k: v for k, v in arrays.items() if k.startswith(MOMENTS)}
            self.draws = {k: v for k, v in arrays.items() if k not in self.moments}
        shapes = {self.shape(k)[:2] for k in self.draws if not k.startswith(KEPT)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise BayouError(f"The draws must share their leading (chain, draw) shape; they have {shapes}.")
        if self.estimates is not None and self.estimates.rows != tuple(self.rows):
            raise BayouError(f"The estimates are of {self.estimates.rows}, and the draws of {tuple(self.rows)}.")

    # ---- sizes and names -------------------------------------------------------------------

    @property
    def chains(self) -> int:
        """Number of chains."""
        return self._lead[0]

    @property
    def size(self) -> int:
        """Number of draws kept per chain."""
        return self._lead[1]

    @property
    def _lead(self) -> tuple[int, ...]:
        return self.shape(next(k for k in self.draws if not k.startswith(KEPT)))[:2]

    @property
    def chained(self) -> bool:
        """Whether the draws are of Markov chains: also where an approximation went on by one."""
        if self.approximation is not None:
            return bool(self.approximation.check.get("continued", False))
        return self.estimates is None

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of the draws of a variable without drawing them."""
        return self.draws.shapes[key] if isinstance(self.draws, DrawnOnDemand) else self.draws[key].shape

    @property
    def dispersion(self) -> str | None:
        """Name of the dispersion if it was estimated: ``sigma``, ``phi`` or ``shape``.

        In a family that has none of its own it is the factor ``phi`` on the variance, where an engine estimates one.
        """
        name = self.model.family.dispersion or "phi"
        return name if name in self.draws else None

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Printed name of each grouping factor."""
        design = self.model.design
        return factor_names([g.name for g in design.groupings], self.model.family.dispersion or self.dispersion)

    def flat(self, key: str) -> Array:
        """Return the draws of one variable with the chains laid end to end, shape (S, …)."""
        values = self.draws[key]
        return values.reshape(-1, *values.shape[2:])

    def group(self, kind: str, factor: str) -> Array | None:
        """Return the draws of ``b``, ``sd`` or ``cor`` of a factor, or None where there are none."""
        return self.draws.get(f"{kind}_{self.names[factor]}")

    def effects(self, factor: str) -> Array:
        """Return the draws of the group coefficients of a factor, shape (chain, draw, J, p).

        Raises
        ------
        Unsupported
            If the engine did not keep them.
        """
        draws = self.group("b", factor)
        if draws is None:
            raise Unsupported(
                f"The draws of the group coefficients of {factor!r} were not kept, to save memory. "
                "Fit again with keep_effects=True, or ask for groups='new', 'population' or 'marginal'."
            )
        return draws

    def running_moments(self, factor: str) -> tuple[Array, Array] | None:
        """Return means and sds (J, p) over all draws where not every draw of b was kept."""
        return self._moments(f"b_{self.names[factor]}")

    def _moments(self, key: str) -> tuple[Array, Array] | None:
        if f"mean_{key}" not in self.moments:
            return None
        means, sds = self.moments[f"mean_{key}"], self.moments[f"sd_within_{key}"]
        return means.mean(axis=0), np.sqrt(np.square(sds).mean(axis=0) + means.var(axis=0))

    @cached_property
    def structured(self) -> Mapping[str, StructuredTerm]:
        """The structured effects by name."""
        return {term.name: term for term in self.model.design.structured}

    def structured_draws(self, name: str) -> Array:
        """Return the draws of a structured effect, shape (chain, draw, R, m); R is 1 without ``by``.

        Raises
        ------
        Unsupported
            If the engine did not keep them.
        """
        key = f"f_{name}"
        if key not in self.draws:
            raise Unsupported(
                f"The draws of {key} were not kept, to save memory. Fit again with keep_effects=True, or with fewer "
                "draws."
            )
        values = self.draws[key]
        return values if values.ndim == 4 else values[:, :, None, :]

    def structured_moments(self, name: str) -> tuple[Array, Array] | None:
        """Return means and sds of f over all draws where not every draw was kept, shape (m,) or (R, m)."""
        return self._moments(f"f_{name}")

    def place(self, key: str) -> str:
        """Return the group of the tree in which a variable stands."""
        if key in self.statistics or key in self.group_statistics:
            return "sample_stats"
        whole = key in self.draws and self.shape(key)[1] == self.size
        return "posterior" if whole else "effects"

    @cached_property
    def effect_draws(self) -> Integers:
        """Numbers of the draws (within a chain) whose group coefficients were kept."""
        return np.asarray(self.info.get("effect_draws", np.arange(self.size)), dtype=np.int64)

    # ---- one number at a time --------------------------------------------------------------

    @cached_property
    def rows(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Where each summary row lives: name -> (variable, index), in the order of the summary."""
        design = self.model.design
        rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        if "beta" in self.draws:
            rows.update((f"beta[{c}]", ("beta", (k,))) for k, c in enumerate(design.coefficients))
        for grouping in design.groupings:
            name, columns = self.names[grouping.name], grouping.coefficients
            key = f"sd_{name}"
            if key in self.draws:
                rows.update((f"sd_{name}[{c}]", (key, (k,))) for k, c in enumerate(columns))
            key = f"cor_{name}"
            if key in self.draws:
                rows.update(
                    (f"cor_{name}[{columns[i]},{columns[j]}]", (key, (j, i)))
                    for i, j in estimated_pairs(grouping.blocks)
                )
        for term in self.structured:
            rows.update((key, (key, ())) for key in hyperparameter_names(term, self.draws))
        if self.dispersion:
            rows.update(self._dispersion_rows(self.dispersion))
        return rows

    def _dispersion_rows(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        if len(self.shape(name)) == 2:
            return {name: (name, ())}
        levels = self.model.design.sigma_levels
        return {f"{name}[{level}]": (name, (k,)) for k, level in enumerate(levels)}

    def effect_rows(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Where each coefficient lives: ``b_g[level,coefficient]`` of groups, ``f_t[3]`` of structured effects."""
        groups = {
            f"b_{self.names[g.name]}[{level},{c}]": (f"b_{self.names[g.name]}", (j, k))
            for g in self.model.design.groupings
            if f"b_{self.names[g.name]}" in self.draws
            for j, level in enumerate(g.levels)
            for k, c in enumerate(g.coefficients)
        }
        drawn = [term for term in self.structured.values() if f"f_{term.name}" in self.draws]
        return groups | {name: place for term in drawn for name, place in node_names(term).items()}

    def values(self, place: tuple[str, tuple[int, ...]]) -> Array:
        """Return the draws of one row, shape (chain, draw)."""
        key, index = place
        place_in_array: tuple[Any, ...] = (slice(None), slice(None), *index)
        return np.asarray(self.draws[key][place_in_array])

    def matrix(self, rows: Mapping[str, tuple[str, tuple[int, ...]]] | None = None) -> Array:
        """Return the draws of the summary rows, shape (rows, chain, draw)."""
        places = list((self.rows if rows is None else rows).values())
        return np.array([self.values(p) for p in places]).reshape(len(places), self.chains, -1)

    # ---- the tree --------------------------------------------------------------------------

    def datasets(self) -> dict[str, xr.Dataset]:
        """Return the groups of ArviZ's scheme that exist in memory, by name."""
        import xarray as xr

        design = self.model.design
        coords: dict[str, Any] = {
            "chain": np.arange(self.chains),
            "draw": np.arange(self.size),
            "coefficient": np.array(design.coefficients, dtype=object),
        }
        dims: dict[str, tuple[str, ...]] = {"beta": ("coefficient",)}
        for g in design.groupings:
            printed = self.names[g.name]
            name = file_name(printed)
            coords[name] = coordinate(g.levels)
            for dim in (f"{name}_coefficient", f"{name}_coefficient_bis"):
                coords[dim] = np.array(g.coefficients, dtype=object)
            pair = (name, f"{name}_coefficient")
            dims |= {
                f"b_{printed}": pair,
                f"mean_b_{printed}": pair,
                f"sd_within_b_{printed}": pair,
                f"sd_{printed}": (f"{name}_coefficient",),
                f"cor_{printed}": (f"{name}_coefficient", f"{name}_coefficient_bis"),
                f"acceptance_{printed}": (name,),
            }
        for term in self.structured.values():
            own = dimensions(term, coords, self.draws)
            dims |= {f"f_{term.name}": own, f"mean_f_{term.name}": own, f"sd_within_f_{term.name}": own}
        if self.dispersion and len(self.shape(self.dispersion)) == 3:
            dim = self._dispersion_dimension(coords)
            coords[dim] = coordinate(design.sigma_levels)
            dims[self.dispersion] = (dim,)

        def dataset(arrays: Mapping[str, Array], lead: tuple[str, ...]) -> xr.Dataset:
            variables: dict[str, Any] = {}
            used: set[str] = set()
            for key, values in arrays.items():
                own = dims.get(key, tuple(f"{file_name(key)}_{k}" for k in range(values.ndim - len(lead))))
                name = file_name(key)
                attributes = {} if name == key else {"original_name": key}
                variables[name] = (lead + own, values, attributes)
                used.update(lead + own)
            here = {d: coords[d] for d in coords if d in used}
            if any(v.shape[1] != self.size for v in arrays.values() if "draw" in lead):
                here["draw"] = self.effect_draws
            return xr.Dataset(variables, here)

        stored = {k: v for k, v in {**self.draws, **self.moments}.items() if v.size}
        full = {k: v for k, v in stored.items() if self.place(k) == "posterior"}
        statistics = dataset(self.statistics, ("chain", "draw"))
        statistics = statistics.merge(dataset(self.group_statistics, ("chain",)))
        from bayou.design.passes import beyond_memory

        large = beyond_memory(design)  # rows in files stay there
        rows = np.arange(0 if large else design.n)
        constants = {"trials": design.trials, "weights": design.weights, "offset": design.offset}
        if design.reduced is not None and design.reduced.how == "merged":
            constants["frequency"] = design.reduced.frequency  # how many rows as given each stands for
        if design.standard_errors is not None:
            constants["standard_errors"] = design.standard_errors
        part = {k: v for k, v in stored.items() if k in self.draws and k not in full}
        effects = dataset(part, ("chain", "draw"))
        effects = effects.merge(dataset({k: v for k, v in stored.items() if k in self.moments}, ("chain",)))
        return {
            **({"effects": effects} if part else {}),
            "posterior": dataset(full, ("chain", "draw")),
            "sample_stats": statistics,
            **({} if large else self._given_data(rows, constants, coords["coefficient"])),
        }

    def _given_data(self, rows: Integers, constants: dict[str, Array], coefficients: Any) -> dict[str, xr.Dataset]:
        """Return the rows of the fit as ArviZ's two groups of data."""
        import xarray as xr

        design = self.model.design
        fixed = {"X": (("row", "coefficient"), design.X)} if design.coefficients else {}
        observed: dict[str, Any] = {"response": design.response_name}
        if design.reduced is not None:
            observed |= {"rows_given": design.given, "rows_were": design.reduced.how}
        return {
            "observed_data": xr.Dataset({"y": ("row", design.y, observed)}, {"row": rows}),
            "constant_data": xr.Dataset(
                {**{k: ("row", v) for k, v in constants.items()}, **fixed}, {"row": rows, "coefficient": coefficients}
            ),
        }

    def _dispersion_dimension(self, coords: Mapping[str, Any]) -> str:
        """Share the factor's dimension when its levels are the same, else take a new one."""
        factor = str(self.model.design.sigma_by)
        name = file_name(factor_names([factor])[factor])
        while name in coords and not np.array_equal(coords[name], coordinate(self.model.design.sigma_levels)):
            name += "_"
        return name

    @cached_property
    def tree(self) -> xr.DataTree:
        """The result as an xarray DataTree in ArviZ's scheme; ``log_likelihood`` is computed when read."""
        import xarray as xr

        from bayou.predict.loo import lazy_log_likelihood

        groups = self.datasets() | {"log_likelihood": lazy_log_likelihood(self)}
        tree = xr.DataTree.from_dict({f"/{name}": data for name, data in groups.items()})
        tree.attrs.update(
            inference_library="bayou",
            engine=self.engine,
            formula=self.model.text,
            family=self.model.family.name,
        )
        return tree
