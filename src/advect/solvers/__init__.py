"""How it is integrated."""

from advect.solvers.base import Context, GridLike, Solver, Trajectory
from advect.solvers.runge_kutta import Euler, Heun, RungeKutta

__all__ = ["Context", "Euler", "GridLike", "Heun", "RungeKutta", "Solver", "Trajectory"]
