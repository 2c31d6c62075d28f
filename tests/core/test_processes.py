"""What operators pass on of the processes that compute them, and the processes of a command."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore import as_operator
from eigencore.operators import CountingOperator
from eigencore.operators.algebra import add, congruence, multiply, project, restrict, shift
from eigencore.processes import (
    ALONE,
    OneProcess,
    is_first,
    is_shared,
    launched_command,
    launched_process,
    mark_shared,
    own_part,
    processes_of,
)
from eigencore.solving import Budget, Ending, Interruption


class Slow(OneProcess):
    """Two processes as the second one sees them: the first has been at work for an hour."""

    rank, count = 1, 2
    pressed = False

    def from_first(self, value: float, /) -> float:
        return 3600.0

    def any(self, flag: bool, /) -> bool:
        return self.pressed


def test_every_operator_from_an_operator_has_its_processes():
    A = as_operator(np.diag([3.0, 2.0, 1.0]))
    assert processes_of(A) is ALONE
    A.processes = Slow()
    made = [
        CountingOperator(A),
        add(A, A),
        multiply(A, 2.0),
        shift(A, 1.0),
        congruence(A, np.ones(3)),
        project(A, np.eye(3)[:, :1]),
        restrict(A, slice(2)),
        CountingOperator(multiply(A, 2.0)),
    ]
    assert [processes_of(one).count for one in made] == [2] * len(made)


def test_the_clock_of_the_first_process_and_the_interruption_of_any_decide():
    processes, flag = Slow(), Interruption()
    assert Budget(None, 60.0, 0, flag).refusal() is None
    assert Budget(None, 60.0, 0, flag, processes=processes).refusal() is Ending.TIME
    assert Budget(None, None, 0, flag, processes=processes).refusal() is None
    processes.pressed = True
    assert Budget(None, None, 0, flag, processes=processes).refusal() is Ending.INTERRUPTED


@pytest.mark.parametrize("total", [0, 1, 7, 24])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_parts_of_all_processes_are_the_whole(total, count):
    parts = []
    for rank in range(count):
        process = Slow()
        process.rank, process.count = rank, count
        parts.append(range(total)[own_part(total, process)])
    assert [one for part in parts for one in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_error_in_place_of_a_shared_one_is_shared():
    first = ValueError("x")
    assert not is_shared(first)
    mark_shared(first)
    assert is_shared(first)
    other = RuntimeError("y")
    assert not is_shared(other)
    other.__cause__ = first
    assert is_shared(other)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
        ({"RANK": "x", "WORLD_SIZE": "many"}, None),
    ],
)
def test_a_command_finds_that_a_launcher_started_it_several_times(monkeypatch, variables, found):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    closed = []
    with launched_command() as process:
        assert (process and (process.rank, process.count, process.local_rank)) == found
        assert launched_process() is process
        assert is_first() is (found is None or found[0] == 0)
        if process is not None:
            process.closing.callback(lambda: closed.append(True))
    assert launched_process() is None
    assert closed == ([True] if found else [])
