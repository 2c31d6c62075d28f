"""Constants found by running, in one place. `python benchmarks/momentum.py --constants` measures them all.

| constant         | measured                                                                               |
|------------------|----------------------------------------------------------------------------------------|
| TIE_TOLERANCE    | products on spectra whose k-th magnitude has both signs, and on bulks of one and of    |
| DAMPED_RANK      | both signs with gaps from 1e-1 to 1e-3, to tol 1e-6                                    |
| OTHER_END_PERIOD | products of `lobpcg` on these bulks, and wrong ends of 10 and -9.98, complete=None     |
"""

from __future__ import annotations

# Magnitudes within this relative distance count as tied; the damped range ends this far below tied ones.
TIE_TOLERANCE = 0.01
# The |eigenvalue| to damp is estimated by the singular value that is so far from the width of the block, 0,
# to that of the span, 1.
DAMPED_RANK = 0.5
# One step in so many of `lobpcg` also improves the Ritz vector of the end that has fewer wanted pairs.
OTHER_END_PERIOD = 8
