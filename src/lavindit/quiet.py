"""What libraries say about themselves, kept off a person's screen."""

import logging
import warnings

MESSAGES = (
    "Found .* in eval mode",
    ".*callbacks used to create the checkpoint",
    "Using ModelCheckpoint with manual optimization",
    "Checkpoint directory .* exists",
    "The dirpath has changed",
    ".*`?`?compute`?`? method of",
    "torch.distributed is disabled",
)
LOGGERS = ("pytorch.utilities.rank_zero", "pytorch.accelerators.cuda", "fabric.utilities.seed")


def quiet_libraries() -> None:
    """Silence warnings and notes that a person can do nothing about, in this process from now on."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    for name in LOGGERS:
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
