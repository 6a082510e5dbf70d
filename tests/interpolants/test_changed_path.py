"""A field asked on a path it was not trained on."""

from __future__ import annotations

import pytest
import torch

from advect.errors import InputError
from advect.fields import Run, Step, bind
from advect.interpolants import (
    VE,
    VPSDE,
    AffineInterpolant,
    ChangedPath,
    Cosine,
    Linear,
    LinearVP,
    Scaled,
    Shifted,
    SourceScaled,
)
from advect.networks import MLP, NetSpec
from advect.oracles import reference_mixture
from advect.parts import build, config_of

PATHS: list[AffineInterpolant] = [
    Linear(),
    Cosine(),
    VPSDE(),
    VE(),
    LinearVP(),
    Shifted(Scaled(Linear(), 2.0), 3.0),
    SourceScaled(Linear(), 0.5),
]
X = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trained", PATHS, ids=repr)
@pytest.mark.parametrize("asked", PATHS, ids=repr)
def test_the_exact_field_of_one_path_becomes_that_of_another(trained: AffineInterpolant, asked: AffineInterpolant):
    mixture = reference_mixture()
    changed = ChangedPath(mixture.velocity(trained), trained, asked)
    exact = mixture.velocity(asked)
    # inside what both reach: VE and VP-SDE start at a log-SNR of their own
    times = torch.tensor([0.15, 0.3, 0.5, 0.7, 0.85], dtype=torch.float64)
    scale = asked.sigma(times)[:, None].clamp(min=1) + asked.alpha(times)[:, None]
    torch.testing.assert_close(changed(scale * X, times), exact(scale * X, times), rtol=1e-9, atol=1e-9)
    for t in times.tolist():
        torch.testing.assert_close(changed(X, t), exact(X, t), rtol=1e-9, atol=1e-9)


def test_both_ends_are_safe_where_the_trained_path_reaches_them():
    mixture = reference_mixture()
    for trained, asked in ((Linear(), Cosine()), (Cosine(), Linear()), (Linear(), VPSDE()), (Linear(), VE())):
        changed, exact = ChangedPath(mixture.velocity(trained), trained, asked), mixture.velocity(asked)
        for t in (0.0, 1.0) if not isinstance(asked, VPSDE) else (0.0,):
            torch.testing.assert_close(changed(X, t), exact(X, t), rtol=1e-9, atol=1e-9)
            tensor = torch.tensor(t, dtype=torch.float64)
            torch.testing.assert_close(changed(X, tensor), exact(X, t), rtol=1e-9, atol=1e-9)


def test_a_time_that_the_trained_path_does_not_reach_is_refused():
    changed = ChangedPath(reference_mixture().velocity(VPSDE()), VPSDE(), Linear())
    with pytest.raises(InputError, match="begin later or end earlier"):
        changed(X, 0.0)


def test_bound_the_inner_model_is_counted_and_told_its_own_times():
    seen: list[Step] = []

    class Inner:
        def bind(self, run, role="model", **cond):
            class Bound:
                is_bound = True

                def __call__(self, x, t, step=None):
                    run.count(role, len(x))
                    seen.append(step)
                    return cond["shift"] + 0 * x

            return Bound()

    run = Run()
    bound = bind(ChangedPath(Inner(), Linear(), Shifted(Linear(), 3.0)), run, role="predictor", shift=1.0)
    bound(X, 0.5, step=Step(0, 1, 0.5, 1.0))
    assert run.calls == {"predictor": 1}
    assert seen[0].r == pytest.approx(0.25)
    assert seen[0].t == 1.0


def test_around_a_network_it_is_a_part_with_the_spec_of_the_network():
    changed = ChangedPath(MLP(NetSpec((2,)), size="XS"), Linear(), Cosine())
    again = build(config_of(changed))
    again.load_state_dict(changed.state_dict())
    assert again.spec == NetSpec((2,))
    assert torch.equal(again(X.float(), 0.3), changed(X.float(), 0.3))
