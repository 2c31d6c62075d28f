"""What backends have in common.

A plugin must not import another plugin, so logic that several backends need lives here. The functions work
on names, sizes and arrays, and import no framework.

- `kinds`: the operator of a kind that is registered for a backend.
- `minibatches`: random batches, weighted so that they estimate a sum over all batches without bias.
- `parameters`: the parameters that a pattern selects, and their positions in a flat vector.
- `flat_layout`: the selected weights, one after the other in a flat vector.
- `reductions`: whether a loss is a mean or a sum over samples.
- `derivatives`: comparing derivatives with central differences.
- `arguments`: checks of the arguments that every backend takes.
- `shapes`: checks of the shapes of inputs, labels and directions.
- `bounds`: the bounds of inputs, clipping to them, and the range of inputs.
- `image_axes`: the axis of an input that counts its channels, and rows as images.
- `demo`: data for demo problems, and the packages that they need.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
