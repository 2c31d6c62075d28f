"""The reduction of batch losses to the loss over all data.

- `reduction`: batch losses as means, as sums, or with weights.
- `reduction_inference`: which one it is, from batches, their parts and unions.
- `label_counts`: batches of sequences, by the number of labels that count.
- `comparison`: the loss of samples compared with those of two parts.
- `additivity`: a sum, a mean, or neither, by least squares.
"""
