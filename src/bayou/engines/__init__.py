"""Inference engines, one file each. Every engine is frozen settings with one method, `run`."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.engines.auto import Auto as Auto
    from bayou.engines.base import Engine as Engine
    from bayou.engines.gibbs import Gibbs as Gibbs
    from bayou.engines.inla import INLA as INLA
    from bayou.engines.laplace import Laplace as Laplace
    from bayou.engines.metropolis import Metropolis as Metropolis
    from bayou.engines.ml import ML as ML
    from bayou.engines.nuts import NUTS as NUTS
    from bayou.engines.pql import PQL as PQL
    from bayou.engines.quadrature import Quadrature as Quadrature
    from bayou.engines.reml import REML as REML

# imported when first used: an engine brings its kernels, and with them the compiler
NAMES = {
    "gibbs": "Gibbs",
    "metropolis": "Metropolis",
    "nuts": "NUTS",
    "ml": "ML",
    "reml": "REML",
    "laplace": "Laplace",
    "quadrature": "Quadrature",
    "pql": "PQL",
    "inla": "INLA",
    "auto": "Auto",
}
CLASSES = {**{name: module for module, name in NAMES.items()}, "Engine": "base"}

__all__ = ["INLA", "ML", "NUTS", "PQL", "REML", "Auto", "Engine", "Gibbs", "Laplace", "Metropolis", "Quadrature", "get"]


def __getattr__(name: str) -> Any:
    if name in CLASSES:
        return getattr(import_module(f"bayou.engines.{CLASSES[name]}"), name)
    raise AttributeError(f"module 'bayou.engines' has no attribute {name!r}")


def get(engine: str | Engine, **settings: Any) -> Engine:
    """Return the engine of this name with these settings, or the engine itself.

    Parameters
    ----------
    engine
        "gibbs", "metropolis", "nuts", "ml", "reml", "laplace", "quadrature", "pql", "inla",
        "auto", or an engine object.
    **settings
        Fields of the engine's class, such as ``draws=500``; they replace those of an engine object.

    Raises
    ------
    Unsupported
        For a name or a setting that does not exist, naming those that do.

    Examples
    --------
    >>> from bayou import engines
    >>> engines.get("gibbs", draws=500).draws
    500
    """
    from dataclasses import fields, replace

    if isinstance(engine, str):
        key = engine.strip().lower().replace("-", "_")
        if key not in NAMES:
            near = difflib.get_close_matches(key, NAMES, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise Unsupported(f"engine={engine!r} is not known.{hint} The engines are {', '.join(NAMES)}.")
        made: Engine = __getattr__(NAMES[key])()
    else:
        from bayou.engines.base import Engine

        if not isinstance(engine, Engine):
            raise Unsupported(
                f"engine is a {type(engine).__name__}; give a name ({', '.join(NAMES)}) or an engine such as "
                "bayou.engines.Gibbs(draws=2000)."
            )
        made = engine
    known = [f.name for f in fields(made)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise Unsupported(
                f"{name!r} is not a setting of {type(made).__name__}.{hint} Its settings are {', '.join(known)}."
            )
    return replace(made, **settings)
