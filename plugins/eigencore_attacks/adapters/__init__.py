"""Attacks of foolbox and of AutoAttack, unmodified, on the classifier of any backend.

- `torch_model`: a classifier as a PyTorch module, on which these libraries work.
- `foolbox_attacks`, `autoattack`: their attacks as attacks of eigencore.

Nothing is imported before an attack is loaded.
"""
