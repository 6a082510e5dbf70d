r"""Gibbs weights on independent pairs: the interaction of entropic transport without solving for it.

    entropic plan   pi = exp(f(x0) + g(x1) - c(x0, x1)/eps) mu nu                                         (1)
    here            q prop. exp(-c(x0, x1)/eps) mu nu,   f = g = 0                                        (2)

The minimiser of the weighted loss E w |v - (x1 - x0)|^2 is the velocity of the coupling q. Convention: t=0 source mu,
t=1 data nu.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from advect import randomness
from advect.couplings.assignment import all_finite
from advect.couplings.base import Coupling, Pairs
from advect.couplings.sinkhorn import sinkhorn
from advect.couplings.tilt import Cost, all_costs, effective_share, elbow, elbow_curve, pair_cost, spread
from advect.errors import InputError
from advect.parts import ModulePart

_PAIRS = 200_000  # pairs behind the constant
_SAMPLES = 1000  # of each end, behind the elbow: their square are the pairs
_CHUNK = 1 << 24  # numbers in flight


class GibbsWeights(ModulePart, Coupling):
    r"""Independent pairs, each with the weight w = exp(-c(x0, x1)/eps) / E[w].

    Pairs that are far apart count less, so paths cross less and are straighter, at the price of a subtraction and a
    norm: no assignment, no dependence on the batch size. What it costs is a bias: the marginals of (2) are not mu and
    nu but tilted (:mod:`advect.couplings.tilt`), while sampling starts from mu; the more so, the smaller eps.

    Weights are kept as logarithms and divided by a fixed constant E[w], estimated once by :meth:`fit` (training calls
    it): a weight is then a function of its own pair alone, and the gradient has the size of the unweighted one. Raw
    weights are about 5e-6 for CIFAR-10 at eps = 5, below what Adam tells from zero.

    Args:
        eps: Scale of the weights in units of the cost, above 0; infinity gives all pairs one weight. None with `kappa`
            None takes the elbow of the tilt variance (:func:`advect.couplings.tilt.elbow`).
        kappa: The scale as eps = kappa sqrt(d), for states of d numbers; None if `eps` is given.
        cost: "norm" for |x0 - x1| (published) or "squared" for its square.
        normalise: "fixed" divides by E[w]. "batch" divides by the mean over the batch, another method: a ratio
            estimator with a bias of order 1/B, in which a weight depends on its batch mates.
        clip: Quantile of the weights in (0, 1) above which all count as at it; a further bias. None for none.
        potentials: Samples of each end with which f and g of (1) are found by Sinkhorn steps; the tilt is then gone,
            and every batch costs its distances to them. 0 is the published method.
        min_ess: The smallest effective sample size, as a share of the pairs, with which :meth:`fit` agrees.

    Raises:
        InputError: If an argument is out of its range, or both `eps` and `kappa` are given.

    Source: arXiv 2507.22270 (no official code). Fixed constant, clip and potentials are ours. The unofficial code
    takes eps = 1000, which weights nothing, and adds a loss on shuffled pairs that the paper does not have.
    """

    scale: Tensor
    offset: Tensor
    log_cap: Tensor
    curve: Tensor
    shares: Tensor
    width: Tensor
    reference0: Tensor
    reference1: Tensor
    potential0: Tensor
    potential1: Tensor

    def __init__(
        self,
        eps: float | None = None,
        kappa: float | None = None,
        cost: Cost = "norm",
        normalise: Literal["fixed", "batch"] = "fixed",
        clip: float | None = None,
        potentials: int = 0,
        min_ess: float = 0.02,
    ) -> None:
        super().__init__()
        if eps is not None and kappa is not None:
            raise InputError(f"eps is {eps} and kappa is {kappa}, which gives eps too: give one of them")
        for name, value in (("eps", eps), ("kappa", kappa)):
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}: the scale of the weights is above 0")
        if cost not in ("norm", "squared"):
            raise InputError(f"cost is {cost!r}: choose 'norm' or 'squared'")
        if normalise not in ("fixed", "batch"):
            raise InputError(f"normalise is {normalise!r}: choose 'fixed' or 'batch'")
        if clip is not None and not 0 < clip < 1:
            raise InputError(f"clip is {clip}: give a quantile of the weights between 0 and 1, such as 0.99")
        if potentials < 0 or potentials == 1:
            raise InputError(f"potentials is {potentials}: give 0 for none, or a number of samples, such as 1000")
        if potentials and math.inf in (eps, kappa):
            raise InputError(f"potentials is {potentials}, but equal weights tilt nothing: leave it at 0")
        if not 0 <= min_ess < 1:
            raise InputError(f"min_ess is {min_ess}: it is a share of the pairs, in [0, 1)")
        self.eps, self.kappa, self.normalise = eps, kappa, normalise
        self.cost: Cost = cost
        self.clip, self.potentials, self.min_ess = clip, potentials, min_ess
        for name in _BUFFERS:
            self.register_buffer(name, torch.empty(0))
        self._plain = normalise == "fixed" and clip is None and not potentials
        self._found: float | None = None

    @property
    def fitted(self) -> bool:
        """Whether the constant was found (and with it scale, cap and potentials, where they are asked for)."""
        return self.offset.ndim == 0

    @property
    def log_mean(self) -> Tensor:
        """log E[w] of the weights as they come, the fixed constant."""
        return -self.offset

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        """Pairs as they stand, with their log weights (B,)."""
        if rows is not None:
            raise InputError("the batch is ragged (it has rows), but a Gibbs weight belongs to a pair of whole samples")
        if x0.shape != x1.shape:
            raise InputError(f"x0 has shape {tuple(x0.shape)} and x1 {tuple(x1.shape)}: a pair has one of each")
        offset = self._buffers["offset"]  # as it lies there: every look through the module is felt in a small step
        assert offset is not None
        if self._plain and offset.ndim == 0:  # then one operation on the cost
            return Pairs(log_weight=torch.sub(offset, pair_cost(x0, x1, self.cost), alpha=1 / self._scale(x1)))
        if self.normalise == "fixed" and not self.fitted:
            raise InputError(
                "GibbsWeights has not found its constant: call fit(x0, x1) with draws of both ends, or train with "
                "advect.train, which does"
            )
        log_weight = self._capped(self._raw(x0, x1))
        if self.normalise == "fixed":
            return Pairs(log_weight=log_weight + self.offset)
        return Pairs(log_weight=log_weight - (log_weight.logsumexp(0) - math.log(len(log_weight))))

    def log_weights(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Log weights of every x0 (n, *shape) with every x1 (m, *shape), shape (n, m), without the constant E[w]."""
        log_weight = all_costs(x0, x1, self.cost) / -self._scale(x0)
        if self.potentials:
            log_weight = log_weight + self._potential(x0, 0)[:, None] + self._potential(x1, 1)
        return self._capped(log_weight)

    @torch.no_grad()
    def fit(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Find the constant E[w] on 200,000 pairs; before it the scale and the potentials, where they are asked for.

        Raises:
            InputError: If a draw is not finite, or fewer than the share `min_ess` of the pairs would count.
        """
        if x0.shape != x1.shape or len(x1) < 2:
            raise InputError(f"x0 has shape {tuple(x0.shape)} and x1 {tuple(x1.shape)}: give as many draws of each")
        if not (all_finite(x0) and all_finite(x1)):
            raise InputError("x0 or x1 holds NaN or infinity, so their pairs have no weight: look for broken samples")
        self.offset = self.log_cap = torch.empty(0)
        few = [x[randomness.randperm(len(x), generator)[:_SAMPLES].to(x.device)] for x in (x0, x1)]
        cost = all_costs(few[0], few[1], self.cost)
        self.shares, self.width = torch.tensor(spread(cost)), torch.tensor(x1[0].numel())
        scale = self.eps if self.eps is not None else None if self.kappa is None else self._of_kappa(x1)
        if scale is None:
            self.curve = elbow_curve(cost).float()
            scale = elbow(self.curve)
        self.scale = torch.tensor(scale, dtype=torch.float64).to(x1)
        self._found = float(self.scale)
        if self.potentials:
            self._fit_potentials(x0, x1, generator)
        log_weight = self._of_many_pairs(x0, x1)
        share = float(effective_share(log_weight))
        if share < self.min_ess:
            mend = elbow(elbow_curve(cost))
            raise InputError(
                f"eps is {scale:.3g}, where the effective sample size is {100 * share:.2g} % of the pairs, so most of "
                f"every batch would count for nothing: take the elbow of the tilt variance, eps={mend:.3g}, or say "
                "min_ess=0 to go on"
            )
        if self.clip is not None:
            self.log_cap = log_weight.quantile(self.clip)
            log_weight = self._capped(log_weight)
        self.offset = (math.log(len(log_weight)) - log_weight.double().logsumexp(0)).to(x1)

    def _scale(self, x: Tensor) -> float:
        """eps for states like x."""
        if self.eps is not None:
            return self.eps
        if self.kappa is not None:
            return self._of_kappa(x)
        if self.scale.ndim:
            raise InputError("eps is None, and the elbow was not looked for: call fit(x0, x1) first, or give eps")
        if self._found is None:  # read from the device once
            self._found = float(self.scale)
        return self._found

    def _of_kappa(self, x: Tensor) -> float:
        assert self.kappa is not None
        return self.kappa * math.sqrt(math.prod(x.shape[1:]))

    def _raw(self, x0: Tensor, x1: Tensor) -> Tensor:
        """f(x0) + g(x1) - c/eps of each pair, (B,)."""
        log_weight = pair_cost(x0, x1, self.cost) / -self._scale(x1)
        return log_weight + self._potential(x0, 0) + self._potential(x1, 1) if self.potentials else log_weight

    def _capped(self, log_weight: Tensor) -> Tensor:
        if self.clip is None or self.log_cap.ndim:
            return log_weight
        return torch.minimum(log_weight, self.log_cap.to(log_weight))

    def _of_many_pairs(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Log weights of about 200,000 pairs of the draws: each with itself and with others, evenly spaced."""
        n = len(x1)
        size = max(1, _CHUNK // max(x1[0].numel(), self.potentials))
        turns, out = min(n, math.ceil(_PAIRS / n)), list[Tensor]()
        for turn in range(turns):
            other = x0.roll(turn * n // turns, 0)
            out += [self._raw(a, b) for a, b in zip(other.split(size), x1.split(size), strict=True)]
        return torch.cat(out)

    def _fit_potentials(self, x0: Tensor, x1: Tensor, generator: torch.Generator | None) -> None:
        """Sinkhorn's f and g of a reference sample; f(x0) = -log E_{x1} exp(g - c/eps) carries them to all x0."""
        most = self.potentials
        first, second = (
            x if len(x) <= most else x[randomness.randperm(len(x), generator)[:most].to(x.device)] for x in (x0, x1)
        )
        cost = all_costs(first, second, self.cost)
        pair = sinkhorn(cost, self._scale(first)).log_plan + cost / self._scale(first)  # f + g, less the uniform masses
        pair = pair + math.log(len(first)) + math.log(len(second))
        self.reference0, self.reference1 = first, second
        self.potential0, self.potential1 = pair[:, 0].clone(), pair[0] - pair[0, 0]

    def _potential(self, x: Tensor, end: Literal[0, 1]) -> Tensor:
        """f (end 0) or g (end 1) of each x, (B,): minus the log of what the other end's reference sample gives it."""
        other, known = (self.reference1, self.potential1) if end == 0 else (self.reference0, self.potential0)
        if not len(known):
            raise InputError(f"potentials is {self.potentials}, but none were found: call fit(x0, x1) first")
        cost = all_costs(x, other.to(x), self.cost)
        log_weight = known.to(cost) - cost / self._scale(x)
        return (math.log(len(known)) - log_weight.logsumexp(1)).to(x)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Buffers found by fitting take the file's shape."""
        for name in _BUFFERS:
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(value))
        self._found = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


_BUFFERS = (
    "scale",
    "offset",
    "log_cap",
    "curve",
    "shares",
    "width",
    "reference0",
    "reference1",
    "potential0",
    "potential1",
)
