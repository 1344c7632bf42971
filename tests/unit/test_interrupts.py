"""Ctrl-C and SIGTERM."""

import os
import signal

import pytest

from lavindit.interrupts import PatientInterrupt, interrupt_on_sigterm, leave_interrupts_to_parent


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell started in the background
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_is_an_interruption():
    interrupt_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_raises(number, capfd):
    patient = PatientInterrupt("one moment")
    patient.start()
    assert not patient.asked
    send(number)
    assert patient.asked
    assert capfd.readouterr().err == "\none moment\n"
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    patient.start()
    assert not patient.asked


def test_handlers_are_given_back_unless_somebody_took_them():
    patient = PatientInterrupt("")
    patient.start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    patient.stop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_what_is_ignored_stays_ignored():
    leave_interrupts_to_parent()
    patient = PatientInterrupt("")
    patient.start()
    send(signal.SIGINT)
    send(signal.SIGTERM)
    assert not patient.asked
