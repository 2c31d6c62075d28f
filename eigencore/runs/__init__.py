"""Runs: how one is described, written and read.

- `result_json`: a run as one JSON object, and the JSON schema of that object.
- `folder`: a run as a folder: `result.json`, `vectors.npy`, `arrays.npz`.
- `manifest`: how a run was made: arguments, options, versions, a digest of the problem.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
