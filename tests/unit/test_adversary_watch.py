"""When the discriminator counts as collapsed, that it is told once, and that it resumes exactly."""

import json
import logging

import pytest

from lavindit.training.adversary_watch import STATES, AdversaryWatch

HEALTHY, BLIND = (0.4, -0.4, 1.2, 0.5), (0.01, 0.0, 1.99, 0.5)
FOOLED, OVERPOWERING = (-0.5, 0.5, 3.0, 0.5), (3.0, -3.0, 0.0, 0.5)
NAN = float("nan")


def feed(watch: AdversaryWatch, numbers: tuple[float, float, float, float], steps: int) -> list[str]:
    return [watch.update(*numbers) for _ in range(steps)]


def test_a_usual_game_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    watch = AdversaryWatch(window=10)
    assert watch.state == "starting"
    assert feed(watch, HEALTHY, 9) == ["starting"] * 9
    assert feed(watch, HEALTHY, 20) == ["balanced"] * 20
    assert watch.means == pytest.approx({"real": 0.4, "fake": -0.4, "loss": 1.2, "weight": 0.5})
    assert not caplog.records


@pytest.mark.parametrize(
    ("numbers", "state", "words"),
    [
        (BLIND, "blind", ("no longer tells real", "raise its learning rate")),
        (FOOLED, "blind", ("no longer tells real", "start it later")),
        (OVERPOWERING, "overpowering", ("no more to teach", "lower its learning rate", "R1", "spectral norm")),
    ],
)
def test_a_collapse_is_told_once(
    numbers: tuple[float, float, float, float], state: str, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    watch = AdversaryWatch(window=10)
    assert feed(watch, numbers, 9) == ["starting"] * 9  # a young discriminator knows nothing yet
    assert not caplog.records
    assert feed(watch, numbers, 100) == [state] * 100
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert all(word in record.message for word in words)
    assert "\n" not in record.message
    assert f"loss {numbers[2]:.3g}" in record.message
    feed(watch, HEALTHY, 100)
    assert watch.state == "balanced"
    assert "in balance again" in caplog.records[-1].message
    assert len(caplog.records) == 2
    feed(watch, numbers, 100)
    assert (watch.state, len(caplog.records)) == (state, 3)


def test_a_gap_or_a_lower_loss_is_no_blindness() -> None:
    """Loss 2 with a gap is noise around a difference; a small gap at loss 1 cannot be blindness (Jensen)."""
    for numbers in ((0.5, -0.1, 1.95, 0.5), (0.03, 0.0, 1.5, 0.5), (1.0, -1.0, 0.3, 0.5)):
        watch = AdversaryWatch(window=5)
        assert feed(watch, numbers, 20)[-1] == "balanced"


def test_one_step_is_no_collapse_and_a_lingering_mean_does_not_repeat_itself(caplog: pytest.LogCaptureFixture) -> None:
    watch = AdversaryWatch(window=20)
    feed(watch, HEALTHY, 40)
    assert watch.update(*OVERPOWERING) == watch.update(*BLIND) == "balanced"
    assert not caplog.records
    feed(watch, OVERPOWERING, 80)
    for step in range(400):  # the mean loss wanders between 0.08 and 0.12, across the threshold of 0.1
        watch.update(2.0, -2.0, 0.4 if step // 10 % 4 == 0 else 0.0, 0.5)
    assert watch.state == "overpowering"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_what_is_not_finite_is_told_at_once(place: int, value: float, caplog: pytest.LogCaptureFixture) -> None:
    watch = AdversaryWatch(window=5)
    feed(watch, HEALTHY, 7)
    spoilt = tuple(value if i == place else number for i, number in enumerate(HEALTHY))
    assert watch.update(*spoilt) == "not_finite"
    assert feed(watch, HEALTHY, 4) == ["not_finite"] * 4
    watch.update(*spoilt)  # again: no second warning
    (record,) = caplog.records
    assert "no finite number" in record.message
    assert "lower its learning rate" in record.message
    assert feed(watch, HEALTHY, 5)[-1] == "balanced"
    assert watch.means == pytest.approx({"real": 0.4, "fake": -0.4, "loss": 1.2, "weight": 0.5})
    assert len(caplog.records) == 2


@pytest.mark.parametrize("stop", [3, 30, 75])
def test_it_resumes_exactly(stop: int, caplog: pytest.LogCaptureFixture) -> None:
    course = [HEALTHY] * 20 + [OVERPOWERING] * 40 + [BLIND] * 40 + [(NAN, 0.0, 0.0, 0.0)] + [HEALTHY] * 20
    whole = AdversaryWatch(window=8)
    states = [whole.update(*numbers) for numbers in course]
    told = [record.message for record in caplog.records]
    assert set(states) == set(STATES)
    caplog.clear()
    first, second = AdversaryWatch(window=8), AdversaryWatch(window=8)
    before = [first.update(*numbers) for numbers in course[:stop]]
    stored = json.loads(json.dumps(first.state_dict()))
    assert all(isinstance(value, float) for value in stored.values())
    second.load_state_dict(stored)
    assert second.state == first.state
    assert before + [second.update(*numbers) for numbers in course[stop:]] == states
    assert second.state_dict() == whole.state_dict()
    assert [record.message for record in caplog.records] == told  # nothing is told again after a resume


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    watch = AdversaryWatch(window=5)
    assert feed(watch, BLIND, 10)[-1] == "blind"
    assert not caplog.records


def test_a_window_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="1 step or more, not 0"):
        AdversaryWatch(window=0)
