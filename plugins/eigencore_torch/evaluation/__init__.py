"""How a loss is evaluated, and the restoration of everything that this changes.

- `preserved_state`: the context of every computation.
- `module_state`: buffers and Python data of modules.
- `modes`: evaluation mode, and where training mode differs.
- `precision`: switches for TF32 and for sums in 16 bits.
- `kernels`: the kernels of matrix products.
- `double_backward`: kernels whose second derivative is missing, wrong or slow.
- `chunked_logits`: cross-entropy of an output layer without all of its logits.
- `convolutions`: convolutions with a cheaper second derivative.
"""
