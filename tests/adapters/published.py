"""What the pipelines themselves make of the same noise and texts."""

from __future__ import annotations

import torch

SIZES = {"sd3": (32, 32, None), "flux": (32, 48, None), "wan": (32, 32, 5), "qwen": (32, 48, None)}
STEPS = 4


def noise(flow, n=2):
    return torch.randn(n, *flow.shape, generator=torch.Generator().manual_seed(3))


def published(name, pipe, flow, guided, output="latent", **more):
    """What the pipeline makes of the same noise and texts."""
    height, width, frames = SIZES[name]
    x0, prompts = noise(flow), ["a red cube", "two dogs"]
    options = {"height": height, "width": width, "num_inference_steps": STEPS, "output_type": output}
    if name in ("flux", "qwen"):
        x0 = pipe._pack_latents(x0, 2, flow.shape[0], *flow.shape[1:])
        options |= {"negative_prompt": ["blurry, dark"] * 2, "true_cfg_scale": 3.0} if guided else {}
    else:
        options |= {"negative_prompt": ["blurry, dark"] * 2, "guidance_scale": 3.0 if guided else 1.0}
    if frames:
        options["num_frames"] = frames
    out = pipe(prompt=prompts, latents=x0, **options, **more)
    out = out.frames if name == "wan" else out.images
    if output != "latent":
        return out
    if name in ("flux", "qwen"):
        return pipe._unpack_latents(out, height, width, pipe.vae_scale_factor).reshape(2, *flow.shape)
    return out


def told(flow):
    return flow.network.tell(["a red cube", "two dogs"], negative="blurry, dark")
