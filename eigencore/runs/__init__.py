"""Runs: their description, how they are saved and loaded, reported and compared.

- `result_json`: a run as one JSON object, and the JSON schema of that object.
- `folder`: a run as a folder: `result.json`, `vectors.npy`, `arrays.npz`.
- `unfinished`: the folder of a run that is in progress, or that was killed; `journal`: its products;
  `journal_file`, `stored_analysis`: how they are written.
- `manifest`: the arguments, options and versions of a run, and a digest of its problem.
- `config_text`: the file with which the command repeats a run.
- `reports`, with `eigen_findings` and `attack_findings`: the report of any result; `eigen_text` and
  `sampling_text`: eigenpairs as text.
- `rendering`: a report as figures or as a page.
- `comparison`, with `agreement` and `overlay`: several runs side by side.
- `stored_arrays`: the arrays of analyses that a folder holds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
