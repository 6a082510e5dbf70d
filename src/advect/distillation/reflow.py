r"""Reflow: train on the coupling that a frozen flow makes, z0 -> z1 = the end of its ODE.

Offline, the pairs are data (:class:`advect.data.StoredPairs`, made by :func:`advect.training.make_pairs`); online, the
objective below draws them anew for every batch. Convention: t=0 is the source, t=1 the data, v = dx/dt.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from advect.batch import Batch
from advect.couplings import Independent, Paired
from advect.errors import InputError
from advect.fields import Run, bind
from advect.objectives import FlowMatching, Loss, Networks, Objective
from advect.solvers import Context, Euler, Solver, first_time, start_state
from advect.times import Grid, TimeGrid
from advect.transport import Transport

REFUSAL = (
    "this flow was trained on pairs that another flow made, where x0 and x1 are functions of each other, so the "
    "velocity gives no score"
)


def reflow_transport(teacher: Transport, *, online: bool = False) -> Transport:
    """The transport of a flow that is trained on a teacher's pairs: same source and path, no score.

    Args:
        teacher: The transport of the flow that makes the pairs.
        online: Whether the objective draws the pairs (:class:`OnlineReflow`); else the data bring them.
    """
    return Transport(
        source=teacher.source,
        coupling=Independent() if online else Paired(),
        interpolant=teacher.interpolant,
        inherited_refusal=teacher.inherited_refusal or REFUSAL,
    )


class OnlineReflow(Objective):
    r"""Flow matching on pairs drawn by a frozen teacher inside the objective.

        z0 as paired by the transport,   z1 = the teacher's ODE from z0,   L = E |v(t z1 + (1-t) z0, t) - (z1 - z0)|^2

    The teacher is the network of the role "teacher": the EMA weights of the flow that is straightened. It runs without
    gradient and is never changed. The batch gives the conditions (and the number of samples); its data are not looked
    at. The released code draws 20 Euler steps per batch; pairs from few steps carry the solver's error into the
    coupling, so count the calls: every training step costs `grid` steps of the teacher.

    Args:
        solver: How the teacher is integrated.
        grid: At which times.
        objective: The regression on the pairs.

    Raises:
        InputError: If the transport still claims a score: take :func:`reflow_transport`.

    Source: arXiv 2209.03003, sections 2.1 and 3.
    """

    needs: ClassVar[dict[str, str]] = {"teacher": "field"}

    def __init__(
        self, solver: Solver | None = None, grid: Grid | None = None, objective: Objective | None = None
    ) -> None:
        super().__init__()
        self.solver: Solver = Euler() if solver is None else solver
        self.grid: Grid = TimeGrid(20) if grid is None else grid
        self.objective: Objective = FlowMatching() if objective is None else objective

    def refusal(self, transport: Transport) -> str | None:
        return self.objective.refusal(transport)

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        if nets.transport.score_refusal is None:
            raise InputError(
                "the transport says that the velocity gives a score, which reflow takes away: "
                "pass transport=reflow_transport(teacher.transport, online=True)"
            )
        x0, path = batch.x0, nets.transport.interpolant
        assert x0 is not None
        with torch.no_grad():
            run = Run(generator)
            cond: dict[str, Any] = dict(batch.cond)
            start = start_state(x0, first_time(self.grid, path), path)
            context = Context(path, nets.transport.source)
            x1 = self.solver(bind(nets["teacher"], run, **cond), start, self.grid, run, context=context)
        return self.objective.loss(nets, batch.replace(x1=x1), generator)
