"""The class `Monitor`: the curvature of a network's loss, computed while the network is trained."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigencore.display import Reported, Tabular
from eigencore.entries import MonitorEntry
from eigencore.errors import EigencoreError, ProblemError, UnknownNameError, UsageError, described
from eigencore.figures import Table
from eigencore.findings import Report
from eigencore.interfaces import Problem
from eigencore.operators import release
from eigencore.pipeline.monitoring.look_rows import LookRow, columns_of
from eigencore.pipeline.monitoring.look_schedule import LookSchedule
from eigencore.pipeline.monitoring.monitor_findings import look_table, monitor_findings
from eigencore.pipeline.monitoring.quantities import Look, Memory, find_quantities
from eigencore.pipeline.monitoring.tracked_pairs import TrackedPairs
from eigencore.problems import as_problem, backend_of, bind_with
from eigencore.processes import is_first, processes_of
from eigencore.registry import load, registry, resolve_options

if TYPE_CHECKING:
    from eigencore.training import Training, TrainingBackend

DEFAULT_QUANTITIES = ("lambda_max", "critical_sharpness")
COMPLETE_EVERY = 10  # looks


class Monitor(Tabular, Reported):
    """Computes the curvature of a loss at some steps of a training run, and keeps a row of each look.

    Training is not affected: weights, gradients, optimizer, buffers, modes and random states are afterwards
    as they were, to the last bit. A look that fails raises nothing: its row says why, and a warning is
    given once.

    Args:
        model: the model that is trained; or a Problem, without `loss` and `data`.
        loss: the loss function, as for `Problem`.
        data: the data that the curvature is of, in batches, the same in every look: a fixed subset of the
            training data.
        every: the number of steps from one look to the next.
        quantities: what is computed: `lambda_max`, `preconditioned_sharpness`, `critical_sharpness`,
            `alignment`, and names of analyses such as `trace` and `batch_sharpness`.
        share: the largest ratio of the time of the looks to that of the training; looks that would exceed it
            are left out. None: every look takes place.
        threshold: a number in place of the optimizer's threshold for `lambda_max`, such as 2 / learning rate.
        pairs: the largest number of eigenvalues that are followed: one, and another one for each above
            90 % of the threshold.
        seed: the seed of all random numbers of the looks, which do not disturb those of the training.
        backend, device, dtype: as for `bind`. With another device or data type, looks work on a copy.
        options: options of the backend and of analyses, by name, such as {"torch": {"batch_norm": "batch"}}.
        out: a file of JSON lines to which each row is added at once.
        tensorboard: a SummaryWriter, or any object with add_scalar(name, number, step).

    Raises:
        UsageError: an argument is invalid, or the backend has no monitor.
        ProblemError: the problem can't be bound.

    The learning rate and thresholds are those that the optimizer has at the look. Every tenth look is
    complete: at 99 %, no larger eigenvalue was missed. The others follow the eigenvectors of the look
    before, which takes a few products.

    Example:
        import torch
        import eigencore

        model, loss = torch.nn.Linear(4, 3), torch.nn.CrossEntropyLoss()
        x, y = torch.randn(32, 4), torch.randint(3, (32,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = eigencore.Monitor(model, loss, [(x, y)], every=5)
        for _ in range(20):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            monitor.step(optimizer)
        print(monitor.columns["lambda_max"], monitor.columns["threshold"])
    """

    def __init__(
        self,
        model: Any,
        loss: Any = None,
        data: Any = None,
        *,
        every: int = 100,
        quantities: Iterable[str] = DEFAULT_QUANTITIES,
        share: float | None = None,
        threshold: float | None = None,
        pairs: int = 3,
        seed: int = 0,
        backend: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        out: str | os.PathLike[str] | None = None,
        tensorboard: Any = None,
    ):
        problem = _problem(model, loss, data)
        _refuse_bad_numbers(every, pairs, share, threshold)
        names = [quantities] if isinstance(quantities, str) else list(quantities)
        if not names:
            raise UsageError(
                "quantities is empty; expected at least one", hint="Leave it out for the default."
            )
        given = dict(options or {})
        self.rows: list[LookRow] = []
        self._quantities = find_quantities(names, given)
        self._schedule = LookSchedule(every, share)
        self._memory = Memory(TrackedPairs(pairs), TrackedPairs(pairs))
        self._threshold, self._seed, self._out = threshold, seed, _writable(out)
        self._writer, self._step, self._warned = tensorboard, 0, False
        entry = backend_of(problem, backend)
        if entry is None:
            raise UsageError("the problem is given as an operator; a monitor needs the model that is trained")
        _refuse_unused_options(given, {entry.name, *names})
        own = given.get(entry.name, {})
        resolve_options(entry, own)
        bind = partial(bind_with, problem, own, backend=entry.name, device=device, dtype=dtype)
        self._training = _training_of(entry.name, bind)

    def step(self, optimizer: Any, *, batch: Any = None, step: int | None = None) -> LookRow | None:
        """Looks at the network if it is time to; to be called after each step of the optimizer.

        Args:
            optimizer: the optimizer that trains the model.
            batch: the batch of this step; critical sharpness is then that of its loss, as in the paper, and
                not that of the monitor's data.
            step: the number of steps so far; None: the calls are counted.

        Returns:
            The row of the look, or None if there was none.
        """
        self._step = self._step + 1 if step is None else step
        if not self._schedule.has_started:
            self._schedule.started(self._training.clock())
        if not self._schedule.is_due(self._step):
            return None
        began = self._training.clock()
        # The clocks of several processes differ, and all of them must look, or none.
        decide = processes_of(self._training).from_first
        if self._schedule.share is not None and not decide(float(self._schedule.may_look(began))):
            return None
        row = self._look(optimizer, batch, began)
        self.rows.append(row)
        self._publish(row)
        self._schedule.looked(began, self._training.clock())
        return row

    def _look(self, optimizer: Any, batch: Any, began: float) -> LookRow:
        numbers: dict[str, float] = {}
        complete = self._schedule.looks % COMPLETE_EVERY == 0
        try:
            moment = self._training.at(optimizer)
        except Exception as error:
            failed = {"look": _reason(error)}
            return LookRow(self._step, {}, seconds=self._training.clock() - began, failed=failed)
        look = Look(moment, self._memory, batch, self._threshold, complete, self._seed)
        numbers["learning_rate"] = moment.rule.learning_rate
        for name, compute in self._quantities.items():
            try:
                numbers |= compute(look)
            except Exception as error:
                look.failed[name] = _reason(error)
        if "hessian" in vars(look):
            release(look.hessian)
        seconds = self._training.clock() - began
        return LookRow(self._step, numbers, look.certificate, look.proved, look.matvecs, seconds, look.failed)

    def _publish(self, row: LookRow) -> None:
        """Adds the row to the file and to TensorBoard, and warns of the first failure."""
        problems = [f"{name} failed: {why}" for name, why in row.failed.items()]
        if not is_first(self._training):
            return
        try:
            if self._out is not None:
                with open(self._out, "a", encoding="utf-8") as file:
                    file.write(row.as_line())
            if self._writer is not None:
                for name, value in row.numbers.items():
                    self._writer.add_scalar(f"eigencore/{name}", value, row.step)
        except Exception as error:
            problems.append(f"the row could not be written: {described(error)}")
        if problems and not self._warned:
            self._warned = True
            warnings.warn(
                f"monitor, step {row.step}: {problems[0]} (training goes on; there is no further warning, "
                "and `failed` in the rows says what fails later)",
                stacklevel=3,
            )

    @property
    def columns(self) -> dict[str, Any]:
        """Arrays (looks,) by name: `step`, the numbers of all quantities, and how they were computed.

        A number that a look did not compute is NaN.
        """
        return columns_of(self.rows)

    @property
    def table(self) -> Table:
        """The step, the quantities and what proves them, of each look, to four digits."""
        return look_table(self.columns)

    @property
    def cost(self) -> str:
        """The time of the looks, and their share of the time of the training."""
        return self._schedule.summary

    def report(self) -> Report:
        """The report of all looks, with figures over the steps.

        Example:
            import torch
            import eigencore

            model, loss = torch.nn.Linear(4, 3), torch.nn.CrossEntropyLoss()
            data = [(torch.randn(32, 4), torch.randint(3, (32,)))]
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            monitor = eigencore.Monitor(model, loss, data, every=1)
            monitor.step(optimizer)
            print(monitor.report().parts["training"].verdict)
        """
        found = monitor_findings(self.rows, self.columns, self.cost)
        return Report("Curvature during training", (self.cost,), {"training": found})

    def __repr__(self) -> str:
        return f"Monitor: {self.cost}"


def _problem(model: Any, loss: Any, data: Any) -> Problem:
    if loss is None and data is None:
        problem = as_problem(model)
    elif loss is None or data is None:
        missing = "loss" if loss is None else "data"
        raise UsageError(
            f"{missing} is missing", hint="Write Monitor(model, loss, data), or Monitor(problem)."
        )
    elif isinstance(model, Problem):
        raise UsageError("Monitor was given a problem and also loss and data; expected one of the two")
    else:
        if callable(data) and not callable(loss) and not isinstance(loss, str):
            raise UsageError(
                f"the loss is a {type(loss).__name__}; expected a function",
                hint="The order is Monitor(model, loss, data).",
            )
        problem = Problem(model, data, loss)
    if hasattr(problem.data, "__len__") and not len(problem.data):
        raise ProblemError("data is empty", hint="Give at least one batch of the training data.")
    if problem.checkpoint is not None:
        raise UsageError(
            "the problem has a checkpoint, whose weights are not trained", hint="Load it into the model."
        )
    return problem


def _refuse_bad_numbers(every: Any, pairs: Any, share: float | None, threshold: float | None) -> None:
    for name, given in (("every", every), ("pairs", pairs)):
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise UsageError(f"{name} is {given!r}; expected a whole number of at least 1")
    if share is not None and not (isinstance(share, Real) and share > 0):
        raise UsageError(f"share is {share!r}; expected a number above 0, such as 0.05 for 5 %, or None")
    if threshold is not None and not (isinstance(threshold, Real) and threshold > 0):
        raise UsageError(f"threshold is {threshold!r}; expected a number above 0, or None")


def _refuse_unused_options(options: Mapping[str, Any], used: Iterable[str]) -> None:
    for name in options:
        if name not in used:
            raise UsageError(
                f"options are given for {name}, which this monitor does not use",
                hint=f"It uses: {', '.join(sorted(used))}.",
            )


def _training_of(backend: str, bind: Callable[[], Any]) -> Training:
    try:
        entry = registry().find(MonitorEntry, backend)
    except UnknownNameError as error:
        raise UsageError(f"the backend {backend} has no monitor", hint=error.hint) from None
    make: TrainingBackend = load(entry)
    return make(bind)


def _writable(out: str | os.PathLike[str] | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"can't be written: there is no folder {path.parent}"
        raise UsageError(f"{path} {what}", hint="Give a file such as monitor.jsonl.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} can't be written to")
    return path


def _reason(error: Exception) -> str:
    """Why something failed; the frames of the exception, which hold arrays, are let go."""
    error.__traceback__ = None
    return error.message if isinstance(error, EigencoreError) else described(error)
