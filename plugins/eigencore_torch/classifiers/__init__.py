"""A network as a classifier.

- `classification`: whether a problem is a classification; its samples.
- `classifier`: logits and their derivatives over the input.
- `outputs`: the logits in what a network returns.
"""
