"""What a monitor needs of a framework: a model while it is trained, and the moment of each look at it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from eigencore.interfaces import Bound


@dataclass(frozen=True)
class StepRule:
    """The steps that an optimizer makes, and the curvature at which they are no longer stable.

    On a quadratic with Hessian H, steps grow along an eigenvector of H whose eigenvalue is above `threshold`,
    and along one of P^-1 H above `preconditioned_threshold`, where P is the preconditioner.

    Attributes:
        learning_rate: that of the next step; the largest one if groups of weights have different ones.
        threshold: for an optimizer without a preconditioner, such as 2 / learning_rate for gradient descent;
            None if it has one, or the threshold is not known.
        preconditioned_threshold: for an optimizer with the preconditioner of the kind `preconditioned`.
    """

    learning_rate: float
    threshold: float | None = None
    preconditioned_threshold: float | None = None


@dataclass(frozen=True)
class UpdateLine:
    """The loss along the next step of the optimizer: the weights w - s u, with u the step per learning rate.

    Attributes:
        loss: the loss at s = 0.
        slope: its derivative by s at s = 0, which is -g'u for the gradient g.
        length: the norm |u|.
        rounding: the error of a difference of two such losses.
        at: the loss at a step s, from one forward pass.
    """

    loss: float
    slope: float
    length: float
    rounding: float
    at: Callable[[float], float]


class Moment(Protocol):
    """A model at one moment of its training."""

    @property
    def bound(self) -> Bound:
        """The problem at the weights of this moment, with the optimizer as `problem.optimizer`."""

    @property
    def rule(self) -> StepRule: ...
    def update_line(self, batch: Any) -> AbstractContextManager[UpdateLine]:
        """The loss along the step that the optimizer would make next.

        The step follows from the optimizer's settings and state, and from a gradient that is computed here.

        Args:
            batch: the batch that the loss is of, in the form of the problem's data; None: all data.

        Raises:
            EigencoreError: the optimizer can't make a step outside the training, or the loss failed.
        """


class Training(Protocol):
    """A model while it is trained.

    Nothing here changes the training: weights, gradients, the state of the optimizer, modes and buffers,
    random states and global switches are afterwards as they were, to the last bit.
    """

    def clock(self) -> float:
        """The time in seconds, when all that was begun on the device is done."""

    def at(self, optimizer: Any) -> Moment:
        """The model as it is now. The first call checks the problem, later ones do not repeat that.

        Raises:
            EigencoreError: the optimizer can't be used, or a check failed.
        """


class TrainingBackend(Protocol):
    """Makes the Training of a problem, whose model is the one that is trained; see `MonitorEntry`."""

    def __call__(self, bind: Callable[[], Any], /) -> Training:
        """The training of the problem that is bound.

        `bind` binds the problem to the backend, at the weights that its model has at the call. It may be
        called again, as when the model has moved to another device.
        """
