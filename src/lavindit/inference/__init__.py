"""Inference: sampling, the engine, baselines and scores."""

from lavindit.inference.engine import Engine, load
from lavindit.inference.sampler import SamplingConfig, answer_batch, encode_batch, join_context
from lavindit.inference.scorer import TaskScorer, write_strip

__all__ = [
    "Engine",
    "SamplingConfig",
    "TaskScorer",
    "answer_batch",
    "encode_batch",
    "join_context",
    "load",
    "write_strip",
]
