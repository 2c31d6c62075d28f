"""The diagonal preconditioner P of a PyTorch optimizer, from the optimizer itself or from a checkpoint.

    SGD        P = I
    RMSprop    P = sqrt(v) + eps, with v minus the square of the average gradient in place of v if centred
    Adam(W)    P = (1 - beta_1^t) (sqrt(v / (1 - beta_2^t)) + eps), with the largest v so far for amsgrad

v is the running average of squared gradients, and t the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.models import checkpoint
from eigencore_torch.models.checkpoint_names import without_wrappers
from eigencore_torch.models.params import Layout

KNOWN = (torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW)
NAMES = ", ".join(kind.__name__ for kind in KNOWN)
# Under one of these names, training loops save the state_dict of the optimizer in a checkpoint.
KEYS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optim", "optimizer_state")
GIVE = "Give Problem(optimizer=...), the optimizer that trained the model."
# A state_dict does not name its optimizer; these settings of a group are those of one only. NAdam and RAdam,
# whose steps are others, have no `amsgrad`.
SETTINGS = {
    "SGD": {"momentum", "dampening", "nesterov"},
    "RMSprop": {"alpha", "eps", "centered"},
    "Adam": {"betas", "eps", "amsgrad"},
}


@dataclass(frozen=True)
class ParameterState:
    """What an optimizer stores for one parameter, and the settings of its group."""

    values: Mapping[str, Any]
    settings: Mapping[str, Any]

    def preconditioner(self, name: str, parameter: Tensor) -> Tensor:
        """The diagonal of P in the shape of the parameter.

        Raises:
            ProblemError: the optimizer is not known, has not made a step with the parameter, or stores
                another shape.
        """
        kind = _kind_of(self.settings)
        if kind == "SGD":
            return torch.ones_like(parameter)
        if not {"exp_avg_sq", "square_avg"} & self.values.keys():
            raise ProblemError(
                f"the optimizer has no state for {name}: it has not made a step with this parameter",
                hint="Give an optimizer that has made at least one step, or select other parameters.",
            )
        found = self._adam() if kind == "Adam" else self._rmsprop()
        if found.shape != parameter.shape:
            raise ProblemError(
                f"the state of the optimizer for {name} has shape {tuple(found.shape)}; expected "
                f"{tuple(parameter.shape)}",
                hint=GIVE,
            )
        if not bool(((found > 0) & found.isfinite()).all()):
            raise ProblemError(
                f"the preconditioner of {name} has numbers that are zero or not finite",
                hint="Train with eps > 0, or select other parameters: P^-1/2 does not exist.",
            )
        return found

    def _adam(self) -> Tensor:
        beta1, beta2 = (float(beta) for beta in self.settings["betas"])
        t, eps = float(self.values["step"]), float(self.settings["eps"])
        largest = self.values["max_exp_avg_sq"] if self.settings.get("amsgrad") else self.values["exp_avg_sq"]
        unscaled: Tensor = (largest / (1 - beta2**t)).sqrt() + eps
        return unscaled.mul(1 - beta1**t)

    def _rmsprop(self) -> Tensor:
        v: Tensor = self.values["square_avg"]
        if self.settings.get("centered"):
            v = (v - self.values["grad_avg"] ** 2).clamp(min=0)
        return v.sqrt() + float(self.settings["eps"])


def _kind_of(settings: Mapping[str, Any]) -> str:
    for kind, wanted in SETTINGS.items():
        if wanted <= settings.keys():
            return kind
    raise ProblemError(
        f"the optimizer has the settings {', '.join(sorted(settings))}, which are those of none of {NAMES}"
    )


def preconditioners(
    optimizer: Any, file: str | Path | None, model: nn.Module, given: nn.Module, layout: Layout
) -> list[Tensor]:
    """The diagonal of P for each parameter of the layout.

    Args:
        optimizer: the optimizer of the problem, or None.
        file: the checkpoint of the problem, or None.
        model: the model with the layout's parameters, which may be a copy.
        given: the model of the problem, whose parameters the optimizer has.

    Raises:
        ProblemError: there is no optimizer, or one that is not known, or it lacks a parameter.
    """
    originals = dict(zip(model.parameters(), given.parameters(), strict=True))
    wanted = dict(zip(layout.names, (originals[p] for p in layout.parameters), strict=True))
    states = _of_optimizer(optimizer) if optimizer is not None else _of_checkpoint(file, given)
    for name, parameter in wanted.items():
        if parameter not in states:
            raise ProblemError(
                f"the optimizer does not have {name}",
                hint="Give the optimizer of this model, or select other parameters.",
            )
    with torch.no_grad():
        return [states[parameter].preconditioner(name, parameter) for name, parameter in wanted.items()]


def _of_optimizer(optimizer: Any) -> dict[Tensor, ParameterState]:
    # The exact types: a class that derives from one of them may make other steps.
    if type(optimizer) not in KNOWN:
        raise ProblemError(f"the optimizer is a {type(optimizer).__name__}; expected one of {NAMES}")
    return {
        p: ParameterState(optimizer.state.get(p, {}), group)
        for group in optimizer.param_groups
        for p in group["params"]
    }


def _of_checkpoint(file: str | Path | None, given: nn.Module) -> dict[Tensor, ParameterState]:
    """The states in a checkpoint, whose parameters are numbered in the order of the optimizer's groups."""
    if file is None:
        raise ProblemError("the kind preconditioned needs the optimizer that trained the model", hint=GIVE)
    saved = _state_dict_in(checkpoint.read(Path(file)))
    if saved is None:
        raise ProblemError(f"{Path(file).name} has no state of an optimizer", hint=GIVE)
    numbered = [(number, group) for group in saved["param_groups"] for number in group["params"]]
    parameters = _in_the_same_order(saved["param_groups"], len(numbered), given)
    return {
        p: ParameterState(saved["state"].get(number, {}), group)
        for p, (number, group) in zip(parameters, numbered, strict=True)
    }


def _state_dict_in(saved: Any) -> Mapping[str, Any] | None:
    for key in KEYS:
        found = saved.get(key) if isinstance(saved, Mapping) else None
        found = found[0] if isinstance(found, Sequence) and len(found) == 1 else found
        if isinstance(found, Mapping) and {"state", "param_groups"} <= found.keys():
            return found
    return None


def _in_the_same_order(
    groups: Sequence[Mapping[str, Any]], count: int, given: nn.Module
) -> list[nn.Parameter]:
    """The parameters of the model in the order of the groups: by their saved names, or in the model's order.

    Raises:
        ProblemError: the order is unknown, because parameters have no names and are in several groups; or the
            model does not have a parameter of that name.
    """
    if all("param_names" in group for group in groups):
        known = {without_wrappers(name): p for name, p in given.named_parameters(remove_duplicate=False)}
        names = [without_wrappers(name) for group in groups for name in group["param_names"]]
        if unknown := [name for name in names if name not in known]:
            raise ProblemError(
                f"the checkpoint has the state of an optimizer for {unknown[0]}, which is not in the model",
                hint=GIVE,
            )
        return [known[name] for name in names]
    trainable = [p for p in given.parameters() if p.requires_grad]
    for parameters in (trainable, list(given.parameters())):
        if len(groups) == 1 and len(parameters) == count:
            return parameters
    raise ProblemError(
        f"the checkpoint has the state of an optimizer with {len(groups)} groups of {count} parameters in "
        f"total, and the model has {len(trainable)} trainable ones: which belong together is not known",
        hint=GIVE,
    )
