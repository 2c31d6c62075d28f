"""PyTorch models while they are trained, for `eigencore.Monitor`.

- `torch_training`: the model at the moment of a look.
- `optimizer_steps`: the next step of an optimizer, and the curvature at which its steps are no longer stable.
- `lightning`, `hugging_face`: callbacks for Lightning and for the Trainer of Hugging Face.
"""
