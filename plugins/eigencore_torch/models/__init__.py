"""The model of a problem: its weights, its copies, and the modules that it is used with.

- `params`: the parameters that an operator covers.
- `placement`: the device, data type and weights, and the copy made for them.
- `number_types`: types to compute with, and types that only store numbers.
- `wrappers`: modules that wrap a model.
- `related_modules`: modules that the model and the loss use.
- `checkpoint`: loading weights from a file.
- `checkpoint_names`: finding the model's weights among the entries of a file.
"""
