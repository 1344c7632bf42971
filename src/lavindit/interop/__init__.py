"""Interop: the released LaVin-DiT weights in and out, as state dicts and as files."""

from lavindit.interop.convert import export_official, import_official
from lavindit.interop.official import dit_from_state_dict, dit_to_state_dict, vae_from_state_dict, vae_to_state_dict

__all__ = [
    "dit_from_state_dict",
    "dit_to_state_dict",
    "export_official",
    "import_official",
    "vae_from_state_dict",
    "vae_to_state_dict",
]
