"""Every choice of a J-DiT, in one frozen dataclass."""

from dataclasses import dataclass
from typing import Literal

ContextAttention = Literal["joint", "prefix", "causal"]


@dataclass(frozen=True)
class JDiTConfig:
    """Size and options of a joint diffusion transformer.

    Attributes:
        width: Token width D.
        depth: Number of blocks.
        heads: Query heads.
        queries_per_kv: Query heads that share one key-value head (1: plain multi-head attention).
        latent_channels: Channels C of the latent space.
        patch: Side of the latent patch that becomes one token.
        sandwich: Non-affine RMSNorm on each sublayer's output, too.
        drop_path: Probability of skipping a sublayer in training, rising linearly from 0 over the depth.
        context_attention: Who sees whom. "joint": everybody everybody, the context is modulated by t (the
            paper). "prefix": pairs see pairs, the query sees pairs and itself, the target sees all; the
            context's time is 1. "causal": as prefix, and a clean frame sees only frames up to itself.
        rope_rotation: Which channels rotate together within one axis: "half_split" (i, i + d/2; the release)
            or "interleaved" (2i, 2i + 1; the paper).
        rope_axes: Order of the axes in a head: "tyx" (the release) or "txy" (the paper).
        rope_dims: Channels of a head for (t, spatial, spatial); None: thirds where they are even, else
            a quarter for time and the rest for space.
        rope_base: Base of the rotation frequencies.
        input_condition: A noisy token also carries an embedding of its input's token at the same place, as models
            from one picture to another join their condition to the noise (Palette: Saharia et al. 2022; Marigold: Ke
            et al. 2024). Neither paper nor release has it; where little can be trained, it spares the network to
            learn where to look (docs/training.md).
        input_skip: What the last layer gives also holds the input's latent, each number times a gate of the token that
            starts at zero: where little of an input has to change, it need not go through the network. Not in paper
            or release.
        predicts: What the last layer gives. "velocity": as paper and release. "data": the clean target, from which
            the velocity follows (JiT: Li & He 2025), so that noise need not pass through a narrow network.
        full_last_block: Keep the last block's context output and MLP, which nothing reads; only released
            state dicts have them.
    """

    width: int = 128
    depth: int = 6
    heads: int = 2
    queries_per_kv: int = 2
    latent_channels: int = 16
    patch: int = 2
    sandwich: bool = True
    drop_path: float = 0.0
    context_attention: ContextAttention = "joint"
    rope_rotation: Literal["half_split", "interleaved"] = "half_split"
    rope_axes: Literal["tyx", "txy"] = "tyx"
    rope_dims: tuple[int, int, int] | None = None
    rope_base: float = 10000.0
    input_condition: bool = False
    input_skip: bool = False
    predicts: Literal["velocity", "data"] = "velocity"
    full_last_block: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.queries_per_kv:
            raise ValueError(
                f"width {self.width} must divide by heads {self.heads}, heads by queries_per_kv {self.queries_per_kv}"
            )
        if sum(self.axis_dims) != self.head_dim or any(dim % 2 for dim in self.axis_dims):
            raise ValueError(f"rope_dims {self.axis_dims} must be even and sum to the head width {self.head_dim}")

    @property
    def reads_input(self) -> bool:
        """Whether a noisy frame needs the frame that is its input, beside the context."""
        return self.input_condition or self.input_skip

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Channels of all keys (or values) of a token."""
        return self.head_dim * self.heads // self.queries_per_kv

    @property
    def axis_dims(self) -> tuple[int, int, int]:
        """Channels of a head that carry (t, spatial, spatial) positions."""
        if self.rope_dims is not None:
            return self.rope_dims
        if self.head_dim % 6 == 0:
            third = self.head_dim // 3
            return (third, third, third)
        time = self.head_dim // 4 // 2 * 2
        return (time, (self.head_dim - time) // 2, (self.head_dim - time) // 2)

    @property
    def mlp_width(self) -> int:
        """Hidden width of the SwiGLU: 8/3 D rounded down to a multiple of 64."""
        return 8 * self.width // 3 // 64 * 64
