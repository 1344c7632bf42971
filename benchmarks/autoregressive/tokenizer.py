"""Pictures to tokens and back: the nano VAE's image part with a quantizer in the place of its Gaussian.

Legend: B pictures, C = 16 latent channels, g x g latent pixels a token, d digits of a code with L_i levels each,
n tokens a picture.

The quantizer is FSQ (Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple"): every digit is bounded by
tanh and rounded to one of its L_i levels, and the gradient passes the rounding. Its codebook is the product of the
levels, so there is nothing to be learned, initialised, revived or averaged; in a training of minutes a learned codebook
(VQGAN's, with or without averages) spends much of the time on getting its codes into use.

`Tokenizer.start_from` takes the weights of a trained VAE, so that the baseline's tokens and our latents come from one
autoencoder and both ceilings had the same training; what is trained after that is told by `train`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models import STVAE, STVAEConfig

LEVELS = {1000: (8, 5, 5, 5), 4375: (7, 5, 5, 5, 5), 15360: (8, 8, 8, 6, 5), 64000: (8, 8, 8, 5, 5, 5)}
"""Levels by size of the codebook, as Mentzer et al. recommend them for about 2^10, 2^12, 2^14 and 2^16 codes."""
NANO_VAE = STVAEConfig(
    widths=(96, 160, 160), encoder_blocks=1, decoder_blocks=2, mid_blocks=1, patch=4, conv="2+1d", linear_shortcut=True
)
LATENT_PX = 8  # side of what a latent pixel stands for


@dataclass(frozen=True)
class TokenizerConfig:
    """Size and options of a tokenizer.

    Attributes:
        codes: Size of the codebook, a key of `LEVELS`.
        token_px: Side of what a token stands for: 8 (64 tokens a picture of 64 px) or 16 (16 tokens).
        vae: The autoencoder around the quantizer.
    """

    codes: int = 1000
    token_px: int = LATENT_PX
    vae: STVAEConfig = field(default_factory=lambda: NANO_VAE)

    def __post_init__(self) -> None:
        if self.codes not in LEVELS:
            raise LavinditError(f"no codebook of {self.codes} codes; there are {', '.join(map(str, LEVELS))}")
        if self.token_px % LATENT_PX or self.token_px < LATENT_PX:
            raise LavinditError(f"token_px {self.token_px} must be a multiple of {LATENT_PX}")

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of each digit of a code."""
        return LEVELS[self.codes]

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> "TokenizerConfig":
        """The config that `asdict` was written of."""
        vae: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in said["vae"].items()
        }
        return cls(said["codes"], said["token_px"], STVAEConfig(**vae))


