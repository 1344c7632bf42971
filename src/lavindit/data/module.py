"""The Lightning data module: which tasks, which scenes, how many pairs."""

from lightning import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from lavindit.data.episodes import EpisodeMaker
from lavindit.data.mixture import EpisodeMixture, EpisodeTest, ShareSampler, StreamSampler
from lavindit.data.sources import SourceConfig
from lavindit.errors import LavinditError
from lavindit.task import Task, all_tasks, get_task
from lavindit.types import EpisodeBatch


class EpisodeData(LightningDataModule):
    """Episodes of a mixture of tasks; also the pictures that a VAE trains on.

    Args:
        tasks: Names, plugin files or folders of pairs; empty: every registered task. Held-out tasks are tested
            and never trained on, even if they are named here.
        weights: Weight in the training mixture by task name; 1 where not named. Tasks that are not in use may be
            named.
        source: The framework's scenes.
        batch_size: Episodes a step (before accumulation), shared evenly by the processes.
        min_pairs: Smallest K in training.
        max_pairs: Largest K in training.
        eval_pairs: K in validation and test.
        val_samples: Validation queries a task.
        test_samples: Test queries a task.
        eval_batch_size: Queries a batch in validation and test.
        seed: Seed of the episodes.
        workers: Loader processes; 0 loads in the training process.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        weights: dict[str, float] | None = None,
        source: SourceConfig = SourceConfig(),  # noqa: B008 - frozen
        batch_size: int = 16,
        min_pairs: int = 1,
        max_pairs: int = 8,
        eval_pairs: int = 4,
        val_samples: int = 16,
        test_samples: int = 64,
        eval_batch_size: int = 16,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= min_pairs <= max_pairs:
            raise LavinditError(f"min_pairs {min_pairs} must lie between 0 and max_pairs {max_pairs}")
        self.tasks = [get_task(name) for name in tasks] if tasks else list(all_tasks().values())
        self.weights, self.source = weights or {}, source
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.pairs, self.eval_pairs = (min_pairs, max_pairs), eval_pairs
        self.val_samples, self.test_samples = val_samples, test_samples
        self.seed, self.workers = seed, workers
        if min(batch_size, eval_batch_size) < 1 or min(source.scenes, source.test_scenes) < 1:
            raise LavinditError("batch_size, eval_batch_size, scenes and test_scenes must be at least 1")
        unknown = set(self.weights) - {task.name for task in self.tasks} - set(all_tasks())
        if unknown:
            raise LavinditError(f"weights name {', '.join(sorted(unknown))}, which are no tasks")

    def setup(self, stage: str) -> None:
        """Refuse to train on nothing."""
        if stage == "fit" and not self.trained_tasks:
            raise LavinditError("every task named is held out of training; name one that is not")

    @property
    def trained_tasks(self) -> list[Task]:
        """Tasks that are not held out."""
        return [task for task in self.tasks if not task.held_out]

    def train_dataloader(self) -> DataLoader[EpisodeBatch]:
        """Endless stream; a resumed run goes on where it stopped."""
        rank, processes = self._place()
        if self.batch_size % processes:
            raise LavinditError(f"batch_size {self.batch_size} cannot be shared evenly by {processes} processes")
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready if self.trainer is not None else 0
        makers = {task.name: EpisodeMaker(task, "train", self.source) for task in self.trained_tasks}
        mixture = EpisodeMixture(makers, self.weights, self.batch_size, self.pairs, self.seed, rank, processes)
        return self._loader(mixture, StreamSampler(done))

    def val_dataloader(self) -> DataLoader[EpisodeBatch]:
        """All trained tasks, one after the other: their losses make one mean."""
        dataset = ConcatDataset([self._eval_set(task, "val", self.val_samples) for task in self.trained_tasks])
        return self._loader(dataset, ShareSampler(len(dataset), *self._place()))

    def test_dataloader(self) -> list[DataLoader[EpisodeBatch]]:
        """One loader a task, held-out ones included."""
        datasets = [self._eval_set(task, "test", self.test_samples) for task in self.tasks]
        return [self._loader(dataset, ShareSampler(len(dataset), *self._place())) for dataset in datasets]

    def predict_dataloader(self) -> list[DataLoader[EpisodeBatch]]:
        """As `test_dataloader`."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: EpisodeBatch, device, dataloader_idx: int) -> EpisodeBatch:
        """Move the stacked pictures; the truth stays where metrics are computed."""
        return batch.to(device)

    def _place(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _eval_set(self, task: Task, split: str, samples: int) -> EpisodeTest:
        return EpisodeTest(
            EpisodeMaker(task, split, self.source), samples, self.eval_batch_size, self.eval_pairs, self.seed
        )

    def _loader(self, dataset: Dataset, sampler: Sampler[int]) -> DataLoader[EpisodeBatch]:
        return DataLoader(
            dataset, batch_size=None, sampler=sampler, num_workers=self.workers, persistent_workers=self.workers > 0
        )
