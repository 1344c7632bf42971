"""Networks: pure modules, one folder a model, one frozen config dataclass each; and model directories."""

from lavindit.models.discriminator import Discriminator, DiscriminatorConfig
from lavindit.models.jdit import JDiT, JDiTConfig
from lavindit.models.released import model_folder, released_models
from lavindit.models.store import ModelBundle, load_engine_model, load_model, save_model
from lavindit.models.stvae import STVAE, STVAEConfig

__all__ = [
    "STVAE",
    "Discriminator",
    "DiscriminatorConfig",
    "JDiT",
    "JDiTConfig",
    "ModelBundle",
    "STVAEConfig",
    "load_engine_model",
    "load_model",
    "model_folder",
    "released_models",
    "save_model",
]
