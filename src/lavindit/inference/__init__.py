"""Inference: sampling, the engine, baselines and scores."""

from lavindit.inference.engine import Engine, load
from lavindit.inference.presets import PRESETS, Options, Settings, settle
from lavindit.inference.sampler import SamplingConfig, answer_batch, encode_batch, join_context
from lavindit.inference.scorer import TaskScorer, write_strip

__all__ = [
    "PRESETS",
    "Engine",
    "Options",
    "SamplingConfig",
    "Settings",
    "TaskScorer",
    "answer_batch",
    "encode_batch",
    "join_context",
    "load",
    "settle",
    "write_strip",
]
