"""From a batch of episodes to answers: tokenize, read the pairs, write the answer token by token, decode.

Legend: B batch, K pairs, n tokens a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoregressive.model import Cache, Decoder, sentences_of
from autoregressive.tokenizer import Tokenizer
from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.types import EpisodeBatch


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: Of the softmax; 0: the likeliest token always (greedy).
        top_k: Only the likeliest so many can be drawn; None: all.
        seed: Seed of the draws.
    """

    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or (self.top_k is not None and self.top_k < 1):
            raise LavinditError(
                f"temperature {self.temperature} must be 0 or more, and top_k {self.top_k} 1 or more; 0 is greedy"
            )

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "Sampling":
        """A sampling by its name: "greedy", a temperature "0.7", or one with a number of candidates, "0.7/50".

        Raises:
            LavinditError: It is none of these.
        """
        if text == "greedy":
            return cls(seed=seed)
        temperature, _, top_k = text.partition("/")
        try:
            return cls(float(temperature), int(top_k) if top_k else None, seed)
        except ValueError:
            raise LavinditError(f"no sampling {text!r}; there are greedy, a temperature, temperature/top_k") from None

    def draws(self, sample_ids: Sequence[str], count: int) -> Tensor:
        """Numbers in [0, 1) that decide every draw [B, count]; each row comes from its own sample id and the seed."""
        seeds = [seed_from("tokens", self.seed, sample_id) for sample_id in sample_ids]
        return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def choose(self, logits: Tensor, draw: Tensor) -> Tensor:
        """Tokens [B] by logits [B, V] and draws [B]."""
        if self.temperature == 0:
            return logits.argmax(-1)
        values, codes = logits.sort(-1, descending=True)
        kept = values[:, : self.top_k].float() / self.temperature
        upto = kept.softmax(-1).cumsum(-1)
        place = (upto < draw[:, None].to(upto) * upto[:, -1:]).sum(-1, keepdim=True)
        return codes.gather(1, place)[:, 0]


@torch.no_grad()
def generate(
    decoder: Decoder, query: Tensor, sample_ids: Sequence[str], sampling: Sampling, prompt: Cache | None = None
) -> Tensor:
    """Tokens of the answers [B, n] to queries [B, n], after a prompt that was read before (for each, or for all)."""
    count = query.shape[1]
    draws = sampling.draws(sample_ids, count).to(query.device)
    cache, features = decoder.read(query, prompt, room=count)
    answer = torch.empty_like(query)
    for place in range(count):
        answer[:, place] = sampling.choose(decoder.logits(features), draws[:, place])
        if place + 1 < count:
            features = decoder(answer[:, place : place + 1], cache)[:, -1]
    return answer


@torch.no_grad()
def answer_batch(tokenizer: Tokenizer, decoder: Decoder, batch: EpisodeBatch, sampling: Sampling) -> Tensor:
    """Answers to a batch as pictures [B, 3, 1, H, W]; its queries' targets are not looked at.

    Raises:
        LavinditError: The batch has clips.
    """
    if max(batch.inputs.shape[3], batch.targets.shape[3]) > 1:
        raise LavinditError(f"task {batch.tasks[0]} has clips; the autoregressive baseline answers images")
    pairs, prompt = batch.inputs.shape[1] - 1, None
    inputs = tokenizer.encode(batch.inputs)
    if pairs:
        prompt, _ = decoder.read(sentences_of(inputs[:, :pairs], tokenizer.encode(batch.targets[:, :pairs])))
    answer = generate(decoder, inputs[:, -1], batch.sample_ids, sampling, prompt)
    return tokenizer.decode(answer, batch.inputs.shape[-2])
