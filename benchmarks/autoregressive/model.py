"""The decoder: a causal transformer over visual sentences, made like LLaMA (Touvron et al. 2023), as LVM is.

Legend: B sentences, N tokens so far, m new tokens, V codes, L blocks, D width, H heads of d channels.

A sentence is input, target, input, target, ..., query, answer: one picture's tokens after the other's, row by row. A
token that begins sentences stands before it, so that the first picture is predicted, too. `read` keeps keys and values,
so that a prompt of pairs is read once for any number of queries and an answer costs one pass a token.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models.jdit.block import RMSNorm, SwiGLU

TOLERANCE = 0.03  # of the number of parameters
MLP_SHAPES = (2.0, 3.5)  # widths of the MLP over D that count as LLaMA's, which is 8/3


@dataclass(frozen=True)
class DecoderConfig:
    """Size of a decoder.

    Attributes:
        codes: V.
        width: D.
        depth: L.
        heads: H.
        mlp_width: Hidden width of the SwiGLU.
        rope_base: Base of the rotation frequencies.
    """

    codes: int
    width: int = 256
    depth: int = 8
    heads: int = 4
    mlp_width: int = 680
    rope_base: float = 10000.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise LavinditError(f"width {self.width} must be a multiple of twice the {self.heads} heads")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def begin(self) -> int:
        """The token that begins a sentence; it is read, and never written."""
        return self.codes

    @property
    def parameters(self) -> int:
        """Of the whole decoder: embedding and head (two matrices), blocks, norms."""
        block = 4 * self.width**2 + 3 * self.width * self.mlp_width + 2 * self.width
        return (2 * self.codes + 1) * self.width + self.depth * block + self.width


def match_parameters(wanted: int, codes: int, shape: float = 32.0) -> DecoderConfig:
    """A decoder of as many parameters as the network that it is compared with, embedding and head counted.

    Of all widths in steps of 32 and all depths the one whose MLP is nearest to 8/3 D, and D/L to `shape`.

    Args:
        wanted: Parameters.
        codes: V.
        shape: D/L: 32 in the nano J-DiT, in LLaMA 7B 128.

    Raises:
        LavinditError: No decoder comes within 3 %.
    """
    found: dict[DecoderConfig, float] = {}
    for width in range(32, 4097, 32):
        for depth in range(1, 65):
            bare = DecoderConfig(codes, width, depth, width // (32 if width % 64 else 64), mlp_width=0)
            hidden = round((wanted - bare.parameters) / (24 * width * depth)) * 8
            if MLP_SHAPES[0] * width <= hidden <= MLP_SHAPES[1] * width:
                config = DecoderConfig(codes, width, depth, bare.heads, hidden)
                if abs(config.parameters - wanted) <= TOLERANCE * wanted:
                    found[config] = math.log(hidden / width * 3 / 8) ** 2 + math.log(width / depth / shape) ** 2
    if not found:
        raise LavinditError(f"no decoder of {wanted} parameters has {codes} codes; choose a smaller codebook")
    return min(found, key=lambda config: found[config])


class Cache:
    """Keys and values of what was read, with room for more.

    Args:
        config: Of the decoder.
        batch: B.
        room: Tokens that fit in.
        like: Gives type and device.

    Attributes:
        keys: [L, B, H, room, d].
        values: Same shape.
        length: N, tokens that are in it.
    """

    def __init__(self, config: DecoderConfig, batch: int, room: int, like: Tensor) -> None:
        shape = (config.depth, batch, config.heads, room, config.head_dim)
        self.keys, self.values, self.length = like.new_empty(shape), like.new_empty(shape), 0

    def put(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a block's keys and values [B, H, m, d] after the N that are there; all N + m of them."""
        end = self.length + keys.shape[2]
        self.keys[block, :, :, self.length : end] = keys
        self.values[block, :, :, self.length : end] = values
        return self.keys[block, :, :, :end], self.values[block, :, :, :end]

    def continued(self, config: DecoderConfig, batch: int, more: int) -> "Cache":
        """A copy for `batch` sentences that begin with this one (of B = 1, or as many), and room for `more` tokens."""
        copy = Cache(config, batch, self.length + more, self.keys)
        copy.length = self.length
        for mine, theirs in ((self.keys, copy.keys), (self.values, copy.values)):
            theirs[:, :, :, : self.length] = mine[:, :, :, : self.length]
        return copy


