"""The next step of a PyTorch optimizer, and the curvature at which its steps are no longer stable."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eigencore.errors import UsageError
from eigencore.training import StepRule


def unwrapped_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside the wrappers of Lightning and Accelerate.

    Raises:
        UsageError: there is none.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"the optimizer is a {type(optimizer).__name__}; expected a torch.optim.Optimizer")
    return optimizer


def next_update(optimizer: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The step that an optimizer would make with these gradients: u, where it changes the weights by -lr u.

    A copy of the optimizer makes it in float64, whatever its kind, with its momentum, preconditioner and
    weight decay. If groups have different learning rates, lr is the largest.

    Args:
        gradients: the gradient of each parameter. For parameters that the optimizer lacks, u is zero.

    Returns:
        u for each parameter, in float64.

    Raises:
        UsageError: the copy can't make a step, as that of an optimizer that needs a closure.
    """
    copied = copy.deepcopy(optimizer)  # without hooks and schedulers
    largest = _largest_rate(optimizer)
    before: dict[Tensor, tuple[Tensor, Tensor]] = {}
    for group, own in zip(optimizer.param_groups, copied.param_groups, strict=True):
        own["lr"] = float(group["lr"]) / largest if largest else 1.0
        for p, q in zip(group["params"], own["params"], strict=True):
            q.data, q.grad = p.detach().to(torch.float64, copy=True), None
            if p in gradients:
                q.grad = gradients[p].to(p.device, torch.float64, copy=True)
            before[p] = q.detach().clone(), q
            state = copied.state.get(q, {})
            for name, x in state.items():
                if name != "step" and isinstance(x, Tensor) and x.is_floating_point() and x.shape == p.shape:
                    state[name] = x.double()
    try:
        copied.step()
    except Exception as error:
        name = type(optimizer).__name__
        raise UsageError(f"a copy of the optimizer, {name}, can't make a step: {error}") from error
    updates = {p: old - q.detach() for p, (old, q) in before.items()}
    zeros = {p: torch.zeros_like(g, dtype=torch.float64) for p, g in gradients.items() if p not in updates}
    return {**updates, **zeros}


def step_rule(optimizer: torch.optim.Optimizer) -> StepRule:
    """The learning rate of an optimizer, and the thresholds of stability of those that are known.

    SGD with momentum beta: (2 + 2 beta) / lr, with Nesterov's (2 + 2 beta) / ((1 + 2 beta) lr); both from
    Cohen et al. 2021 (arXiv:2103.00065), appendix B. Adam and AdamW: (2 + 2 beta_1) / ((1 - beta_1) lr) for
    the preconditioned Hessian (Cohen et al. 2022, arXiv:2207.14484); RMSprop as SGD, for it. A group with
    other settings than the others, and any other optimizer, has no threshold.
    """
    rate, known = _largest_rate(optimizer), [_threshold(optimizer, group) for group in optimizer.param_groups]
    threshold = known[0] if len(set(known)) == 1 else None
    plain = type(optimizer) is torch.optim.SGD
    return StepRule(rate, threshold if plain else None, threshold)


def _threshold(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float | None:
    """That of the exact types: a class that derives from one of them may make other steps."""
    kind, rate = type(optimizer), float(group["lr"])
    if not rate or group.get("maximize"):
        return None
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        beta = float(group["betas"][0])
        return (2 + 2 * beta) / ((1 - beta) * rate)
    if kind not in (torch.optim.SGD, torch.optim.RMSprop):
        return None
    beta = float(group["momentum"])
    if group.get("nesterov"):
        return (2 + 2 * beta) / ((1 + 2 * beta) * rate)
    damped = 1 - float(group.get("dampening", 0)) if beta else 1.0
    return (2 + 2 * beta) / (damped * rate) if damped > 0 else None


def _largest_rate(optimizer: torch.optim.Optimizer) -> float:
    return max(float(group["lr"]) for group in optimizer.param_groups)
