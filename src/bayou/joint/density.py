"""The joint log density of everything unknown in a model, on the real line."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.conditional.field.component import components
from bayou.conditional.field.naming import (
    internal_coordinates,
    named_coefficients,
    named_hyperparameters,
)
from bayou.design.passes import require_memory
from bayou.errors import DataError
from bayou.joint.coordinates import Chooser, Chosen
from bayou.joint.evaluate import evaluate, pack, unpack
from bayou.joint.layout import bind_rows
from bayou.joint.pointer import call
from bayou.joint.priors import bind_fixed, bind_hyper, raw_of_fixed, raw_of_hyper
from bayou.joint.structures import bind_parts, shape_of
from bayou.joint.tables import Data, Job, new_work
from bayou.packed import packed
from bayou.priors.scalar import from_code

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["JointDensity", "joint_density"]

WIDE, SHRINK, TRIALS = 1.0, 0.7, 30  # spreads of a start, in those of the posterior


def joint_density(model: Model, coordinates: str = "auto") -> JointDensity:
    """Return the joint log density of everything unknown in a model.

    Parameters
    ----------
    model
        The model.
    coordinates
        "whitened" (coefficients are L z with z standard normal a priori), "centered" (coefficients themselves),
        "laplace" (the deviation from the mode, scaled by the curvature there), or "auto": whichever suits each block.

    Raises
    ------
    DataError
        No such coordinates.
    Unsupported
        A structured effect is too large for a dense basis.

    Examples
    --------
    >>> import bayou
    >>> from bayou.joint import joint_density
    >>> model = bayou.Model("score ~ ses + (1 | school)", bayou.datasets.load("school"))
    >>> density = joint_density(model, "whitened")
    >>> density.size, density.names[:4]
    (104, ('log sd_school[Intercept]', 'log sigma', 'beta[Intercept]', 'beta[ses]'))
    """
    return JointDensity(model, coordinates)


class JointDensity:
    """log p(y, x, theta) at positions q on the real line, log Jacobians in; see `joint_density`.

    q holds the hyperparameters, the logarithms of the dispersions, the working fixed effects, and the coefficients of
    each effect in coordinates of their own. All constants are in, so that the exponential integrates to p(y) where all
    priors are proper; improper priors have density one. Effects with constraints live on what these leave.

    Attributes
    ----------
    size
        Of a position.
    names
        Of its numbers.
    data, kernel
        What the compiled density reads, and the density itself for other kernels: `bayou.joint.evaluate.evaluate`.
        Code outside Python calls `bayou.joint.pointer.log_density`, with a job of `new_job` for each chain.
    proper
        Whether every prior integrates.
    """

    def __init__(self, model: Model, coordinates: str = "auto") -> None:
        require_memory(model.design, "This density")
        self.model = model
        self.kernel = evaluate
        self.levels = (
            0 if model.family.dispersion is None or model.dispersion_known else len(model.design.sigma_levels)
        )
        self.parts = components(model)
        shapes = [shape_of(part.effect) for part in self.parts]
        hyper, of_hyper = bind_hyper(model, self.parts, self.levels)
        fixed, of_fixed = bind_fixed(model)
        rows, of_rows = bind_rows(model, self.parts, shapes, self.levels)
        self._chooser = Chooser(model, self.parts, shapes, hyper, fixed)
        self._chosen: Chosen = self._chooser.choose(coordinates)
        bound, of_parts = bind_parts(model, self.parts, self._chosen.shapes, self._chosen.known)
        affine = self._chosen.affine
        constant = of_hyper + of_fixed + of_rows + of_parts + affine.log_volume
        self.data = Data(constant, hyper, fixed, bound, rows, affine.map)
        self._shapes = self._chosen.shapes
        self._work = new_work(self.data)
        self.job: Any = packed(Job(self.data, self._work))
        self.dimension = len(hyper.kind), len(fixed.mean), len(self._work.v) - len(fixed.mean)
        self.size = sum(self.dimension)

    def new_job(self) -> Any:
        """Return what the kernel takes, with scratch of its own: one for each chain."""
        return packed(Job(self.data, new_work(self.data)))

    def evaluate(self, q: ArrayLike) -> tuple[float, Array]:
        """Return the log density at q (size,) and its gradient (size,)."""
        at = np.ascontiguousarray(q, dtype=np.float64)
        if at.shape != (self.size,):
            raise DataError(f"a position has {self.size} numbers, not {at.shape}.")
        gradient = np.zeros(self.size)
        return call(self.job, at, gradient), gradient

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers of a position: of a mapped one, of what it belongs to in the first place."""
        out: list[str] = []
        design = self.model.design
        for part in self.parts:
            for h in part.effect.hyperparameters:
                place = f"[{h.label}]" if part.grouping >= 0 else ""
                out.append(f"{h.scale} {h.role}_{part.name}{place}")
        for level in range(self.levels):
            place = f"[{design.sigma_levels[level]}]" if design.sigma_by is not None else ""
            out.append(f"log {self.model.family.dispersion}{place}")
        columns = [(self.model.working_position(k), name) for k, name in enumerate(design.coefficients)]
        rest = [f"beta[{name}]" for _, name in sorted(columns)]
        for part, shape in zip(self.parts, self._shapes, strict=True):
            R, width = part.effect.replicates, shape.ranks + shape.free
            if part.grouping >= 0:
                g = design.groupings[part.grouping]
                rest += [f"b_{part.name}[{v},{g.coefficients[c]}]" for v in g.levels for c in part.columns]
            else:
                copies = [""] if design.structured[part.term].by is None else [f"{r}," for r in range(R)]
                rest += [f"f_{part.name}[{copy}{k}]" for copy in copies for k in range(width)]
        if self.data.map.sparse:
            rest = [rest[k] for k in self.data.map.symbolic.permutation]
        return (*out, *rest)

    @cached_property
    def proper(self) -> bool:
        """Whether every prior integrates: that of coefficients, too, which may leave directions free."""
        bound = self.model.bound
        made = [prior for priors in bound.structured for prior in priors]
        for block in bound.blocks:
            if block.kind == "sds":
                pairs = zip(block.sd_codes, block.sd_parameters, strict=True)
                made += [from_code(int(code), numbers) for code, numbers in pairs]
        if self.levels:
            made.append(from_code(bound.dispersion_code, bound.dispersion_parameters))
        free = bool(self.data.parts.free.any()) or bound.beta_flat.shape[1] > 0
        return not free and all(prior.proper for prior in made)

    def start(self, rng: np.random.Generator) -> Array:
        """Return a position (size,) of finite density, overdispersed around the mode.

        Raises
        ------
        DataError
            None was found in many trials.
        """
        for trial in range(TRIALS):
            q = self._chooser.start(rng, self._chosen, WIDE * SHRINK**trial)
            value, gradient = self.evaluate(q)
            if np.isfinite(value) and np.isfinite(gradient).all():
                return q
        raise DataError("no start with a finite density was found: look for extreme values in the data or the priors.")

    # ---- draws -----------------------------------------------------------------------------

    def natural(self, Q: ArrayLike) -> dict[str, Array]:
        """Return positions (…, size) by the names of the contract: beta as printed, sd_g, cor_g, b_g, f_name, ….

        Examples
        --------
        >>> import bayou, numpy as np
        >>> from bayou.joint import joint_density
        >>> model = bayou.Model("score ~ ses + (1 | school)", bayou.datasets.load("school"))
        >>> density = joint_density(model, "whitened")
        >>> {name: values.shape for name, values in density.natural(np.zeros((5, density.size))).items()}
        {'beta': (5, 2), 'sd_school': (5, 1), 'sigma': (5,), 'b_school': (5, 100, 1)}
        """
        given = np.asarray(Q, dtype=np.float64)
        flat = np.ascontiguousarray(given.reshape(-1, self.size))
        d, P, _ = self.dimension
        thetas, betas = np.empty((len(flat), d)), np.empty((len(flat), P))
        U = np.empty((len(flat), len(self._work.u)))
        unpack(self.job, flat, thetas, betas, U)
        names = self._factor_names()
        out = {"beta": betas, **named_hyperparameters(self.model, self.parts, thetas, self.levels, names)}
        out |= named_coefficients(self.model, self.parts, self._whole(U), names)
        return {name: values.reshape((*given.shape[:-1], *values.shape[1:])) for name, values in out.items()}

    def position(self, draws: Mapping[str, ArrayLike]) -> Array:
        """Return positions (…, size) of draws as `Posterior.draws` has them, the inverse of `natural`.

        Raises
        ------
        DataError
            A name is lacking.
        """
        lead = np.shape(draws["beta"])[:-1]
        S = int(np.prod(lead, dtype=np.int64))
        thetas, U = self._hyperparameters(draws, S), self._coefficients(draws, S)
        beta = np.asarray(draws["beta"], dtype=np.float64).reshape(S, -1)
        working = np.asarray(np.linalg.solve(self.model.working.to_printed, beta.T).T)
        raws, V = raw_of_hyper(self.data.hyper, thetas), raw_of_fixed(self.data.fixed, working)
        Q = np.empty((S, self.size))
        pack(self.job, np.ascontiguousarray(raws), np.ascontiguousarray(V), np.ascontiguousarray(U), Q)
        return self._chosen.affine.inverse(Q, self.dimension[0]).reshape(*lead, self.size)

    def _factor_names(self) -> dict[str, str]:
        from bayou.posterior import factor_names  # a word of the house above, for users

        return factor_names([g.name for g in self.model.design.groupings], self.model.family.dispersion)

    def _whole(self, U: Array) -> Array:
        """Return coefficients as `Component.place` has them: those that rows do not see are zero."""
        N = sum(part.size for part in self.parts)
        if U.shape[1] == N:
            return U
        out, at = np.zeros((len(U), N)), 0
        for part, shape in zip(self.parts, self._shapes, strict=True):
            R, m = part.effect.replicates, shape.size
            own = out[:, part.place].reshape(len(U), R, part.effect.size)
            own[:, :, :m] = U[:, at : at + R * m].reshape(len(U), R, m)
            out[:, part.place] = own.reshape(len(U), -1)
            at += R * m
        return out

    def _taken(self, draws: Mapping[str, ArrayLike], name: str, S: int) -> Array:
        if name not in draws:
            raise DataError(f"the draws lack {name}; a position needs every coefficient and hyperparameter.")
        values = np.asarray(draws[name], dtype=np.float64)
        lead = np.ndim(draws["beta"]) - 1
        return values.reshape(S, *values.shape[lead:])

    def _hyperparameters(self, draws: Mapping[str, ArrayLike], S: int) -> Array:
        names = self._factor_names()
        needed: dict[str, Array] = {}
        for part in self.parts:
            name = names.get(part.name, part.name)
            if part.grouping < 0:
                for h in part.effect.hyperparameters:
                    needed[f"{h.role}_{part.name}"] = self._taken(draws, f"{h.role}_{name}", S)
                continue
            needed[f"sd_{part.name}"] = self._taken(draws, f"sd_{name}", S)
            if len(part.columns) > 1:
                needed[f"cor_{part.name}"] = self._taken(draws, f"cor_{name}", S)
        dispersion = self.model.family.dispersion
        if self.levels and dispersion is not None:
            needed[dispersion] = self._taken(draws, dispersion, S)
        out = np.empty((S, self.dimension[0]))
        for s in range(S):
            theta = {name: values[s] for name, values in needed.items()}
            out[s] = internal_coordinates(self.parts, theta, dispersion, self.levels)
        return out

    def _coefficients(self, draws: Mapping[str, ArrayLike], S: int) -> Array:
        names = self._factor_names()
        found = [np.zeros((S, 0))]
        for part in self.parts:
            name = names.get(part.name, part.name)
            if part.grouping >= 0:
                found.append(self._taken(draws, f"b_{name}", S)[:, :, list(part.columns)].reshape(S, -1))
            else:
                found.append(self._taken(draws, f"f_{name}", S).reshape(S, -1))
        return np.concatenate(found, axis=1)

    def describe(self) -> list[str]:
        """Return sentences: the coordinates of each block, and why."""
        return list(self._chosen.lines)
