"""Inference: sampling, the engine, baselines and scores."""

from lavindit.inference.engine import Engine, load
from lavindit.inference.latent_cache import LatentCache
from lavindit.inference.presets import PRESETS, Options, Settings, resettle, settle
from lavindit.inference.prompt import Prompt, PromptStore
from lavindit.inference.prompt_file import PromptFile, load_prompt, save_prompt
from lavindit.inference.sampler import SamplingConfig, answer_batch, encode_batch, join_context
from lavindit.inference.scorer import TaskScorer, write_strip

__all__ = [
    "PRESETS",
    "Engine",
    "LatentCache",
    "Options",
    "Prompt",
    "PromptFile",
    "PromptStore",
    "SamplingConfig",
    "Settings",
    "TaskScorer",
    "answer_batch",
    "encode_batch",
    "join_context",
    "load",
    "load_prompt",
    "resettle",
    "save_prompt",
    "settle",
    "write_strip",
]
