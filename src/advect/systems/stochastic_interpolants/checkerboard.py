"""The checkerboard: the noise is chosen after training, and what the latent variable changes."""

from __future__ import annotations

from advect import Transport
from advect.data import Checkerboard
from advect.diagnostics import histogram_kl
from advect.interpolants import StochasticInterpolant, Zero
from advect.networks import MLP, NetSpec
from advect.objectives import FlowMatching, InterpolantLoss
from advect.randomness import generator
from advect.systems.framework import Figures, Measured, Outcome, Scatter, Setting, Table, compared
from advect.systems.stochastic_interpolants.noise import sample, train_both
from advect.training import ConstantEMA, TrainSettings, train

KL = "KL of a 40x40 histogram on [-5, 5]^2, 10000 samples against 20000 data, nats"
LEVELS = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0)

# KL on the checkerboard by steps and e, from one independent run with nets of 4x128
REFERENCE: dict[str, tuple[float | None, ...]] = {
    "50 steps": (0.325, 0.304, 0.293, None, 0.274, None),
    "200 steps": (0.318, 0.314, 0.275, None, 0.241, None),
}

CLAIMS = (
    compared(
        "noise after training, checkerboard",
        f"{KL}, 200 steps",
        "SDE at the best of e = 0.1, 0.5, 1, 2",
        "the ODE (e=0) of the same b network",
        low=1 / 0.9,
        paper="qualitative: for imperfect b and s, moderate e>0 beats e=0",
    ),
    compared(
        "too much noise needs more steps, checkerboard",
        f"{KL}, e=2",
        "200 steps",
        "50 steps",
        low=1.0,
        paper="qualitative: too large e needs more steps",
    ),
    compared("latent against none, checkerboard", f"{KL}, ODE, 200 steps", "Brownian gamma", "gamma = 0, same network"),
    compared(
        "one-sided, checkerboard", f"{KL}, ODE, 200 steps", "one-sided linear (flow matching)", "Brownian gamma, ODE"
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """b and eta at every level of noise, beside networks without a latent variable."""
    data, seed = Checkerboard(), setting.seed
    settings = TrainSettings(
        steps=setting.pick(3000, 150), batch_size=1000, lr=2e-3, ema=ConstantEMA(0.999), device="cpu"
    )
    setting.say("checkerboard: b and eta with a Brownian latent")
    both = train_both(_network, data, settings, seed)
    setting.say("checkerboard: no latent, and one-sided")
    bare = train(
        _network,
        data,
        objective=InterpolantLoss("b", antithetic=False),
        transport=Transport(interpolant=StochasticInterpolant(gamma=Zero())),
        settings=settings,
        seed=seed,
    )
    one_sided = train(_network, data, objective=FlowMatching(), settings=settings, seed=seed)

    setting.say("checkerboard: sampling")
    n = setting.pick(10_000, 1000)
    target = data.draw(20_000, generator(seed, "target"))
    samples = {f"{steps} steps": [sample(both, n, e, steps, seed) for e in LEVELS] for steps in (50, 200)}
    kl = Figures.of(lambda x: float(histogram_kl(target, x)), LEVELS, samples)
    best = min(LEVELS[1:], key=lambda e: kl.at("200 steps", e))
    others = {"gamma = 0": sample(bare, n, 0.0, 200, seed), "one-sided": sample(one_sided, n, 0.0, 200, seed)}
    without = {name: float(histogram_kl(target, x)) for name, x in others.items()}
    floor = float(histogram_kl(target, data.draw(n, generator(seed, "floor"))))
    ode = kl.at("200 steps", 0.0)
    out.values |= {
        "noise after training, checkerboard": Measured(kl.at("200 steps", best), ode, calls=400),
        "too much noise needs more steps, checkerboard": kl.against("200 steps", "50 steps", 2.0, calls=400),
        "latent against none, checkerboard": Measured(ode, without["gamma = 0"], calls=200),
        "one-sided, checkerboard": Measured(without["one-sided"], ode, calls=200),
    }
    title = "KL on the checkerboard by noise level e, beside an independent run with the same nets (one seed)"
    heads = ("sampling", *(f"e={e:g}" for e in LEVELS))
    out.tables.append(Table.of("checkerboard", title, heads, kl.arms, REFERENCE))
    title, levels = "Checkerboard: the noise is chosen after training", {"20000 against 10000 data": floor}
    out.curves.append(kl.curves("noise", title, "e", "KL, nats", log="", levels=levels))
    at_200 = dict(zip(LEVELS, samples["200 steps"], strict=True))
    clouds = {"data": target, "e=0": at_200[0.0], f"e={best:g}": at_200[best], **others}
    out.scatters.append(Scatter.of("checkerboard", "200 steps", clouds))
    out.notes.append(f"checkerboard, seed 0: best e {best:g}, floor of the KL {floor:.3f}, nets of 4x128")


def _network(spec: NetSpec) -> MLP:
    return MLP(spec, hidden=(128, 128, 128, 128))
