"""The commands `eigen density`, `trace`, `diagonal` and `norms`."""

from __future__ import annotations

from eigencore.cli.analysis_command import analysis_command

PROBLEM = """PROBLEM is as for `eigen analyze`.

    Exit codes: as for `eigen analyze`."""

density = analysis_command(
    "density",
    k=10,
    help=f"""Estimate the spectral density of an operator of PROBLEM, with an error band.

    The top eigenpairs are computed first and are atoms of the density; the rest is estimated by Lanczos
    quadrature from random vectors. {PROBLEM}""",
)
trace = analysis_command(
    "trace",
    k=0,
    help=f"""Estimate the trace of an operator of PROBLEM, with an interval.

    {PROBLEM}""",
)
diagonal = analysis_command(
    "diagonal",
    k=0,
    help=f"""Estimate the diagonal of an operator of PROBLEM, with an interval for each entry.

    {PROBLEM}""",
)
norms = analysis_command(
    "norms",
    k=5,
    help=f"""Estimate norms of an operator of PROBLEM, its effective dimension and log-determinant.

    {PROBLEM}""",
)
