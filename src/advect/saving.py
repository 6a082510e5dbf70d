"""What a Flow writes, and how it is read back without running anybody's code.

``flow.json``           format number, the parts as nested class paths and arguments, the sentence on the score,
                        how it was made, versions, hashes
``model.safetensors``   parameters and buffers by path; the weights one samples with are THE weights
``sampler-*.safetensors``  tensors of the default sampler (a fitted source or grid), where it has some; named by hash
``fitted/<name>/``      ``part.json`` and ``tensors-*.safetensors`` of what was found later, each in its own folder
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from advect.errors import InputError
from advect.files import hash_tensors, load_tensors, read_json, save_tensors, sha256, write_json
from advect.flow import Flow
from advect.parts import ModulePart, Part, build, class_path, config_of, modules_in
from advect.sampler import Sampler

FORMAT = 1


def versions() -> dict[str, str]:
    """What a result depends on: advect, torch, numpy, Python."""
    from advect import __version__

    return {
        "advect": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def save(flow: Flow, folder: str | os.PathLike[str]) -> None:
    """Write a flow into a folder; of an older flow there nothing is left, and files of another kind are not touched.

    Raises:
        InputError: If the network is a plain callable, which has nothing to save.
    """
    folder = Path(folder)
    config = flow_config(flow)
    save_tensors(folder / "model.safetensors", flow.state_dict(), {"format": "pt"})
    described = {
        "format": FORMAT,
        "flow": config,
        "score_refusal": flow.score_refusal,
        "record": flow.record,
        "versions": versions(),
        "hashes": {"model.safetensors": sha256(folder / "model.safetensors"), "weights": flow.weights_hash()},
    }
    if (stored := flow.stored_hash()) != described["hashes"]["weights"]:  # cast to another type since
        described["hashes"]["weights as stored"] = stored
    _remove_other_fitted(folder, flow)  # before flow.json: a whole folder never holds the parts of another flow
    for name, part in flow.fitted.items():
        save_fitted(folder, name, part)
    described["hashes"] |= _save_sampler_tensors(folder, flow.sampler)
    write_json(folder / "flow.json", described)  # last: a folder with a flow.json is whole
    _remove_other_samplers(folder, described["hashes"])


def save_sampler(folder: str | os.PathLike[str], sampler: Sampler) -> None:
    """Make this the default sampler of a saved flow; its weights are not touched, and a stop halfway changes nothing.

    Args:
        folder: The folder of a saved flow.
        sampler: What it is sampled with from now on.
    """
    folder = Path(folder)
    described = _described(folder / "flow.json")
    kept = {name: digest for name, digest in described["hashes"].items() if not name.startswith("sampler-")}
    described["hashes"] = kept | _save_sampler_tensors(folder, sampler)
    described["flow"]["sampler"] = config_of(sampler)
    write_json(folder / "flow.json", described)
    _remove_other_samplers(folder, described["hashes"])


def _save_sampler_tensors(folder: Path, sampler: Sampler) -> dict[str, str]:
    """Write the tensors of a sampler, if it has some, under a name of their own; returns file name and hash."""
    state = _sampler_state(sampler)
    if not state:
        return {}
    name = f"sampler-{hash_tensors(state)[:16]}.safetensors"
    save_tensors(folder / name, state)
    return {name: sha256(folder / name)}


def _sampler_state(sampler: Sampler) -> dict[str, torch.Tensor]:
    parts = modules_in(sampler)
    return {f"{i}.{name}": value for i, part in enumerate(parts) for name, value in part.state_dict().items()}


def _remove_other_samplers(folder: Path, hashes: dict[str, str]) -> None:
    for path in folder.glob("sampler-*.safetensors"):
        if path.name not in hashes:
            path.unlink()


def _remove_other_fitted(folder: Path, flow: Flow) -> None:
    for path in folder.glob("fitted/*/part.json"):
        if path.parent.name not in flow.fitted:
            tensors = list(path.parent.glob("tensors*.safetensors"))
            for ours in (path, *tensors):  # without its part.json it is no part any more, wherever this is stopped
                ours.unlink()
            with contextlib.suppress(OSError):  # somebody else's files are there, or another part
                path.parent.rmdir()
                path.parent.parent.rmdir()


def refuse_name(name: str) -> None:
    """Refuse a name of a fitted part that is no plain folder name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"name is {name!r}: a fitted part is called by letters, digits, - and _")


def save_fitted(folder: str | os.PathLike[str], name: str, part: Part) -> None:
    """Add one fitted part to a saved flow; nothing else in the folder is touched."""
    refuse_name(name)
    where = Path(folder) / "fitted" / name
    described: dict[str, Any] = {"format": FORMAT, "part": config_of(part)}
    described["hashes"] = {}
    if isinstance(part, ModulePart):
        file = f"tensors-{hash_tensors(part.state_dict())[:16]}.safetensors"  # a stop halfway leaves the part before
        save_tensors(where / file, part.state_dict())
        described["hashes"] = {file: sha256(where / file)}
        described["fitted_on"] = part.fitted_on
    write_json(where / "part.json", described)
    for path in where.glob("tensors*.safetensors"):
        if path.name not in described["hashes"]:
            path.unlink()


