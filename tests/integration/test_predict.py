"""`lavindit predict`: answers as files."""

from pathlib import Path

import torch
from lightning import Trainer

from conftest import TINY_JDIT
from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.degradations import find_holes
from lavindit.pictures import load_picture
from lavindit.training import DiTModule
from lavindit.training.callbacks import PredictionWriter


def test_writes_an_answer_to_every_query(tiny_model_dir: Path, tmp_path: Path) -> None:
    module = DiTModule(str(tiny_model_dir), TINY_JDIT, init_from=str(tiny_model_dir))
    source = SourceConfig(resolution=64, scenes=8, test_scenes=4)
    data = EpisodeData(["colorization", "inpainting"], source=source, eval_pairs=1, test_samples=2)
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, callbacks=[PredictionWriter()], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.predict(module, data)
    found = {path.name: load_picture(path) for path in (tmp_path / "predictions").iterdir()}
    names = [f"{task}_test_{number}" for task in ("colorization", "inpainting") for number in (0, 1)]
    assert sorted(name.removesuffix(".png") for name in found) == names
    _, holed = data.predict_dataloader()
    for episode in (episode for batch in holed for episode in batch.episodes):
        answer, query = found[f"inpainting_test_{episode.number}.png"], episode.query.input
        kept = ~find_holes(query)[0]
        torch.testing.assert_close(answer[:, kept], query[:, kept], atol=0.51 / 255, rtol=0)
        assert not torch.equal(answer[:, ~kept], query[:, ~kept])
