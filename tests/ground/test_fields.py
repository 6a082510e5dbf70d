"""Binding counts calls and rows, fixes conditions, and hands models that ask their place in the run."""

import torch

from advect import Run, Step, bind
from advect.solvers import Euler, Heun


def test_calls_and_rows_are_counted_by_role() -> None:
    run = Run()
    f = bind(lambda x, t: -x, run)
    g = bind(lambda x, t: x, run, role="refiner")
    f(torch.ones(5, 2), 0.1)
    f(torch.ones(3, 2), 0.2)
    g(torch.ones(3, 2), 0.2)
    assert dict(run.calls) == {"model": 2, "refiner": 1}
    assert dict(run.rows) == {"model": 8, "refiner": 3}
    assert run.nfe == 3


def test_conditions_reach_the_model() -> None:
    f = bind(lambda x, t, label: x * label[:, None], label=torch.tensor([1.0, 3.0]))
    assert f(torch.ones(2, 1), 0.0).flatten().tolist() == [1.0, 3.0]


def test_a_bound_model_is_not_bound_twice() -> None:
    run = Run()
    f = bind(lambda x, t: -x, run)
    assert bind(f, Run()) is f


class Asking:
    """A model that lays itself out and asks for its place."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def bind(self, run: Run, *, role: str = "model", **cond: torch.Tensor):
        def f(x: torch.Tensor, t: float, step: Step | None = None) -> torch.Tensor:
            assert step is not None
            self.steps.append(step)
            run.count(role, len(x))
            return -x

        return f


def test_a_model_that_asks_is_told_step_and_stage() -> None:
    model, run = Asking(), Run()
    Heun()(model, torch.ones(1, 1), 3, run)
    assert [(s.index, s.count, s.stage) for s in model.steps] == [(i, 3, k) for i in range(3) for k in range(2)]
    assert [s.t for s in model.steps][::2] == [1 / 3, 2 / 3, 1.0]
    assert run.nfe == 6


def test_a_plain_callable_gets_a_tensor_of_the_state_s_type() -> None:
    seen = []
    Euler()(lambda x, t: seen.append(t) or -x, torch.ones(1, 1, dtype=torch.float64), 4)
    assert [t.dtype for t in seen] == [torch.float64] * 4
    assert [float(t) for t in seen] == [0.0, 0.25, 0.5, 0.75]
