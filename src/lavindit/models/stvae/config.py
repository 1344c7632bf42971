"""Every choice of an ST-VAE, in one frozen dataclass."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class STVAEConfig:
    """Size and options of a spatial-temporal VAE with 4x8x8 compression.

    Attributes:
        widths: Channels of each level, finest first. Space halves after every level but the last; time halves
            after the first two.
        encoder_blocks: Residual blocks a level in the encoder.
        decoder_blocks: Residual blocks a level in the decoder.
        mid_blocks: Residual blocks at the coarsest level, between encoder and latent and between latent and
            decoder.
        latent_channels: Channels C of the latent.
        patch: Pixel-unshuffle factor before the stem (and shuffle after the head): a small VAE starts at a
            lower resolution and is several times cheaper. patch * 2^(levels - 1) must be 8.
        norm_groups: Groups of every GroupNorm.
        decoder_norm_groups: Groups of the decoder's, where they differ (the release has 32 there in any case); None: as
            `norm_groups`.
        norm: "per_frame" normalises each frame alone, so the VAE is strictly causal in time; "clip" takes
            statistics over all frames, which the released weights need.
    """

    widths: tuple[int, ...] = (32, 64, 80)
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    mid_blocks: int = 1
    latent_channels: int = 16
    patch: int = 2
    norm_groups: int = 16
    norm: Literal["per_frame", "clip"] = "per_frame"
    decoder_norm_groups: int | None = None

    def __post_init__(self) -> None:
        if self.patch * 2 ** (len(self.widths) - 1) != 8 or len(self.widths) < 3:
            raise ValueError(f"patch {self.patch} and {len(self.widths)} levels do not compress space by 8, time by 4")
        for groups in (self.norm_groups, self.decoder_norm_groups or self.norm_groups):
            if any(width % groups for width in self.widths):
                raise ValueError(f"widths {self.widths} must divide by the norms' groups, {groups}")

    def halves_time(self, level: int) -> bool:
        """Whether time halves after this level of the encoder (doubles after this level of the decoder)."""
        return level < 2
