"""What tests of rows that stream share: a reducer that keeps every row, and comparison with the design in memory."""

from dataclasses import fields, replace

import numpy as np

from bayou import design, families, formula
from bayou.design import Reduced, Remainder
from bayou.streaming import needs, open_source
from bayou.streaming.learning import learn
from bayou.streaming.passes import Passes
from bayou.streaming.sources import Table


def collected(template, blocks):
    """Every row of every block, one after the other: the slow reducer, and the design in memory."""
    parts = list(blocks())

    def joined(of):
        return np.concatenate([of(part) for part in parts])

    groupings = tuple(
        replace(g, codes=joined(lambda p, k=k: p.codes[k]), Z=joined(lambda p, k=k: p.Z[k]))
        for k, g in enumerate(template.groupings)
    )
    structured = []
    for k, term in enumerate(template.structured):
        rows = [part.structured[k] for part in parts]
        counts = np.concatenate([np.diff(r.start) for r in rows])
        structured.append(
            replace(
                term,
                start=np.append(0, np.cumsum(counts)),
                replicate=np.concatenate([r.replicate for r in rows]),
                node=np.concatenate([r.node for r in rows]),
                value=np.concatenate([r.value for r in rows]),
            )
        )
    known = parts[0].standard_errors is not None
    n = sum(part.n for part in parts)
    return replace(
        template,
        y=joined(lambda p: p.y),
        trials=joined(lambda p: p.trials),
        weights=joined(lambda p: p.weights),
        offset=joined(lambda p: p.offset),
        standard_errors=joined(lambda p: p.standard_errors) if known else None,
        X=joined(lambda p: p.X),
        groupings=groupings,
        sigma_codes=joined(lambda p: p.sigma_codes),
        structured=tuple(structured),
        index=joined(lambda p: p.index),
        reduced=Reduced("blocks", n, np.ones(n), Remainder.nothing(len(template.sigma_levels))),
    )


def streamed(text, data, family="gaussian", size=7, weights=None, sigma_by=None, missing="error", **options):
    """The design of rows read in blocks of `size`, with every row kept."""
    chosen = families.get(family)
    parsed = formula.parse(text, options.get("functions") or {})
    source = open_source(data) or Table(data)
    by = () if sigma_by is None else tuple(sigma_by.split(":"))
    needed = needs.needs_of(parsed, weights, by)
    stamp = source.stamp()
    learned = learn(
        source, parsed, chosen, needed, weights=weights, sigma_by=sigma_by, missing=missing, size=size, **options
    )
    passes = Passes(source, needed, learned, stamp, size)
    from bayou.streaming.reducing import with_crossing

    built = collected(learned.template, passes)
    return replace(built, notes=with_crossing(built)), learned, passes


def in_memory(text, data, family="gaussian", **options):
    """The design of the same rows in memory."""
    functions = options.get("functions") or {}
    return design.build(formula.parse(text, functions), data, families.get(family), **options)


def same(found, wanted):
    """Compare two designs in everything that engines and print-outs see."""
    assert found.coefficients == wanted.coefficients
    assert found.response_levels == wanted.response_levels
    assert found.notes == wanted.notes
    assert found.dropped == wanted.dropped
    for name in ("y", "trials", "weights", "offset", "X", "standard_errors"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(found.sigma_codes, wanted.sigma_codes)
    labels(found.sigma_levels, wanted.sigma_levels)
    np.testing.assert_array_equal(found.index, wanted.index)
    assert set(found.categories) == set(wanted.categories)
    for name, levels in wanted.categories.items():
        labels(found.categories[name], levels)
    assert len(found.groupings) == len(wanted.groupings)
    for one, other in zip(found.groupings, wanted.groupings, strict=True):
        assert (one.name, one.factors, one.coefficients, one.blocks) == (
            other.name,
            other.factors,
            other.coefficients,
            other.blocks,
        )
        labels(one.levels, other.levels)
        np.testing.assert_array_equal(one.codes, other.codes)
        assert one.codes.dtype == other.codes.dtype == np.int64
        np.testing.assert_allclose(one.Z, other.Z, rtol=1e-12, atol=1e-12)
    for one, other in zip(found.structured, wanted.structured, strict=True):
        assert (one.name, one.kind, one.by, one.options) == (other.name, other.kind, other.by, other.options)
        labels(one.nodes, other.nodes)
        labels(one.replicates, other.replicates)
        for name in ("start", "replicate", "node"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        np.testing.assert_allclose(one.value, other.value, rtol=1e-12, atol=1e-12)
        assert (one.coordinate is None) == (other.coordinate is None)
        if one.coordinate is not None:
            np.testing.assert_array_equal(one.coordinate, other.coordinate)


def labels(one, other):
    """Compare labels with their types."""
    assert [(type(a), a) for a in one] == [(type(b), b) for b in other]


def fields_of(value):
    """Return the names of the fields of a dataclass."""
    return [f.name for f in fields(value)]
