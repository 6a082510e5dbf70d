"""Photographs of clothes that the shipped prior never saw: distance of features, fidelity, what is left of y."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advect.data import Clothing
from advect.encoders import SmallClassifier, extract
from advect.fitting import FitPriorWeights
from advect.inverse import InverseMethod, relative_residual, restore
from advect.inverse.operators import BicubicDown, Box, Operator
from advect.metrics import psnr
from advect.randomness import generator
from advect.systems.flair.methods import UNTUNED, ablation, ablations, against_tuned, best, settings
from advect.systems.framework import (
    Measured,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    bounded,
    shipped_flow,
    with_nearest,
)

FEATURES = "distance of the clothing classifier's features to the true picture's over their norm, 8 test photographs"
TASKS: dict[str, Operator] = {"hole": Box(9, 9, 14, 14), "reduction": BicubicDown(4)}

CLAIMS = (
    *(
        against_tuned(
            task,
            "photographs",
            FEATURES,
            "the baseline is the best of six methods in hindsight, and another one for each task",
        )
        for task in TASKS
    ),
    *(ablation("noise adjustment", "alpha = 0", task, "photographs", FEATURES, 1.0) for task in TASKS),
    *(ablation("hard consistency", "one data step", task, "photographs", FEATURES, 1.0) for task in TASKS),
    bounded(
        "what is left of the measurement, hole, photographs",
        "root mean square residual over the noise level, 8 test photographs",
        "FLAIR",
        "one data step",
        low=0.8,
        high=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Every method on both tasks, tuned on validation pictures."""
    flow, judge = shipped_flow("clothing"), SmallClassifier("clothing")
    data, steps = Clothing(), setting.pick(50, 6)
    validation, test = all_images(data, "validation"), all_images(data, "test")
    setting.say("photographs: calibration")
    fit = FitPriorWeights(samples=setting.pick(32, 4), points=setting.pick(26, 6))
    weights = fit(flow, data.batch("validation", torch.arange(40)), seed=setting.seed)
    chosen = torch.randperm(len(test), generator=generator(setting.seed, "test"))[: setting.pick(8, 2)]
    others = torch.randperm(len(validation) - 40, generator=generator(setting.seed, "tuning"))[: setting.pick(3, 1)]
    truth, known = test[chosen], validation[40 + others]  # the first 40 are those of the calibration
    rows: dict[str, list[float | None]] = {}
    for task, operator in TASKS.items():
        setting.say(f"photographs, {task}")
        y, y_known = (operator.measure(x, generator(setting.seed, task, len(x))) for x in (truth, known))

        def restored(method: InverseMethod, measured: Tensor, operator: Operator = operator) -> Tensor:
            return restore(flow, measured, operator, method, seed=setting.seed).x.clamp(-1, 1)

        def tuned_on(method: InverseMethod, measured: Tensor = y_known) -> float:
            return float(features(judge, restored(method, measured), known).mean())

        found = {name: restored(method, y) for name, method in ablations(weights).items()}
        picked = {}
        for name, choices in settings(weights, steps, setting.pick(8, 1)).items():
            picked[name], method = best(choices, tuned_on)
            found[f"{name}, tuned"] = restored(method, y)
        back = operator.back_projection(y, tuple(truth.shape[1:])).clamp(-1, 1)
        found["back-projection"] = back
        value = {name: float(features(judge, x, truth).mean()) for name, x in found.items()}
        left = {name: float(relative_residual(operator, x, y).mean()) for name, x in found.items()}
        for name, x in found.items():
            rows.setdefault(name, []).extend([value[name], float(psnr(x, truth).mean()), left[name]])
        full = value[UNTUNED]
        rivals = [v for k, v in value.items() if k.endswith(", tuned") and k != "FLAIR, tuned"]
        out.values |= {
            f"noise adjustment, {task}, photographs": Measured(full, value["fresh noise"], calls=50),
            f"hard consistency, {task}, photographs": Measured(full, value["one data step"], calls=50),
            f"against the best tuned baseline, {task}, photographs": Measured(value["FLAIR, tuned"], min(rivals)),
        }
        if task == "hole":
            residual = Measured(left[UNTUNED], left["one data step"])
            out.values["what is left of the measurement, hole, photographs"] = residual
        strips: dict[str, Any] = {"true": truth, "measurement, back-projected": back}
        strips |= {name: x for name, x in found.items() if name.endswith(", tuned")}
        strips |= with_nearest(found[UNTUNED], all_images(data, "train"), UNTUNED, len(truth))
        out.pictures.append(Pictures.of(f"photographs-{task}", f"Test photographs, {task}", strips))
        out.notes.append(f"photographs, {task}: settings chosen of four (seed {setting.seed}): {picked}")
    heads = [f"{task}, {what}" for task in TASKS for what in ("features", "PSNR", "residual / noise")]
    title = "Test photographs of clothes, 32x32 (features: distance to those of the true picture; PSNR in dB)"
    out.tables.append(Table.of("photographs", title, ("method", *heads), rows))


def features(judge: SmallClassifier, x: Tensor, truth: Tensor) -> Tensor:
    """Distance of features over the norm of the true ones, (B,)."""
    a, b = extract(judge, x), extract(judge, truth)
    return (a - b).norm(dim=1) / b.norm(dim=1)
