"""The networks of all built-in recipes at full size, built and called on the meta device, where they cost no memory."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("jsonargparse")

import advect
from advect.cli.recipes import FOLDER, build_recipe, recipe_file
from advect.cli.train import make_parser, parse
from advect.codecs import Identity
from advect.fields import kind_of
from advect.networks import NetSpec
from advect.training import Recipe
from advect.training.inputs import as_conditions, as_network
from advect.training.stages import Train

META = torch.device("meta")
CIFAR, LATENTS, FACES = ((3, 32, 32), 10), ((4, 32, 32), 1000), ((3, 256, 256), 0)
DATA = {  # what stands in for data that are not shipped: shape of a sample, number of classes
    "boss-full": FACES,
    "flair-full": FACES,
    "images": ((3, 64, 64), 3),
    "pfgm-plus-plus-full": CIFAR,
    "raag-full": LATENTS,
    "source-fm-full": CIFAR,
    "split-meanflow-full": LATENTS,
    "transition-matching-full": ((4, 32, 32), 0),
    "two-dimensions": ((2,), 0),
    "weighted-cfm-full": CIFAR,
}
# Parameters in millions of the published networks that a recipe's comment names: SiT-XL/2 (arXiv 2401.08740) and
# MeanFlow-B/4 (arXiv 2505.13447).
PUBLISHED = {"raag-full": 675, "split-meanflow-full": 131}


def recipe_of(name: str, folder: Path) -> Recipe:
    """The recipe, on a few samples of the right shape where its own data are not at hand."""
    parser, options = make_parser(), []
    if name in DATA:
        shape, classes = DATA[name]
        n = max(8, classes)
        arrays = {"x1": np.zeros((n, *shape), dtype=np.float32)}
        arrays["x1"][::2] = 1.0
        if classes:
            arrays["label"] = np.arange(n) % classes
        if name == "transition-matching-full":
            arrays["text"] = np.zeros((n, 768), dtype=np.float32)
            arrays["text"][::2] = 1.0
        np.savez(folder / "data.npz", **arrays)
        options = ["--data", "Arrays", "--data.path", str(folder / "data.npz")]
        options += ["--data.validation", "0", "--data.test", "0"]
        options += ["--data.vectors", "[text]"] if "text" in arrays else []
    return build_recipe(parser, parse(parser, ["--recipe", str(recipe_file(name)), *options]))


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_the_networks_of_a_recipe_are_built_at_full_size(name, tmp_path):
    recipe = recipe_of(name, tmp_path)
    data, codec, count = recipe.data, recipe.codec or Identity(), 0
    state = codec.latent_shape(data.shape)
    for stage in (stage for stage in recipe.stages if isinstance(stage, Train)):
        given = stage.arguments(recipe)
        objective = given["objective"] or advect.FlowMatching()
        conditions = as_conditions(data, None, given["drop"])
        roles = {"model": given["network"]} | {
            role: given["others"][role] for role, kind in objective.needs.items() if kind.startswith("trained")
        }
        with META:
            networks = {
                role: as_network(net, data, codec, conditions, objective, 0, role) for role, net in roles.items()
            }
        for role, network in networks.items():
            assert all(weight.is_meta for weight in network.parameters())
            assert called(network, state, conditions.items).shape == (2, *state), role
        count = max(count, sum(weight.numel() for weight in networks["model"].parameters()))
    if name in PUBLISHED:
        assert math.isclose(count / 1e6, PUBLISHED[name], rel_tol=0.01), f"{count:,} parameters"
    if said := re.search(r"([\d.]+(?:e\d+)?)( million)? parameters", recipe_file(name).read_text()):
        assert math.isclose(count, float(said[1]) * (1e6 if said[2] else 1), rel_tol=0.01), f"{count:,} parameters"


def called(network, state, conditions) -> torch.Tensor:
    """One call of two samples, of the kind that the network is."""
    spec = network.spec
    assert isinstance(spec, NetSpec)
    cond = {
        item.name: torch.zeros(2, dtype=torch.long, device=META)
        if item.discrete
        else torch.zeros(2, item.width, device=META)
        for item in conditions
    }
    x, t = torch.zeros(2, *state, device=META), torch.zeros(2, device=META)
    if kind_of(network) == "kernel":
        return network.untokens(network.head(network.tokens(x), t, t, network.features(x, t, **cond)))
    return network(x, *[t] * spec.times, **cond)
