"""The joint diffusion transformer (LaVin-DiT, sec. 3.3): from a context and a noisy target to a velocity.

Legend: B batch, C latent channels, Tc context frames, T target frames, h w latent size, n = (h/2)(w/2) tokens a
frame, D width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lavindit.models.jdit.block import JointBlock, Stream, rms_norm
from lavindit.models.jdit.cache import KVCache
from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.layout import Layout, inputs_of, query_layout, reading_layout
from lavindit.models.jdit.rope import SequenceTables, sequence_tables

FREQUENCIES = 128
LAYER_NORM_EPS = 1e-5
GATE_PACE = 0.1  # gates that open as fast as other weights move disturb the tasks that need none
LEAST_LEFT = 0.05  # of the way to the data, so that an error in them does not become a velocity without bound (JiT)


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
        self.input_embed = self._embedder(patch_width) if config.input_condition else None
        self.time_embed = TimeEmbedding(config.width)
        self.context_vector = nn.Parameter(torch.empty(config.width))
        self.target_vector = nn.Parameter(torch.empty(config.width))
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            JointBlock(config, rate, last=i == config.depth - 1) for i, rate in enumerate(rates)
        )
        self.final_modulation = nn.Linear(config.width, config.width)
        self.final = nn.Linear(config.width, patch_width)
        self.input_gate = nn.Linear(config.width, patch_width) if config.input_skip else None
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
        for linear in (self.final_modulation, self.final, self.input_gate):
            if linear is not None:
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
        config = self.config
        if layout is None:
            layout = query_layout(config.context_attention, context.shape[2], noisy.shape[2], query_frames=1)
        beside = context[:, :, list(layout.inputs)] if config.reads_input else None
        tokens_c, tokens_t = self._embed(self.context_embed, context), self._embed_noisy(noisy, beside)
        time = self.time_embed(t[:, None] if t.ndim == 1 else t)
        joint = config.context_attention == "joint"
        context_time = (time if joint else self.time_embed(t.new_ones(len(t), 1))) + self.context_vector
        target_time = time + self.target_vector
        tables = self._tables(layout, noisy)
        for block in self.blocks:
            inputs = (tokens_c, tokens_t, context_time, target_time, tables)
            if self.checkpointing and torch.is_grad_enabled():
                tokens_c, tokens_t, _ = checkpoint(block, *inputs, use_reentrant=False)
            else:
                tokens_c, tokens_t, _ = block(*inputs)
        return self._velocity(tokens_t, target_time, noisy, t, beside)

    @torch.no_grad()
    def read(self, context: Tensor, past: Sequence[KVCache] = ()) -> KVCache:
        """Read clean frames once, for any number of `answer`s; `prefix` and `causal` alone can.

        Args:
            context: Clean frames [B, C, F, h, w]. In `prefix` those that are read together see one another: all pairs
                are one reading, and the query another. In `causal` it makes no difference how frames are shared out.
            past: What was read before, in order; B of each may be 1.

        Returns:
            Keys and values of these frames alone.
        """
        layout = reading_layout(self.config.context_attention, context.shape[2], sum(cache.frames for cache in past))
        time = self.time_embed(torch.ones(1, 1, device=context.device)) + self.context_vector
        tokens: Tensor | None = self._embed(self.context_embed, context)
        tables = self._tables(layout, context)
        kept: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            before = [cache.block(number) for cache in past]
            tokens, _, keys_values = block(tokens, None, time, None, tables, before)
            if not kept:  # room for all blocks at once, or what is kept would be there twice at the end
                kept = [part.new_empty(len(self.blocks), *part.shape) for part in keys_values]
            for whole, part in zip(kept, keys_values, strict=True):
                whole[number] = part
        keys, values = kept
        return KVCache(keys, values, context.shape[2])

    @torch.no_grad()
    def answer(self, noisy: Tensor, t: Tensor, past: Sequence[KVCache], query: Tensor | None = None) -> Tensor:
        """As `forward`, with a context that was read before: the work of the target's own tokens.

        Args:
            noisy: [B, C, T, h, w].
            t: Times in [0, 1], [B].
            past: What was read, in order, the query last; B of each may be 1.
            query: The query's clean frames [B, C, Tq, h, w]; only a network that `reads_input` needs them again.

        Returns:
            Velocity [B, C, T, h, w].

        Raises:
            ValueError: The network needs the query, and it is missing.
        """
        inputs = None
        if self.config.reads_input:
            if query is None:
                raise ValueError("a network with input_condition or input_skip needs the query in every step")
            inputs = query[:, :, list(inputs_of([0], query.shape[2], noisy.shape[2]))]
        first = sum(cache.frames for cache in past)
        tables = self._tables(Layout((), tuple(range(first, first + noisy.shape[2])), None), noisy)
        return self.step(noisy, t, past, tables, inputs)

    def step(
        self, noisy: Tensor, t: Tensor, past: Sequence[KVCache], tables: SequenceTables, inputs: Tensor | None = None
    ) -> Tensor:
        """The part of `answer` that a compiler can take (`lavindit.inference.serving`)."""
        time = self.time_embed(t[:, None]) + self.target_vector
        tokens = self._embed_noisy(noisy, inputs)
        for number, block in enumerate(self.blocks):
            _, tokens, _ = block(None, tokens, None, time, tables, [cache.block(number) for cache in past])
        return self._velocity(tokens, time, noisy, t, inputs)

    def _embed(self, embed: nn.Module, latent: Tensor) -> Tensor:
        return embed(self._patchify(latent.to(self.final.weight.dtype)))

    def _embed_noisy(self, noisy: Tensor, inputs: Tensor | None) -> Tensor:
        """Tokens of noisy frames and, where the network takes them, of the clean frames that are their inputs."""
        tokens = self._embed(self.target_embed, noisy)
        return tokens if self.input_embed is None or inputs is None else tokens + self._embed(self.input_embed, inputs)

    def _tables(self, layout: Layout, latent: Tensor) -> SequenceTables:
        h, w = (side // self.config.patch for side in latent.shape[3:])
        return sequence_tables(self.config, layout, h, w, latent.device)

    def _velocity(self, tokens: Tensor, time: Tensor, noisy: Tensor, t: Tensor, inputs: Tensor | None) -> Tensor:
        """Tokens after the last block [B, T, n, D] -> velocity of `noisy` [B, C, T, h, w], at its times `t`."""
        tokens = rms_norm(tokens) * (1 + self.final_modulation(F.silu(time)).unsqueeze(2))
        numbers = self.final(tokens)
        if self.input_gate is not None and inputs is not None:
            numbers = numbers + GATE_PACE * self.input_gate(tokens) * self._patchify(inputs.to(numbers.dtype))
        found = self._unpatchify(numbers, noisy.shape[3] // self.config.patch)
        if self.config.predicts == "velocity":
            return found
        left = 1 - (t[:, None] if t.ndim == 1 else t)[:, None, :, None, None]  # of the way from noise (0) to data (1)
        return (found.float() - noisy) / left.clamp_min(LEAST_LEFT)

    def _patchify(self, x: Tensor) -> Tensor:
        """[B, C, T, h, w] -> [B, T, n, p p C]: patch row, patch column, channel."""
        p = self.config.patch
        return rearrange(x, "b c t (h p) (w q) -> b t (h w) (p q c)", p=p, q=p)

    def _unpatchify(self, x: Tensor, h: int) -> Tensor:
        """[B, T, n, p p C] -> [B, C, T, h, w]."""
        p = self.config.patch
        return rearrange(x, "b t (h w) (p q c) -> b c t (h p) (w q)", h=h, p=p, q=p)
