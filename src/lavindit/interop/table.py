"""Which released tensors make which of ours: the one table that both directions follow.

Ours fuses what the release keeps apart: queries, keys and values; gate and up of the MLP; scale and shift of the
decoder's norms. The release has its two stream vectors as [1, D].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lavindit.models import JDiTConfig, STVAEConfig

Shape = tuple[int, ...]
AFFINE = ("weight", "bias")
STREAMS = {"context": "cond", "target": "x"}
DIT_LAYERS = {
    "context_embed.0": "cond_embedder.0",
    "context_embed.1": "cond_embedder.1",
    "target_embed.0": "x_embedder.0",
    "target_embed.1": "x_embedder.1",
    "time_embed.first": "t_embedder.mlp.0",
    "time_embed.second": "t_embedder.mlp.2",
    "final_modulation": "final_layer.adaLN_modulation.1",
    "final": "final_layer.linear",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of ours and the released tensors that it is made of.

    Attributes:
        ours: Key in our state dict.
        released: Keys in the released state dict.
        how: "copy"; "concatenate" along the first dimension; "squeeze" a leading 1 away.
        rows: Rows of each released tensor that is concatenated.
    """

    ours: str
    released: tuple[str, ...]
    how: Literal["copy", "concatenate", "squeeze"] = "copy"
    rows: tuple[int, ...] = ()

    def pieces(self, shape: Shape) -> Iterator[tuple[str, Shape, tuple[int, int] | None]]:
        """For our shape: each released key, its shape, and its rows in ours (None: all)."""
        if self.how == "concatenate":
            first = 0
            for key, rows in zip(self.released, self.rows, strict=True):
                yield key, (rows, *shape[1:]), (first, first + rows)
                first += rows
        else:
            yield self.released[0], (1, *shape) if self.how == "squeeze" else shape, None

    def join(self, read: Callable[[str], Tensor]) -> Tensor:
        """Our tensor from the released ones."""
        if self.how == "concatenate":
            return torch.cat([read(key) for key in self.released])
        tensor = read(self.released[0])
        return tensor[0] if self.how == "squeeze" else tensor


def dit_entries(config: JDiTConfig) -> Iterator[Entry]:
    """All tensors of the transformer, those of the last block that nothing reads too."""
    yield Entry("context_vector", ("prompt_embed",), "squeeze")
    yield Entry("target_vector", ("answer_embed",), "squeeze")
    for ours, theirs in DIT_LAYERS.items():
        yield from _same(ours, theirs)
    qkv = (config.width, config.kv_width, config.kv_width)
    for block in range(config.depth):
        for ours, theirs in STREAMS.items():
            new, old = f"blocks.{block}.{ours}", f"blocks.{block}"
            heads, mlp = f"{old}.joint_attn.{theirs}", f"{old}.{theirs}_mlp"
            yield from _same(f"{new}.modulation", f"{old}.{theirs}_modulation.1")
            yield Entry(f"{new}.qkv.weight", tuple(f"{heads}_{part}.weight" for part in "qkv"), "concatenate", qkv)
            yield Entry(f"{new}.q_norm.weight", (f"{heads}_qnorm.weight",))
            yield Entry(f"{new}.k_norm.weight", (f"{heads}_knorm.weight",))
            yield Entry(f"{new}.out.weight", (f"{heads}_proj.weight",))
            gate_up = (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")
            yield Entry(f"{new}.mlp.gate_up.weight", gate_up, "concatenate", (config.mlp_width, config.mlp_width))
            yield Entry(f"{new}.mlp.down.weight", (f"{mlp}.down_proj.weight",))


def vae_entries(config: STVAEConfig) -> Iterator[Entry]:
    """All tensors of the VAE; the latent statistics are no tensors of the release."""
    for half, blocks in (("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)):
        latent_norm = half == "decoder"
        widths = config.widths[::-1] if latent_norm else config.widths
        down, resample = ("up", "upsamplers") if latent_norm else ("down", "downsamplers")
        inner = config.widths[-1]
        yield from _same(f"{half}.stem", f"{half}.conv_in.conv")
        for block in range(config.mid_blocks):
            new, old = f"{half}.mid.{block}", f"{half}.mid_block.resnets.{block}"
            yield from _residual_block(new, old, inner, inner, latent_norm)
        for level, width in enumerate(widths):
            released = f"{half}.{down}_blocks.{level}"
            for block in range(blocks):
                entering = widths[max(level - 1, 0)] if block == 0 else width
                new, old = f"{half}.levels.{level}.{block}", f"{released}.resnets.{block}"
                yield from _residual_block(new, old, entering, width, latent_norm)
            if level < len(widths) - 1:
                yield from _same(f"{half}.{down}s.{level}.conv", f"{released}.{resample}.0.conv")
        yield from _norm(f"{half}.norm", f"{half}.norm_out", widths[-1], latent_norm)
        yield from _same(f"{half}.head", f"{half}.conv_out.conv")


def _residual_block(ours: str, theirs: str, entering: int, leaving: int, latent_norm: bool) -> Iterator[Entry]:
    for number, width in ((1, entering), (2, leaving)):
        yield from _norm(f"{ours}.norm{number}", f"{theirs}.norm{number}", width, latent_norm)
        yield from _same(f"{ours}.conv{number}", f"{theirs}.conv{number}.conv")
    if entering != leaving:
        yield from _same(f"{ours}.shortcut", f"{theirs}.conv_shortcut")


def _norm(ours: str, theirs: str, width: int, latent_norm: bool) -> Iterator[Entry]:
    if not latent_norm:
        yield from _same(f"{ours}.group", theirs)
        return
    yield from _same(f"{ours}.group", f"{theirs}.norm_layer")
    for kind in AFFINE:
        scale_shift = (f"{theirs}.conv_y.conv.{kind}", f"{theirs}.conv_b.conv.{kind}")
        yield Entry(f"{ours}.modulation.{kind}", scale_shift, "concatenate", (width, width))


def _same(ours: str, theirs: str) -> Iterator[Entry]:
    for kind in AFFINE:
        yield Entry(f"{ours}.{kind}", (f"{theirs}.{kind}",))
