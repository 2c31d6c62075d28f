"""Figures and reports that a renderer must draw, with hard cases: gaps, zeros, many decades, odd text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eigencore.figures import Figure, Reference, Table
from eigencore.findings import AnalysisResult, Report

ODD = "<script>alert('odd')</script> & \"quotes\" </style><!-- ]]> $x$"

_x = np.linspace(-1.0, 1.0, 21)
_draws = np.random.default_rng(3)
_wide = np.concatenate([-np.geomspace(1e-3, 10.0, 20)[::-1], np.geomspace(1e-3, 100.0, 20)])
_samples = _draws.lognormal(size=60)
_pixels = _draws.random((3, 5, 5))

FIGURES = {
    "lines": Figure(
        "line",
        "Loss along directions",
        "step",
        "loss",
        {"x": _x, "v_1": _x**2, "v_2": 0.5 * _x**2, "random": np.where(np.abs(_x) < 0.2, np.nan, 0.1)},
        bands={"v_1": (_x**2 - 0.05, _x**2 + 0.1)},
        references=(Reference("y", 0.5, "threshold"), Reference("x", 0.0)),
        caption="Loss along three directions.",
    ),
    "density": Figure(
        "line",
        "Spectral density",
        "eigenvalue",
        "density",
        {"x": _wide, "density": np.exp(-np.abs(_wide) * 8)},
        atoms={"eigenvalues": (np.array([20.0, 60.0]), np.array([1e-4, 1e-4]))},
        references=(Reference("x", 0.0),),
        x_scale="symlog",
        y_scale="log",
        linear=1e-3,
    ),
    "scatter": Figure(
        "scatter",
        "Predicted and true distance",
        "distance",
        "radius",
        {"x": _samples, "r1": 0.9 * _samples, "within bounds": _samples * _draws.normal(1, 0.05, 60)},
        references=(Reference("diagonal", 1.0, "y = x"),),
        x_scale="log",
        y_scale="log",
    ),
    "ranks": Figure(
        "scatter",
        "Eigenvalues",
        "rank",
        "eigenvalue",
        {"x": np.arange(1, 4), "eigenvalue": np.array([3.0, 2.0, -1.0])},
        bands={"eigenvalue": (np.array([2.8, 1.5, -1.2]), np.array([3.2, 2.5, -0.8]))},
        references=(Reference("y", 0.0),),
    ),
    "bars": Figure(
        "bar",
        "Eigenvalues by layer",
        "eigenvalue",
        "layer",
        {"first": np.array([3.0, 1.0, 0.2]), "second": np.array([1.0, np.nan, 0.1])},
        bands={"first": (np.array([2.5, 0.8, 0.1]), np.array([3.5, 1.2, 0.3]))},
        references=(Reference("x", 3.2, "whole"),),
        labels=("conv1.weight", "a.very.long.name.of.a.parameter.of.a.transformer.weight", "head"),
    ),
    "bars on a logarithmic axis": Figure(
        "bar",
        "Eigenvalues by network",
        "eigenvalue",
        "network",
        {"first": np.array([300.0, 1.0, 0.02, 0.0])},
        labels=("a", "b", "c", "zero"),
        x_scale="log",
    ),
    "matrix": Figure(
        "matrix",
        "Couplings",
        "layer",
        "layer",
        {"coupling": np.array([[1.0, -0.5, 0.0], [-0.5, 2.0, 0.1], [0.0, 0.1, 0.3]])},
        labels=("a", "b", "c"),
    ),
    "images": Figure(
        "images",
        "Samples",
        "",
        "",
        {"input": _pixels, "perturbation": _pixels - 0.5, "in colour": _draws.random((3, 5, 5, 3))},
        labels=("3 → 5\nL2 0.1", "1 → 7\nL2 0.2", "0 → 6\nL2 0.9"),
        ranges={"input": (0.0, 1.0), "perturbation": (-0.5, 0.5)},
    ),
    "odd text": Figure(
        "line",
        "costs $x^2 and <b>&amp; \x00 $",
        "10 % of $\\alpha$",
        "<script>alert(1)</script>",
        {"x": np.arange(3.0), "<i>$": np.array([1.0, np.nan, 0.0]), "_hidden": np.zeros(3)},
        caption="<script>alert('caption')</script>",
    ),
}


def everything(text: str) -> Report:
    """A report with `text` in every place that holds text."""
    part = AnalysisResult(
        verdict=text,
        title=text,
        numbers={text: text, "a": 1.5, "none": None},
        tables={
            text: Table((text, "number"), ((text, 1.0), (None, 2.0))),
            "more": Table((text,), ((text,),)),
        },
        columns={"a": np.zeros(2)},
        figures=tuple(
            replace(FIGURES[name], title=text, caption=text, x_label=text, y_label=text)
            for name in ("bars", "images", "odd text")
        ),
        warnings=(text,),
        remarks=(text,),
        shown=(text,),
    )
    parts = {text: part, "verdict": replace(part, figures=())}
    return Report(text, (text,), parts, {text: text, "lines": f"{text}\n{text}"}, (text,))