class Block(nn.Module):
    """norm - causal attention, norm - SwiGLU, each added to what came in."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_norm, self.mlp_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.mlp = SwiGLU(config.width, config.mlp_width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], past: tuple[Cache, int] | None = None) -> Tensor:
        """Update tokens.

        Args:
            x: [B, m, D].
            turn: Cosines and sines of the tokens' positions [m, d].
            past: What was read before, to be added to, and the number of this block in it.

        Returns:
            [B, m, D].
        """
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.config.heads, -1))
        heads = heads.permute(2, 0, 3, 1, 4)
        (q, k), v = rotate(heads[:2], turn), heads[2]
        mask, before = None, 0
        if past is not None:
            cache, block = past
            before = cache.length
            k, v = cache.put(block, k, v)
        new, alone = x.shape[1], x.shape[1] == 1  # one token sees all, and a sentence without a past needs no mask
        if before and not alone:
            mask = torch.ones(new, before + new, dtype=torch.bool, device=x.device).tril(before)
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not before and not alone)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x))


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries and keys [..., m, d] by the angles whose cosines and sines [m, d] are given (Su et al. 2021)."""
    first, second = x.chunk(2, dim=-1)
    return x * turn[0].to(x.dtype) + torch.cat([-second, first], dim=-1) * turn[1].to(x.dtype)


class Decoder(nn.Module):
    """Predicts the next token of a visual sentence.

    Args:
        config: Size.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        # Of three dimensions, so that `MuonAdamW` leaves tables of codes to AdamW, as Jordan et al. (2024) advise.
        self.embedding = nn.Parameter(torch.empty(config.codes + 1, 1, config.width))
        self.head = nn.Parameter(torch.empty(config.codes, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        self._turns: tuple[Tensor, Tensor] | None = None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal with deviation 0.02; what is added to the residual stream smaller by sqrt(2 L)."""
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                added = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.config.depth) if added else 0.02)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Features that the next token is predicted from.

        Args:
            tokens: [B, m].
            cache: What was read before; the tokens are added to it.

        Returns:
            [B, m, D], for `logits`.
        """
        first = 0 if cache is None else cache.length
        x, turn = F.embedding(tokens, self.embedding[:, 0]), self._turn(first, first + tokens.shape[1])
        for number, block in enumerate(self.blocks):
            x = block(x, turn, None if cache is None else (cache, number))
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(x)

    def logits(self, features: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        return F.linear(features, self.head[:, 0])

    @torch.no_grad()
    def read(self, tokens: Tensor, past: Cache | None = None, room: int = 0) -> tuple[Cache, Tensor]:
        """Read the beginning of sentences, or more of them.

        Args:
            tokens: [B, m]; where nothing was read before, the token that begins a sentence is put in front.
            past: What was read before, for as many sentences or one for all of them; it is left as it is.
            room: Tokens that are to follow in the same cache.

        Returns:
            All that was read, and features [B, D] of the next token.
        """
        if past is None:
            tokens = F.pad(tokens, (1, 0), value=self.config.begin)
            cache = Cache(self.config, len(tokens), tokens.shape[1] + room, self.embedding)
        else:
            cache = past.continued(self.config, len(tokens), tokens.shape[1] + room)
        return cache, self(tokens, cache)[:, -1]

    def _turn(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions first ... end - 1, [m, d] each; kept, since every token asks for them."""
        kept = self._turns
        if kept is None or len(kept[0]) < end or kept[0].device != self.embedding.device:
            with torch.inference_mode(False), torch.no_grad():
                half = torch.arange(0, self.config.head_dim, 2, dtype=torch.float64) / self.config.head_dim
                angles = torch.arange(2 * end, dtype=torch.float64)[:, None] * self.config.rope_base**-half
                angles = torch.cat([angles, angles], dim=-1).to(self.embedding.device)
                kept = self._turns = (angles.cos().float(), angles.sin().float())
        return kept[0][first:end], kept[1][first:end]


def sentences_of(inputs: Tensor, targets: Tensor) -> Tensor:
    """Tokens of inputs and targets [B, K, n] -> input, target, input, target, ... [B, 2 K n]."""
    return torch.stack([inputs, targets], dim=2).flatten(1)


def next_token_loss(decoder: Decoder, inputs: Tensor, targets: Tensor, on_targets: bool = False) -> Tensor:
    """Mean cross-entropy [] of the tokens of sentences.

    Args:
        decoder: The decoder.
        inputs: Tokens of the inputs, query included [B, K + 1, n].
        targets: Tokens of the targets [B, K + 1, n].
        on_targets: Of the targets' tokens alone; False: of all, as LVM is trained.
    """
    sentence = sentences_of(inputs, targets)
    features = decoder(F.pad(sentence, (1, 0), value=decoder.config.begin)[:, :-1])
    if on_targets:
        of_target = torch.arange(sentence.shape[1], device=sentence.device) // inputs.shape[2] % 2 == 1
        features, sentence = features[:, of_target], sentence[:, of_target]
    return F.cross_entropy(decoder.logits(features).flatten(0, 1).float(), sentence.flatten())
