"""Monitoring: the curvature of a network's loss while the network is trained.

- `monitor`: the class `Monitor`.
- `quantities`: what a look computes, by name.
- `tracked_pairs`: the top eigenpairs from one look to the next, each solve from the vectors of the last one.
- `critical_step`: the smallest step along an update at which the loss exceeds the present one.
- `look_schedule`: at which steps looks take place, and what they cost.
- `look_rows`: what one look found, as a row of a table and as a line of a file.
- `monitor_findings`: the rows as findings, with figures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
