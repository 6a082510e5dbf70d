r"""Averages of any width, found after the training from snapshots of a few that were kept during it.

Source: "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, section 3.2, appendix C.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advect.errors import InputError
from advect.files import load_tensors, read_json
from advect.flow import Flow
from advect.training.checkpoints import find_flow
from advect.training.ema import exponent_of

SNAPSHOTS = "averages"


def reconstruct(
    folder: str | os.PathLike[str], std: float, *, step: int | None = None, flow: Flow | None = None
) -> Flow:
    """The Flow of a run with an average of another relative width than those that were kept.

    Args:
        folder: Folder of a training with ``ema=PowerEMA(stds=(0.05, 0.1), snapshots=...)``.
        std: Relative width wanted, in (0, 0.28].
        step: At which step; None for the last snapshot.
        flow: The Flow whose weights are replaced (in a copy); None reads the one in the folder, where its networks
            are parts of advect.

    Raises:
        InputError: If there are no snapshots, or none up to `step`.
    """
    found = {}
    for path in Path(folder).glob(f"{SNAPSHOTS}/step-*.safetensors"):
        number = re.fullmatch(r"step-(\d+)\.safetensors", path.name)
        if number:
            found[int(number[1])] = path
    last = max(found, default=0) if step is None else step
    used = sorted(number for number in found if number <= last)
    if not used:
        raise InputError(
            f"{folder} has no snapshots up to step {step}: train with ema=PowerEMA((0.05, 0.1), snapshots=100)"
        )
    stds = read_json(Path(folder) / "recipe.json")["settings"]["init_args"]["ema"]["init_args"]["stds"]
    kept = [(float(number), width) for number in used for width in stds]
    shares = posthoc_weights(kept, (float(last), std))
    sets = []
    for number in used:
        tensors = load_tensors(found[number])
        for place in range(len(stds)):
            prefix = f"{place}."
            sets.append({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
    out = Flow.from_pretrained(find_flow(folder)) if flow is None else copy.deepcopy(flow)
    state = out.state_dict()
    for name, value in combine(sets, shares).items():
        role, _, rest = name.partition(".")
        state["network." + rest if role == "model" else f"others.{name}"] = value
    out.load_state_dict(state)
    return out


def posthoc_weights(kept: Sequence[tuple[float, float]], wanted: tuple[float, float]) -> list[float]:
    r"""Shares of kept averages whose sum comes nearest to a wanted one, by least squares of the profiles.

    Profiles p(tau) = (gamma + 1) tau^gamma / n^(gamma+1) on [0, n] have the inner product, for n_a <= n_b,

        <p_a, p_b> = (gamma_a + 1)(gamma_b + 1) / (gamma_a + gamma_b + 1) (n_a / n_b)^gamma_b / n_b

    Args:
        kept: (number of steps n, relative std) of every average there is.
        wanted: The same of the average to be found.

    Source: arXiv 2312.02696, appendix C.2 (algorithm 3).
    """
    n = np.array([steps for steps, _ in kept], dtype=np.float64)
    gamma = np.array([exponent_of(std) for _, std in kept])
    target_n, target_gamma = np.array(float(wanted[0])), np.array(exponent_of(wanted[1]))
    gram = _inner(n[:, None], gamma[:, None], n[None, :], gamma[None, :])
    right = _inner(n, gamma, target_n, target_gamma)
    return [float(share) for share in np.linalg.lstsq(gram, right, rcond=None)[0]]


def _inner(n_a: np.ndarray, g_a: np.ndarray, n_b: np.ndarray, g_b: np.ndarray) -> np.ndarray:
    late = np.maximum(n_a, n_b)
    exponent = np.where(n_a <= n_b, g_b, g_a)
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * (np.minimum(n_a, n_b) / late) ** exponent / late


def combine(kept: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted sum of sets of tensors, summed in float64; what is not floating is taken from the last."""
    out = {}
    for name, last in kept[-1].items():
        if last.is_floating_point():
            total = sum(share * tensors[name].double() for share, tensors in zip(shares, kept, strict=True))
            out[name] = torch.as_tensor(total).to(last.dtype)
        else:
            out[name] = last
    return out