class FSQ(nn.Module):
    """Rounds each digit to one of its levels (Mentzer et al. 2023, sec. 3.1).

    Args:
        levels: Of each digit.
    """

    radix: Tensor
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        places = [math.prod(levels[:place]) for place in range(len(levels))]
        self.register_buffer("radix", torch.tensor(places), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Any numbers [..., d] -> the nearest code's digits in [-1, 1]; the gradient is that of the bound."""
        half = (self.levels - 1) / 2
        offset = (self.levels % 2 == 0) / 2  # an even number of levels has none in the middle
        bounded = (z + torch.atanh(offset / half)).tanh() * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)

    def to_tokens(self, digits: Tensor) -> Tensor:
        """Digits of codes [..., d] -> their numbers [...]."""
        half = self.levels // 2
        return ((digits * half + half).round().long() * self.radix).sum(-1)

    def to_digits(self, tokens: Tensor) -> Tensor:
        """Numbers of codes [...] -> their digits in [-1, 1] [..., d]."""
        half = self.levels // 2
        return (tokens[..., None] // self.radix % self.levels - half) / half


class Tokenizer(nn.Module):
    """An autoencoder of pictures whose latent is tokens of a codebook.

    Args:
        config: Size and options.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, self.fsq = config, FSQ(config.levels)
        self.vae = STVAE(config.vae)
        channels, side = config.vae.latent_channels, config.token_px // LATENT_PX
        self.down = nn.Conv2d(channels, len(config.levels), side, stride=side)
        self.up = nn.ConvTranspose2d(len(config.levels), channels, side, stride=side)
        with torch.no_grad():  # a random orthogonal projection and its transpose: unit variance stays as it is
            rows = nn.init.orthogonal_(torch.empty(len(config.levels), channels * side**2))
            for layer in (self.down, self.up):
                layer.weight.copy_(rows.view(len(config.levels), channels, side, side))
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType] - it has one
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """What looks back in time has no part in pictures, and gets no gradient."""
        for name, parameter in self.vae.named_parameters():
            parameter.requires_grad_(".time." not in name)

    def start_from(self, vae: STVAE) -> None:
        """Take a trained VAE's weights.

        Raises:
            LavinditError: It is of another size.
        """
        if vae.config != self.config.vae:
            raise LavinditError("the tokenizer cannot start from a VAE of another size; name one like the nano VAE")
        self.vae.load_state_dict(vae.state_dict())

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] through the codebook and back.

        Args:
            pictures: [B, 3, 1, H, W].

        Returns:
            Same shape in about [0, 1], with gradient.
        """
        latent = self.vae.normalise(self.vae.encode(pictures * 2 - 1).mean)
        return (self._pixels(self._digits(latent)) + 1) / 2

    @torch.no_grad()
    def encode(self, pictures: Tensor, chunk: int = 64) -> Tensor:
        """Pictures in [0, 1] -> tokens, row by row.

        Args:
            pictures: [..., 3, 1, H, W].
            chunk: Pictures a pass.

        Returns:
            int64 [..., n].

        Raises:
            LavinditError: They are clips, or their sides are no multiples of the token's.
        """
        if pictures.shape[-3] != 1 or any(side % self.config.token_px for side in pictures.shape[-2:]):
            shown = " x ".join(map(str, pictures.shape[-3:]))
            raise LavinditError(f"the tokenizer takes pictures of multiples of {self.config.token_px} px, got {shown}")
        parts = pictures.flatten(0, -5).split(chunk)
        digits = torch.cat([self._digits(self.vae.to_latent(part)) for part in parts])
        return self.fsq.to_tokens(digits).flatten(1).unflatten(0, pictures.shape[:-4])

    @torch.no_grad()
    def decode(self, tokens: Tensor, height: int, chunk: int = 64) -> Tensor:
        """Tokens -> pictures in [0, 1].

        Args:
            tokens: [..., n].
            height: Of the pictures in pixels.
            chunk: Pictures a pass.

        Returns:
            [..., 3, 1, height, W].
        """
        grid = tokens.flatten(0, -2).unflatten(1, (height // self.config.token_px, -1))
        pixels = torch.cat([self._pixels(self.fsq.to_digits(part)) for part in grid.split(chunk)])
        return ((pixels + 1) / 2).clamp(0, 1).unflatten(0, tokens.shape[:-1])

    def tokens_of(self, px: int) -> int:
        """Tokens n of a square picture."""
        return (px // self.config.token_px) ** 2

    def _digits(self, latent: Tensor) -> Tensor:
        """Normalised latents [B, C, 1, h, w] -> digits [B, h/g, w/g, d]."""
        return self.fsq(self.down(latent[:, :, 0]).movedim(1, -1))

    def _pixels(self, digits: Tensor) -> Tensor:
        """Digits [B, h/g, w/g, d] -> pixels [B, 3, 1, H, W], about [-1, 1]."""
        latent = self.up(digits.movedim(-1, 1)).unsqueeze(2)
        return self.vae.decode(self.vae.denormalise(latent))


def tokenizer_loss(tokenizer: Tokenizer, pictures: Tensor, l1_weight: float = 0.3) -> Tensor:
    """Squared error and L1 of pictures [B, 3, 1, H, W] in [-1, 1], as the nano VAE's loss takes them; a mean [].

    Args:
        tokenizer: The tokenizer.
        pictures: In [0, 1].
        l1_weight: Weight of the L1 term.
    """
    rebuilt = tokenizer(pictures)
    return 4 * F.mse_loss(rebuilt, pictures) + 2 * l1_weight * F.l1_loss(rebuilt, pictures)
