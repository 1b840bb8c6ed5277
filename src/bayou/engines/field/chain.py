"""One chain of the sampler of structured effects."""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.draws import Draws
from bayou.engines.field.centred import Centred
from bayou.engines.field.latent import elliptical_slice
from bayou.engines.field.proposals import Proposals
from bayou.engines.field.slices import slice_step
from bayou.engines.field.target import Seat, Target
from bayou.engines.tuning import next_boundary
from bayou.errors import Unsupported

ELLIPSES = 2  # moves of the coefficients a scan
EVERY = 4  # scans between two slices of one coordinate, where the posterior is not normal
STARTS = (1.0, 1.0, 1.0, 0.5, 0.25, 0.1, 0.0)


class FieldChain:
    """State: theta and, unless the Gaussian is exact, the normals z of the coefficients.

    A scan moves theta with z held by a random walk and by an independent t, now and then one coordinate by a slice;
    then, where the Gaussian is not exact, the coefficients by elliptical slices, and theta in the two other
    coordinates of `Centred`.

    Parameters
    ----------
    target
        The posterior.
    centre, spread
        Of theta: where the proposals begin.
    rng
        The chain's own generator.
    start
        Where to start; drawn around the centre if None.
    """

    def __init__(
        self, target: Target, centre: Array, spread: Array, rng: np.random.Generator, start: Array | None = None
    ) -> None:
        self.target, self.rng = target, rng
        self.proposals = Proposals(centre, spread)
        self.here, self.there = Seat(target), Seat(target)
        self.centred = None if target.exact else Centred(target)
        self.scan = 0
        self.accepted = 0.0
        d = len(centre)
        scales = STARTS if start is None else (0.0, *STARTS)
        for k, scale in enumerate(scales):
            first = centre if start is None or k else start
            theta = first + 1.5 * scale * spread @ rng.standard_normal(d)
            if self.here.sit(theta, self._normals()):
                break
        else:
            raise Unsupported(
                "The posterior cannot be computed at any starting value of the hyperparameters: look for responses or "
                "columns of extreme size, and bring them to another unit, or give tighter priors."
            )

    def _normals(self) -> Array:
        return np.zeros(0) if self.target.exact else self.rng.standard_normal(self.target.field.dimension)

    def boundary(self, scan: int) -> int:
        """Return the next refit."""
        return next_boundary(scan)

    def adapt(self, scan: int, warmup: int) -> None:
        """Fit the proposals to the draws of the warm-up, and freeze them at its end."""
        self.proposals.fit()
        self.proposals.frozen = scan >= warmup

    def advance(self, draws: int, thin: int, out: Draws) -> int:
        """Run draws x thin scans."""
        latent = self.target.latent
        for i in range(draws):
            self.accepted = 0.0
            for _ in range(thin):
                self._step()
                if not self.proposals.frozen:
                    self.proposals.seen.append(self.here.theta.copy())
            x = self.here.field.draw(self.rng, 1)[0] if self.target.exact else self.here.x
            out.dispersion[i] = self.here.theta
            out.beta[i] = x[latent:]
            if out.b.shape[1]:
                out.b[i] = x[:latent]
            if "accepted" in out.statistics:
                out.statistics["accepted"][i] = self.accepted / thin
        return draws

    def _step(self) -> None:
        if len(self.here.theta):
            self._walk()
            self._independent()
            if self.proposals.skewed and self.scan % EVERY == 0:
                self._slice((self.scan // EVERY) % len(self.here.theta))
        if self.centred is not None:
            for _ in range(ELLIPSES):
                elliptical_slice(self.here, self.rng)
            if len(self.here.theta) and self.centred.move(self.here, self.there, self.rng):
                self._swap()
        self.scan += 1

    def _swap(self) -> None:
        self.here, self.there = self.there, self.here

    def _try(self, theta: Array, correction: float) -> float:
        """Propose theta with z held; returns the chance with which it was accepted."""
        level = math.log(max(self.rng.random(), 1e-300))
        if not self.there.sit(theta, self.here.z):
            return 0.0
        gain = self.there.density - self.here.density + correction
        if level < gain:
            self._swap()
            self.accepted += 0.5
        return math.exp(min(gain, 0.0))

    def _walk(self) -> None:
        self.proposals.walked_with(self._try(self.proposals.walk(self.here.theta, self.rng), 0.0))

    def _independent(self) -> None:
        theta = self.proposals.independent(self.rng)
        back = self.proposals.log_density(self.here.theta)
        self._try(theta, back - self.proposals.log_density(theta))

    def _slice(self, k: int) -> None:
        """Move one coordinate of theta with z held."""
        theta, z = self.here.theta.copy(), self.here.z

        def density(t: float) -> float:
            tried = theta.copy()
            tried[k] = t
            return self.there.density if self.there.sit(tried, z) else -math.inf

        new, _ = slice_step(density, float(theta[k]), self.here.density, float(self.proposals.widths[k]), self.rng)
        if new != theta[k]:
            self._swap()  # the last point that was looked at is the one that was taken

    def group_statistics(self) -> dict[str, Array]:
        """Nothing by group."""
        return {}

    def snapshot(self) -> dict[str, Array]:
        """Return theta, z, and the proposals with what they are being tuned on."""
        own = {"theta": self.here.theta, "z": self.here.z, "x": self.here.x, "scan": np.array([float(self.scan)])}
        own |= {"ratio": np.array([self.here.ratio])}
        return {k: np.array(v) for k, v in own.items()} | self.proposals.snapshot()

    def restore(self, snapshot: dict[str, Array]) -> None:
        """Take up the state of a `snapshot`; the mode, searched from a fixed start, is found again to the bit."""
        self.scan = int(snapshot["scan"][0])
        self.proposals.restore(snapshot)
        self.here.sit(snapshot["theta"].copy(), snapshot["z"].copy())
        if not self.target.exact:
            self.here.x, self.here.ratio = snapshot["x"].copy(), float(snapshot["ratio"][0])
