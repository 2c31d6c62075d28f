"""Checks of the model, data and loss before the first product.

- `problem_checks`: every batch and its loss.
- `target_checks`: targets against the outputs that they are compared with.
- `failure_hints`: what to write instead, for the usual reasons of a failure.
- `probe`: the gradient and the product against central differences.
- `probed_loss`: a loss on few samples, and its differences.
- `suspects`: what can make derivatives wrong without an error.
- `float64_mode`: computes in float64 what is requested in float32.
"""
