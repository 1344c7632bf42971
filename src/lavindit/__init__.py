"""lavindit: in-context vision models. Show a few input-target pairs and a query; get the answer."""

from lavindit._torchvision import declare_missing_operators

declare_missing_operators()

__version__ = "0.1.0"
