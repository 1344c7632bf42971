"""Networks: pure modules, one folder a model, one frozen config dataclass each."""
