"""Released key names to ours: enough to load the reference tensors."""

import re

import torch
from torch import Tensor

STREAMS = {"cond": "context", "x": "target"}
TOP = {
    "cond_embedder": "context_embed",
    "x_embedder": "target_embed",
    "t_embedder.mlp.0": "time_embed.first",
    "t_embedder.mlp.2": "time_embed.second",
    "final_layer.adaLN_modulation.1": "final_modulation",
    "final_layer.linear": "final",
}


def jdit_weights(released: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    ours = {"context_vector": released["prompt_embed"][0], "target_vector": released["answer_embed"][0]}
    for key, value in released.items():
        for theirs, name in TOP.items():
            if key.startswith(theirs + "."):
                ours[name + key.removeprefix(theirs)] = value
    for block in range(depth):
        for theirs, name in STREAMS.items():
            old, new = f"blocks.{block}.", f"blocks.{block}.{name}."
            attention = old + f"joint_attn.{theirs}_"
            ours[new + "qkv.weight"] = torch.cat([released[f"{attention}{part}.weight"] for part in "qkv"])
            ours[new + "q_norm.weight"] = released[attention + "qnorm.weight"]
            ours[new + "k_norm.weight"] = released[attention + "knorm.weight"]
            ours[new + "out.weight"] = released[attention + "proj.weight"]
            mlp = f"{old}{theirs}_mlp."
            ours[new + "mlp.gate_up.weight"] = torch.cat(
                [released[mlp + "gate_proj.weight"], released[mlp + "up_proj.weight"]]
            )
            ours[new + "mlp.down.weight"] = released[mlp + "down_proj.weight"]
            for kind in ("weight", "bias"):
                ours[f"{new}modulation.{kind}"] = released[f"{old}{theirs}_modulation.1.{kind}"]
    return ours


def stvae_weights(released: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for key, value in released.items():
        if ".conv_b." in key:
            continue
        if ".conv_y." in key:
            value = torch.cat([value, released[key.replace("conv_y", "conv_b")]])
        ours[_stvae_name(key)] = value
    return ours


def _stvae_name(key: str) -> str:
    key = re.sub(r"(down|up)_blocks\.(\d+)\.resnets", r"levels.\2", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"downs.\1", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", r"ups.\1", key)
    key = key.replace("mid_block.resnets", "mid").replace("conv_shortcut", "shortcut")
    key = key.replace("conv_in.conv", "stem").replace("conv_out.conv", "head").replace("norm_out", "norm")
    key = re.sub(r"(conv[12])\.conv\.", r"\1.", key)
    key = key.replace("conv_y.conv", "modulation").replace("norm_layer", "group")
    if key.startswith("encoder"):
        key = re.sub(r"(norm\d?)\.(weight|bias)$", r"\1.group.\2", key)
    return key
