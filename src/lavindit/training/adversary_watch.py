"""Tells when the VAE's discriminator has collapsed."""

import logging
import math
from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_only

_log = logging.getLogger(__name__)

STATES = ("starting", "balanced", "blind", "overpowering", "not_finite")
_MEANS: tuple[str, ...] = ("real", "fake", "loss", "weight")
_NOTES = {
    "balanced": "is in balance again",
    "blind": "no longer tells real pictures from reconstructed ones; "
    "raise its learning rate, lower the adversarial weight, or start it later",
    "overpowering": "tells all real pictures from all reconstructed ones, and has no more to teach; "
    "lower its learning rate, add an R1 penalty or spectral norm, or start it later",
    "not_finite": "gave a loss, logit or weight that is no finite number; "
    "lower its learning rate, or add an R1 penalty or spectral norm",
}


class AdversaryWatch:
    """Follows the game between VAE and discriminator, and warns once each time that its state changes.

    Running means over about `window` steps decide, and nothing is decided before `window` steps. The losses are hinge
    losses without a factor: 2 where nothing is known, 0 where all is told apart by a margin.

    | State | Entered | Left |
    |---|---|---|
    | `starting` | at first | after `window` steps |
    | `blind` | loss > 1.9 and real - fake < 0.1 | loss < 1.8 or real - fake > 0.2 |
    | `overpowering` | loss < 0.1 | loss > 0.2 |
    | `not_finite` | any number that is not finite | after `window` finite steps; the means begin anew |
    | `balanced` | otherwise | |

    Two thresholds for each keep a mean that lingers at one of them from warning again and again.

    Args:
        window: Steps that the means reach back.

    Attributes:
        state: One of `STATES`.
    """

    def __init__(self, window: int = 100) -> None:
        if window < 1:
            raise ValueError(f"the window must be 1 step or more, not {window}")
        self.window, self.state = window, STATES[0]
        self._steps = 0
        self._means: dict[str, float] = dict.fromkeys(_MEANS, 0.0)

    @property
    def means(self) -> dict[str, float]:
        """The running means "real", "fake", "loss" and "weight"; 0 before the first step."""
        return dict(self._means)

    def update(self, real: float, fake: float, loss: float, weight: float) -> str:
        """Take the numbers of one step of the discriminator; the same on each process, or the first one's count.

        Args:
            real: Mean logit of real pictures.
            fake: Mean logit of reconstructed pictures.
            loss: Hinge loss of the discriminator, without R1.
            weight: Adaptive weight of the adversarial loss; reported, and must be finite.

        Returns:
            The state after this step.
        """
        found = dict(zip(_MEANS, (real, fake, loss, weight), strict=True))
        if not all(math.isfinite(value) for value in found.values()):
            self._steps, self._means = 0, dict.fromkeys(_MEANS, 0.0)
            self._enter("not_finite", found)
            return self.state
        self._steps += 1
        share = 1 / min(self._steps, self.window)  # a plain mean at first, then an exponential one
        for name, value in found.items():
            self._means[name] += share * (value - self._means[name])
        if self._steps >= self.window:
            self._enter(self._judge(), self._means)
        return self.state

    def state_dict(self) -> dict[str, float]:
        """Plain numbers with which `load_state_dict` goes on exactly."""
        return {**self._means, "steps": float(self._steps), "state": float(STATES.index(self.state))}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what `state_dict` gave."""
        self._means = {name: float(state[name]) for name in _MEANS}
        self._steps, self.state = int(state["steps"]), STATES[int(state["state"])]

    def _judge(self) -> str:
        loss, gap = self._means["loss"], self._means["real"] - self._means["fake"]
        blind, overpowering = self.state == "blind", self.state == "overpowering"
        if loss > (1.8 if blind else 1.9) and gap < (0.2 if blind else 0.1):
            return "blind"
        return "overpowering" if loss < (0.2 if overpowering else 0.1) else "balanced"

    def _enter(self, state: str, numbers: Mapping[str, float]) -> None:
        """Go to a state; a change is told, but for the usual one from the start to balance."""
        before, self.state = self.state, state
        if state != before and (before, state) != ("starting", "balanced"):
            _warn(
                f"the discriminator {_NOTES[state]} (loss {numbers['loss']:.3g}, logits of real {numbers['real']:.3g}, "
                f"of reconstructed {numbers['fake']:.3g}, adaptive weight {numbers['weight']:.3g})"
            )


@rank_zero_only
def _warn(message: str) -> None:
    _log.warning(message)
