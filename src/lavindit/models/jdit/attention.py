"""Exact attention where not everybody sees everybody: in calls without a mask, and over what is kept from earlier.

Legend: B batch, h query heads, g key-value heads, d head width, N queries, M keys.
"""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.layout import Calls
from lavindit.models.jdit.rope import SequenceTables

KeysValues = tuple[Tensor, Tensor]
"""Rotated keys, and values, [B, g, M, d] each; [1, g, M, d] where a batch shares them."""
Part = tuple[Tensor, Tensor]
"""Attention to a part of all keys [B, h, N, d], and the logarithm of its normaliser [B, h, N, 1]."""


def attend(
    q: Tensor, own: KeysValues, tables: SequenceTables, config: JDiTConfig, past: Sequence[KeysValues] = ()
) -> Tensor:
    """Attention of the last N tokens of a sequence to all of it, as its tables allow, and to everything past.

    Args:
        q: Rotated queries [B, h, N, d].
        own: Keys and values of the whole sequence.
        tables: Who sees whom within the sequence.
        config: Heads.
        past: Keys and values of earlier frames; every query sees all of them. They are read where they lie, also
            where the batch shares them. There is no gradient through them.

    Returns:
        [B, h, N, d].
    """
    if not past:
        return _attend_own(q, own, tables, config)
    assert tables.mask is None
    whole = (0, own[0].shape[2])
    calls: Calls = tables.calls or ((whole, (whole,)),)
    here = [_part(rows, keys_values) for rows, keys_values in _split(q, own, calls)]
    joined: Part = join_tokens([out for out, _ in here]), join_tokens([norm for _, norm in here])
    return reduce(_merge, (_part(q, keys_values) for keys_values in past), joined)[0]


def _attend_own(q: Tensor, own: KeysValues, tables: SequenceTables, config: JDiTConfig) -> Tensor:
    grouped, (k, v) = config.queries_per_kv > 1, own
    if tables.calls is not None:
        found = [
            F.scaled_dot_product_attention(rows, *keys_values, enable_gqa=grouped)
            for rows, keys_values in _split(q, own, tables.calls)
        ]
        return join_tokens(found)
    mask = None if tables.mask is None else tables.mask[k.shape[2] - q.shape[2] :]
    if grouped and mask is not None and q.is_cuda:
        # No fused CUDA kernel takes both a mask and grouped heads; the plain one keeps every score.
        k, v = (y.repeat_interleave(config.queries_per_kv, dim=1) for y in own)
        grouped = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def join_tokens(parts: list[Tensor]) -> Tensor:
    """Tokens [B, heads, N, d] one after the other; a lone part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _split(q: Tensor, own: KeysValues, calls: Calls) -> list[tuple[Tensor, KeysValues]]:
    """The queries of each call, and what they see; queries may be the last of the sequence alone."""
    first, found = own[0].shape[2] - q.shape[2], []
    for (start, stop), spans in calls:
        if stop > first:
            parts = [[x[:, :, a:b] for a, b in spans] for x in own]
            k, v = (join_tokens(part) for part in parts)
            found.append((q[:, :, start - first : stop - first], (k, v)))
    return found


def _part(q: Tensor, keys_values: KeysValues) -> Part:
    """Attention to these keys alone. Query heads of a group, and a batch that shares its keys, ask as more queries."""
    k, v = keys_values
    shared, batch, heads = len(k) < len(q), len(q), k.shape[1]
    way = "b (g r) n d -> 1 g (b r n) d" if shared else "b (g r) n d -> b g (r n) d"
    out, norm = _kernel(rearrange(q, way, g=heads), k, v)
    back = "1 g (b r n) d -> b (g r) n d" if shared else "b g (r n) d -> b (g r) n d"
    sizes = {"r": q.shape[1] // heads, "n": q.shape[2]} | ({"b": batch} if shared else {})
    return rearrange(out, back, **sizes), rearrange(norm[..., None], back, **sizes)


def _kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention [B, g, N, d] and the logarithm of its normaliser [B, g, N], by a fused kernel where there is one."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    if q.device.type == "cuda":
        out, norm, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
        return out, norm[..., : q.shape[2]]
    return plain_kernel(q, k, v)


def plain_kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As the fused kernels, step by step: for other devices, and as their reference."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return scores.softmax(-1).to(v.dtype) @ v, scores.logsumexp(-1)


def _merge(a: Part, b: Part) -> Part:
    """Attention to the keys of both parts (as in Dao et al. 2022, sec. 3.1)."""
    (out_a, norm_a), (out_b, norm_b) = a, b
    share = torch.sigmoid(norm_b - norm_a).to(out_a.dtype)
    return torch.lerp(out_a, out_b, share.expand_as(out_a)), torch.logaddexp(norm_a, norm_b)
