"""Runs: their description, and how they are saved and loaded.

- `result_json`: a run as one JSON object, and the JSON schema of that object.
- `folder`: a run as a folder: `result.json`, `vectors.npy`, `arrays.npz`.
- `manifest`: the arguments, options and versions of a run, and a digest of its problem.
- `config_text`: the file with which the command repeats a run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
