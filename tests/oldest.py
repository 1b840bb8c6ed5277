"""Print the oldest versions that pyproject.toml allows, as constraints for pip: ``make oldest`` tests with them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def constraints(dependencies: list[str]) -> list[str]:
    """Return ``name==1.2.*`` for each ``name>=1.2`` or ``name>=1.2,<2``, its marker kept.

    >>> constraints(["numpy>=2.0", "rich>=13.7,<14; python_version < '3.12'"])
    ['numpy==2.0.*', "rich==13.7.*; python_version < '3.12'"]
    """
    out = []
    for line in dependencies:
        bounds, _, marker = line.partition(";")
        name, oldest = re.fullmatch(r"([\w.-]+)>=([\d.]+)(?:,.*)?", bounds.strip()).groups()
        out.append(f"{name}=={oldest}.*" + (f";{marker}" if marker else ""))
    return out


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    print("\n".join(constraints(project["dependencies"])))
