"""A mistake in options or configs names the option, the file that it stands in, and what was meant."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import ActionConfigFile

from lavindit.cli.configs import expand_configs
from lavindit.cli.options import Parser, mistakes_in
from lavindit.errors import LavinditError
from lavindit.models import JDiT, JDiTConfig

Refuse = Callable[..., str]


class Module:
    """What `--model` may be."""

    def __init__(self, network: JDiTConfig, ema_decay: float = 0.9) -> None:
        self.network, self.ema_decay = JDiT(network), ema_decay


@pytest.fixture
def refuse(tmp_path, monkeypatch) -> Refuse:
    """The message that a config and options are refused with."""
    monkeypatch.chdir(tmp_path)
    parser = Parser(allow_abbrev=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--data.batch_size", type=int, default=3)
    parser.add_subclass_arguments(Module, "model")

    def parse(content: str, *options: str) -> str:
        model = f"model: {{class_path: {__name__}.Module, init_args: {{network: {{width: 64}}}}}}\n"
        Path("base.yaml").write_text(model)
        Path("mine.yaml").write_text(f"base: base.yaml\n{content}\n")
        arguments = ["--config", "mine.yaml", *options]
        with pytest.raises(LavinditError) as refused, mistakes_in(arguments, "fit"):
            parser.parse_args(expand_configs(arguments))
        return str(refused.value)

    return parse


@pytest.mark.parametrize(
    ("content", "option", "meant"),
    [
        ("mod_el: 3", "mod_el", "model"),
        ("data: {batchsize: 3}", "batchsize", "data.batch_size"),
        ("data.batchsize: 3", "batchsize", "data.batch_size"),
        ("model: {init_args: {network: {wid_th: 3}}}", "wid_th", "network.width"),
        ("model: {init_args: {ema_deca: 3}}", "ema_deca", "ema_decay"),
    ],
)
def test_an_option_that_there_is_not(content, option, meant, refuse):
    message = refuse(content)
    assert message.startswith("mine.yaml: ")
    assert f"{option}'" in message
    assert message.endswith(f"; perhaps {meant} is meant; see `lavindit fit --help`")
    assert message.count("--help") == 1
    assert "\n" not in message


def test_a_name_like_no_other(refuse):
    assert refuse("zzz: 3") == "mine.yaml: Option 'zzz' is not accepted; see `lavindit fit --help`"


@pytest.mark.parametrize("content", ["data: {batch_size: abc}", "model: {init_args: {network: {width: abc}}}"])
def test_a_value_that_is_refused(content, refuse):
    message = refuse(content)
    assert message.startswith("mine.yaml: ")
    assert "abc" in message


@pytest.mark.parametrize("option", ["--data.batch_size=abc", "--model.init_args.network.width=abc"])
def test_what_the_command_line_says_stands_in_no_file(option, refuse):
    message = refuse("data: {batch_size: 3}", option)
    assert "yaml" not in message
    assert "abc" in message


def test_a_typo_on_the_command_line(refuse):
    message = refuse("", "--data.batch_siz", "3")
    assert message == (
        "unrecognized arguments: --data.batch_siz 3; perhaps data.batch_size is meant; see `lavindit fit --help`"
    )


def test_the_file_among_several(refuse, tmp_path):
    (tmp_path / "other.yaml").write_text("data: {batchsize: 3}\n")
    assert refuse("data: {batch_size: 4}", "--config", "other.yaml").startswith("other.yaml: ")