def load_fitted(folder: str | os.PathLike[str], name: str, *, trust_remote_code: bool = False) -> Part:
    """Read one part that :func:`save_fitted` wrote.

    Raises:
        InputError: If there is none of that name, or it is damaged.
    """
    path = Path(folder) / "fitted" / name / "part.json"
    if not path.exists():
        raise InputError(f"{path} is missing: no part of the name {name!r} was kept there")
    return _load_fitted(path, trust_remote_code)


def load(folder: str | os.PathLike[str], *, network: nn.Module | None = None, trust_remote_code: bool = False) -> Flow:
    """Read a flow; nothing is unpickled, and only parts of advect are built.

    Args:
        folder: What :func:`save` wrote.
        network: The network to load the weights into, where it is not a part (a plain ``nn.Module`` of one's own).
        trust_remote_code: Whether classes outside ``advect`` named in the file may be imported and called.

    Raises:
        InputError: If files are missing, damaged or of a newer format, a class is not trusted, or weights don't fit.
    """
    folder = Path(folder)
    described = _described(folder / "flow.json")
    try:
        config, digest = dict(described["flow"]), described["hashes"]["model.safetensors"]
        if network is not None:
            config["network"] = None
        parts = {name: build(_known(value), trust_remote_code=trust_remote_code) for name, value in config.items()}
        shape, built = tuple(parts.pop("shape")), parts.pop("network")
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'flow.json'} lacks what a flow needs: {error}") from error
    flow = Flow(built if network is None else network, shape=shape, record=described.get("record"), **parts)
    tensors = _checked_tensors(folder / "model.safetensors", digest)
    try:
        flow.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'model.safetensors'} does not fit the networks of flow.json: {reason}") from error
    if (known := described["hashes"].get("weights")) is not None:
        own = flow.state_dict()
        if "weights as stored" in described["hashes"] or any(own[k].dtype != v.dtype for k, v in tensors.items()):
            flow.cast_from(known)
    for name, digest in described["hashes"].items():
        if name.startswith("sampler-"):
            tensors = _checked_tensors(folder / name, digest)
            for i, part in enumerate(modules_in(flow.sampler)):
                prefix = f"{i}."
                part.load_state_dict(
                    {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
                )
                part.eval()
    for path in sorted(folder.glob("fitted/*/part.json")):
        flow.fitted[path.parent.name] = _load_fitted(path, trust_remote_code)
    return flow.eval()


def flow_config(flow: Flow) -> dict[str, Any]:
    """The parts of a flow as nested plain values."""
    return {
        "network": _network_config(flow.network),
        "transport": config_of(flow.transport),
        "codec": config_of(flow.codec),
        "conditions": config_of(flow.conditions),
        "sampler": config_of(flow.sampler),
        "shape": list(flow.shape),
        "others": {role: _network_config(module) for role, module in flow.others.items()},
    }


def _network_config(network: Any) -> dict[str, Any]:
    if (refusal := getattr(network, "save_refusal", None)) is not None:
        raise InputError(refusal)
    if isinstance(network, Part):
        return config_of(network)
    if isinstance(network, nn.Module):
        return {"foreign": class_path(type(network))}
    raise InputError(
        f"the network is a plain {type(network).__name__}, which has no weights to save: "
        "make it an nn.Module, or a part of advect if it is to be rebuilt from the file"
    )


def _known(config: Any) -> Any:
    """Refuse a network that was saved without being a part of advect, also among `others`."""
    for value in [config, *config.values()] if isinstance(config, dict) else []:
        if isinstance(value, dict) and "foreign" in value:
            raise InputError(
                f"the network was a plain {value['foreign']}, which is not a part of advect and cannot be rebuilt from "
                "a file: make one and pass it as network=, or derive the class from advect.networks.Network"
            )
    return config


def _described(path: Path) -> dict[str, Any]:
    if not path.exists():
        run = path.parent / "flow" / path.name
        hint = f"the flow of this run is {run.parent}" if run.exists() else "give the folder of a saved flow"
        raise InputError(f"{path} does not exist: {hint}")
    described = read_json(path)
    number = described.get("format") if isinstance(described, dict) else None
    if not isinstance(number, int):
        raise InputError(f"{path} has no format number, so it is not a file of advect")
    if number > FORMAT:
        raise InputError(f"{path} has format {number}, and this advect reads up to {FORMAT}: install a newer advect")
    return described


def _checked_tensors(path: Path, digest: str) -> dict[str, torch.Tensor]:
    if path.exists() and sha256(path) != digest:
        raise InputError(f"{path} is damaged or of another save: its hash is not the one beside it; copy it again")
    return load_tensors(path)


def _load_fitted(path: Path, trusted: bool) -> Part:
    described = _described(path)
    part = build(described["part"], trust_remote_code=trusted)
    if isinstance(part, ModulePart):
        ((file, digest),) = described["hashes"].items()
        part.load_state_dict(_checked_tensors(path.with_name(file), digest))
        part.eval()
    return part
