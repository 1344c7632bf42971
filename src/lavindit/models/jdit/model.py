"""The joint diffusion transformer (LaVin-DiT, sec. 3.3): from a context and a noisy target to a velocity.

Legend: B batch, C latent channels, Tc context frames, T target frames, h w latent size, n = (h/2)(w/2) tokens a
frame, D width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lavindit.models.jdit.block import JointBlock, Stream, rms_norm
from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.layout import Layout, query_layout
from lavindit.models.jdit.rope import sequence_tables

FREQUENCIES = 128
LAYER_NORM_EPS = 1e-5


class TimeEmbedding(nn.Module):
    """[cos(t f_i), sin(t f_i)], f_i = 10000^(-i/128), then Linear-SiLU-Linear; t in [0, 1] as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * FREQUENCIES, width)
        self.second = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Times [...] -> [..., D]."""
        i = torch.arange(FREQUENCIES, device=t.device, dtype=torch.float32)
        angles = t.float()[..., None] * 10000 ** (-i / FREQUENCIES)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.first.weight.dtype)
        return self.second(F.silu(self.first(waves)))


class JDiT(nn.Module):
    """Joint diffusion transformer.

    Args:
        config: Size and options.

    Attributes:
        checkpointing: Keep only the blocks' inputs for the backward pass and compute the blocks again in it: more
            work, much less memory.
    """

    def __init__(self, config: JDiTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        patch_width = config.latent_channels * config.patch**2
        self.context_embed = self._embedder(patch_width)
        self.target_embed = self._embedder(patch_width)
        self.time_embed = TimeEmbedding(config.width)
        self.context_vector = nn.Parameter(torch.empty(config.width))
        self.target_vector = nn.Parameter(torch.empty(config.width))
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            JointBlock(config, rate, last=i == config.depth - 1) for i, rate in enumerate(rates)
        )
        self.final_modulation = nn.Linear(config.width, config.width)
        self.final = nn.Linear(config.width, patch_width)
        self.reset_parameters()

    def _embedder(self, patch_width: int) -> nn.Sequential:
        width = self.config.width
        return nn.Sequential(nn.Linear(patch_width, width), nn.LayerNorm(width, eps=LAYER_NORM_EPS))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Xavier for matrices; zero for every modulation and for the last layer, so each block starts as identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Stream):
                nn.init.zeros_(module.modulation.weight)
        for linear in (self.final_modulation, self.final):
            nn.init.zeros_(linear.weight)
        for linear in (self.time_embed.first, self.time_embed.second):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.normal_(self.context_vector, std=0.02)
        nn.init.normal_(self.target_vector, std=0.02)

    def forward(self, noisy: Tensor, t: Tensor, context: Tensor, layout: Layout | None = None) -> Tensor:
        """Velocity of the noisy target.

        Args:
            noisy: [B, C, T, h, w], h and w even.
            t: Times in [0, 1], [B], or [B, T] where every noisy frame has its own.
            context: Clean frames [B, C, Tc, h, w]: input, target, input, target, ..., query.
            layout: Positions and visibility; by default one query frame at the end, as the config's
                `context_attention` says.

        Returns:
            [B, C, T, h, w].
        """
        config, dtype = self.config, self.final.weight.dtype
        if layout is None:
            layout = query_layout(config.context_attention, context.shape[2], noisy.shape[2], query_frames=1)
        tokens_c = self.context_embed(self._patchify(context.to(dtype)))
        tokens_t = self.target_embed(self._patchify(noisy.to(dtype)))
        time = self.time_embed(t[:, None] if t.ndim == 1 else t)
        joint = config.context_attention == "joint"
        context_time = (time if joint else self.time_embed(t.new_ones(len(t), 1))) + self.context_vector
        target_time = time + self.target_vector
        h, w = noisy.shape[3] // config.patch, noisy.shape[4] // config.patch
        tables = sequence_tables(config, layout, h, w, noisy.device)
        for block in self.blocks:
            inputs = (tokens_c, tokens_t, context_time, target_time, tables)
            if self.checkpointing and torch.is_grad_enabled():
                tokens_c, tokens_t = checkpoint(block, *inputs, use_reentrant=False)
            else:
                tokens_c, tokens_t = block(*inputs)
        scale = 1 + self.final_modulation(F.silu(target_time)).unsqueeze(2)
        return self._unpatchify(self.final(rms_norm(tokens_t) * scale), h)

    def _patchify(self, x: Tensor) -> Tensor:
        """[B, C, T, h, w] -> [B, T, n, p p C]: patch row, patch column, channel."""
        p = self.config.patch
        return rearrange(x, "b c t (h p) (w q) -> b t (h w) (p q c)", p=p, q=p)

    def _unpatchify(self, x: Tensor, h: int) -> Tensor:
        """[B, T, n, p p C] -> [B, C, T, h, w]."""
        p = self.config.patch
        return rearrange(x, "b t (h w) (p q c) -> b c t (h p) (w q)", h=h, p=p, q=p)
