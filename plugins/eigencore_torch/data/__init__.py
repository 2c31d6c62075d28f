"""The batches of a problem: iterating, inspecting, converting, splitting and comparing them.

- `batches`: iterating over batches; describing, splitting and joining them.
- `transfers`: batches on their way to a GPU, each copied while the one before is in use.
- `batch_tensors`: the tensors in a batch, wherever it holds them.
- `signatures`: a number that depends on every bit of a tensor and on the order of its elements.
- `fingerprints`: by which changed data and weights are detected.
"""
