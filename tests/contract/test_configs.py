"""What every shipped config promises: it parses, says its command, and makes the network that it describes."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lavindit.cli.configs import expand_configs, find_config
from lavindit.data import EpisodeData
from lavindit.errors import LavinditError
from lavindit.training import DiTModule, VAEModule
from lavindit.training.base import TrainedModule

CONFIGS = Path(__file__).parents[2] / "configs"
ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
EXPERIMENTS = [name for name in ALL if name.startswith("experiment/")]
MODELS = [name for name in ALL if name.startswith("model/")]

Cli = Callable[[list[object]], Any]


def parsed(run_cli: Cli, *arguments: object) -> dict[str, Any]:
    """The whole config that a command would run with."""
    ran = run_cli([*arguments, "--print_config"])
    assert ran.code == 0, ran.stderr
    return yaml.safe_load(ran.stdout)


def comment_of(name: str) -> str:
    lines = (CONFIGS / name).read_text().splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#") for line in lines[:first])


def built(content: dict[str, Any]) -> tuple[TrainedModule, EpisodeData]:
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(EpisodeData, "data")
    made = parser.instantiate_classes(parser.parse_object({key: content[key] for key in ("model", "data")}))
    return made.model, made.data


def test_there_are_some() -> None:
    assert len(EXPERIMENTS) >= 2
    assert len(MODELS) >= 2


@pytest.mark.parametrize("name", ALL)
def test_is_a_mapping_that_opens_with_a_comment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # shipped names are known everywhere
    assert isinstance(yaml.safe_load((CONFIGS / name).read_text()), dict)
    assert comment_of(name).strip()
    assert find_config(name).resolve() == (CONFIGS / name).resolve()
    assert find_config(f"configs/{name}") == find_config(name.removesuffix(".yaml")) == find_config(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
class TestExperiment:
    def test_opens_with_its_command(self, name: str, run_cli: Cli) -> None:
        commands = re.findall(r"lavindit ((?:fit|test) \S*.*?)(?:  |$|\()", comment_of(name), re.MULTILINE)
        fitting = [shlex.split(command) for command in commands if command.startswith("fit")]
        assert ["fit", "--config", name] in [command[:3] for command in fitting]
        for command in commands:
            parsed(run_cli, *shlex.split(command))

    def test_all_that_it_says_is_what_runs(self, name: str, run_cli: Cli) -> None:
        """Every value of the file and of its bases arrives, but for those that a later file overrides."""
        arguments = expand_configs(["--config", name])
        assert arguments[::2] == ["--config"] * (len(arguments) // 2)
        wanted: dict[str, Any] = {}
        for content in arguments[1::2]:
            wanted |= flat(yaml.safe_load(content))
        found = flat(parsed(run_cli, "fit", "--config", name))
        assert "base" not in found
        assert wanted == {key: found.get(key) for key in wanted}

    def test_builds_its_module_and_its_data(self, name: str, run_cli: Cli) -> None:
        module, data = built(parsed(run_cli, "fit", "--config", name))
        assert isinstance(module, VAEModule | DiTModule)
        assert data.trained_tasks
        assert not any(task.held_out for task in data.trained_tasks)
        low, high = data.pairs
        assert high < data.source.scenes
        assert low >= 1 or isinstance(module, VAEModule)


@pytest.mark.parametrize("name", MODELS)
def test_model_is_as_large_as_its_comment_says(name: str, run_cli: Cli, tiny_vae_dir: Path) -> None:
    said = re.search(r"([\d.]+) ([MB]) parameters", comment_of(name))
    assert said is not None
    vae = [] if "vae" in name else [f"--model.vae={tiny_vae_dir}"]
    module, _ = built(parsed(run_cli, "fit", "--config", name, *vae))
    with torch.device("meta"):
        network = module.build_network()
    millions = sum(parameter.numel() for parameter in network.parameters()) / {"M": 1e6, "B": 1e9}[said[2]]
    assert round(millions, len(said[1].partition(".")[2])) == float(said[1])


class TestComposition:
    def test_later_files_and_arguments_win_key_by_key(self, tmp_path: Path, run_cli: Cli) -> None:
        base = CONFIGS / "experiment" / "demo_vae.yaml"
        (tmp_path / "mine.yaml").write_text(f"base: {base}\ntrainer: {{max_steps: 7}}\ndata: {{batch_size: 3}}\n")
        content = parsed(run_cli, "fit", "--config", tmp_path / "mine.yaml", "--data.batch_size=5")
        assert content["trainer"]["max_steps"] == 7
        assert content["data"]["batch_size"] == 5
        assert content["data"]["max_pairs"] == 0
        assert content["trainer"]["gradient_clip_val"] == 1.0
        assert content["model"]["init_args"]["network"]["widths"] == [96, 160, 160]

    def test_bases_come_first_and_in_order(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "a.yaml").write_text("base: sub/b.yaml\nx: 1\n")
        (tmp_path / "sub" / "b.yaml").write_text("x: 2\n")
        (tmp_path / "c.yaml").write_text("base: [sub/b.yaml, a.yaml]\n")
        expanded = expand_configs(["fit", f"--config={tmp_path / 'c.yaml'}", "--other", "1"])
        assert expanded[0::6] == ["fit", "x: 1\n"]
        assert [yaml.safe_load(text)["x"] for text in expanded[2:7:2]] == [2, 2, 1]
        assert expanded[-2:] == ["--other", "1"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("base: mine.yaml", r"mine\.yaml is its own base"),
            ("base: [other.yaml]", r"mine\.yaml is its own base, by way of .*other\.yaml"),
            ("base: none.yaml", r"mine\.yaml stands on none\.yaml, but there is no .*none\.yaml"),
            ("a: [", r"cannot read the config .*mine\.yaml"),
            ("- a", r"mine\.yaml must be a mapping"),
            ("", r"mine\.yaml must be a mapping"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path: Path, run_cli: Cli, text: str, words: str) -> None:
        (tmp_path / "mine.yaml").write_text(text)
        (tmp_path / "other.yaml").write_text("base: mine.yaml")
        with pytest.raises(LavinditError, match=words):
            expand_configs(["--config", str(tmp_path / "mine.yaml")])
        ran = run_cli(["fit", "--config", tmp_path / "mine.yaml"])
        assert ran.code == 2
        assert re.fullmatch(rf"lavindit: error: .*{words}.*\n", ran.stderr)

    def test_missing_file_names_the_shipped_ones(self) -> None:
        with pytest.raises(LavinditError, match=r"no config none\.yaml; .*experiment/demo_jdit\.yaml"):
            expand_configs(["--config", "none.yaml"])
        with pytest.raises(LavinditError, match="--config needs a file"):
            expand_configs(["fit", "--config"])

    @pytest.mark.parametrize("key", ["surprise: 1", "data: {surprise: 1}", "model: {init_args: {surprise: 1}}"])
    def test_unknown_keys_are_refused(self, tmp_path: Path, run_cli: Cli, key: str) -> None:
        base = CONFIGS / "experiment" / "demo_vae.yaml"
        (tmp_path / "mine.yaml").write_text(f"base: {base}\n{key}\n")
        ran = run_cli(["fit", "--config", tmp_path / "mine.yaml"])
        assert ran.code == 2
        assert re.fullmatch(r"lavindit: error: .*surprise.*\n", ran.stderr)


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    return {k: v for key, value in content.items() for k, v in flat(value, f"{prefix}.{key}").items()}
