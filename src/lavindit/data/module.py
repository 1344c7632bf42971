"""The Lightning data module: which tasks, which scenes, how many pairs."""

from lightning import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from lavindit.data.episodes import EpisodeMaker
from lavindit.data.latents import LatentMixture, LatentStore, check_data
from lavindit.data.mixture import EpisodeMixture, EpisodeTest, ShareSampler, StreamSampler
from lavindit.data.readers import Reader
from lavindit.data.sources import SourceConfig, source_for
from lavindit.errors import LavinditError
from lavindit.interrupts import leave_interrupts_to_parent
from lavindit.metrics.networks import available
from lavindit.task import Task, all_tasks, check_task_names, get_task, refuse_twins
from lavindit.task.context import parse_context
from lavindit.types import EpisodeBatch, LatentBatch

TEST_SAMPLES = 64
WEIGHTS = "docs/metrics.md tells how to get them"


class EpisodeData(LightningDataModule):
    """Episodes of a mixture of tasks; also the pictures that a VAE trains on.

    Args:
        tasks: Names, plugin files or folders of pairs; empty: every registered task. Held-out tasks are tested
            and never trained on, even if they are named here.
        weights: Weight in the training mixture by task name; 1 where not named. Tasks that are not in use may be
            named.
        source: The framework's scenes.
        batch_size: Episodes a step (before accumulation), shared evenly by the processes.
        clip_batch_size: Episodes a step of clips; None: a quarter, since a clip has four times the latent frames.
        clip_share: Share of the training steps that are of clips, whatever the weights say, where there are tasks of
            images, too; None: as the weights say.
        min_pairs: Smallest K in training.
        max_pairs: Largest K in training.
        eval_pairs: K in validation and test.
        context: How pairs are chosen in validation and test: "random", "nearest", "all" or "fixed:I,J,...", the
            numbers of training scenes; None: as the task says. Training draws them at random.
        context_draws: How often a test asks each query, every time with other pairs and other noise.
        val_samples: Validation queries a task.
        test_samples: Test queries a task; None: 64 of the framework's scenes, all of a public data set.
        eval_batch_size: Queries a batch in validation and test.
        seed: Seed of the episodes.
        workers: Loader processes; 0 loads in the training process.
        latents: Folder of latents that `lavindit encode` has written: the training of a J-DiT reads them instead of
            making episodes; validation and test stay with pictures.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        weights: dict[str, float] | None = None,
        source: SourceConfig = SourceConfig(),  # noqa: B008 - frozen
        batch_size: int = 16,
        clip_batch_size: int | None = None,
        clip_share: float | None = None,
        min_pairs: int = 1,
        max_pairs: int = 8,
        eval_pairs: int = 4,
        context: str | None = None,
        context_draws: int = 3,
        val_samples: int = 16,
        test_samples: int | None = None,
        eval_batch_size: int = 16,
        seed: int = 0,
        workers: int = 0,
        latents: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= min_pairs <= max_pairs:
            raise LavinditError(f"min_pairs {min_pairs} must lie between 0 and max_pairs {max_pairs}")
        self.tasks = [get_task(name) for name in tasks] if tasks else list(all_tasks().values())
        self.weights, self.source = weights or {}, source
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.clip_batch_size, self.clip_share = clip_batch_size, clip_share
        self.pairs, self.eval_pairs = (min_pairs, max_pairs), eval_pairs
        self.context, self.context_draws = context, context_draws
        self.val_samples, self.test_samples = val_samples, test_samples
        if test_samples is None and source.root is None:
            self.test_samples = TEST_SAMPLES
        self.seed, self.workers, self.latents = seed, workers, latents
        self._check()

    def _check(self) -> None:
        """Refuse what makes no sense."""
        clips = 1 if self.clip_batch_size is None else self.clip_batch_size
        sizes = (self.batch_size, clips, self.eval_batch_size, self.context_draws)
        scenes = (self.source.scenes, self.source.test_scenes, self.source.clips, self.source.test_clips)
        if min(*sizes, *scenes) < 1:
            raise LavinditError(
                "batch_size, clip_batch_size, eval_batch_size, context_draws, scenes, test_scenes, clips and "
                "test_clips must be at least 1"
            )
        if self.clip_share is not None and not 0 <= self.clip_share <= 1:
            raise LavinditError(f"clip_share {self.clip_share} must lie between 0 and 1")
        refuse_twins(self.tasks)
        check_task_names("data.weights", self.weights, [task.name for task in self.tasks])
        if self.context is not None:
            parse_context(self.context)

    def setup(self, stage: str) -> None:
        """Refuse to train on nothing."""
        if stage != "fit":
            return
        if not self.trained_tasks:
            raise LavinditError("every task named is held out of training; name one that is not")
        weights = {task.name: self.weights.get(task.name, 1.0) for task in self.trained_tasks}
        for name, weight in weights.items():
            if not weight >= 0:
                raise LavinditError(f"data.weights: {name} has weight {weight}; weights are 0 or more")
        if not any(weights.values()):
            raise LavinditError("data.weights are 0 for all tasks; give one of them more")
        if self.latents is not None:
            self._check_latents(self.latents)

    def _check_latents(self, folder: str) -> None:
        """Refuse stored latents that are not what this training would make."""
        config = self._latent_store(folder).description.config
        if self.trainer is None:
            return
        check = getattr(self.trainer.lightning_module, "check_latents", None)
        if check is None:
            raise LavinditError("data.latents is for the training of a J-DiT; leave it out, a VAE trains on pictures")
        check(folder, config)

    def _latent_store(self, folder: str) -> LatentStore:
        store = LatentStore(folder)
        trained = [task for task in self.trained_tasks if task.name in self.training_weights()]
        check_data(store.folder, store.description.config, trained, self.source, self.pairs[1])
        return store

    @property
    def trained_tasks(self) -> list[Task]:
        """Tasks that are not held out."""
        return [task for task in self.tasks if not task.held_out]

    def training_weights(self) -> dict[str, float]:
        """Weight of each task that is trained, those of weight 0 left out."""
        weights = {task.name: self.weights.get(task.name, 1.0) for task in self.trained_tasks}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def training_makers(self) -> dict[str, EpisodeMaker]:
        """Makers of training episodes, by task."""
        return {task.name: EpisodeMaker(task, "train", self.source) for task in self.trained_tasks}

    def notes(self) -> list[str]:
        """What a reader of a test's figures must know besides: the data set's protocol, and what is not measured."""
        protocols = {
            source.protocol
            for source in (source_for(task, "test", self.source) for task in self.tasks)
            if isinstance(source, Reader)
        }
        lacking = {c.metric for task in self.tasks for c in task.columns if c.needs and not available(c.needs)}
        missing = (
            f"Not measured, since their weights are not on this machine: {', '.join(sorted(lacking))} ({WEIGHTS})."
        )
        return [*sorted(protocols), *([missing] if lacking else [])]

    def train_dataloader(self) -> DataLoader[EpisodeBatch | LatentBatch]:
        """Endless stream; a resumed run goes on where it stopped."""
        rank, processes = self._place()
        quarter = max(1, self.batch_size // 4)
        sizes = (self.batch_size, quarter if self.clip_batch_size is None else self.clip_batch_size)
        clips = {max(task.input_frames, task.target_frames) > 1 for task in self.trained_tasks}
        for name, size, used in zip(
            ("batch_size", "clip_batch_size"), sizes, (False in clips, True in clips), strict=True
        ):
            if used and size % processes:
                raise LavinditError(f"{name} {size} cannot be shared evenly by {processes} processes")
        makers = self.training_makers()
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready if self.trainer is not None else 0
        mixture = EpisodeMixture(makers, self.weights, *sizes, self.pairs, self.seed, rank, processes, self.clip_share)
        if self.latents is None:
            for name in self.training_weights():
                makers[name].probe(self.pairs[1])
            return self._loader(mixture, StreamSampler(done))
        return self._loader(LatentMixture(mixture, self._latent_store(self.latents)), StreamSampler(done))

    def val_dataloader(self) -> DataLoader[EpisodeBatch]:
        """All trained tasks, one after the other: their losses make one mean."""
        dataset = ConcatDataset([self._eval_set(task, "val", self.val_samples) for task in self.trained_tasks])
        return self._loader(dataset, ShareSampler(len(dataset), *self._place()))

    def test_dataloader(self) -> list[DataLoader[EpisodeBatch]]:
        """One loader a task, held-out ones included."""
        return self._test_loaders(self.context_draws)

    def _test_loaders(self, draws: int) -> list[DataLoader[EpisodeBatch]]:
        datasets = [self._eval_set(task, "test", self.test_samples, draws) for task in self.tasks]
        return [self._loader(dataset, ShareSampler(len(dataset), *self._place())) for dataset in datasets]

    def predict_dataloader(self) -> list[DataLoader[EpisodeBatch]]:
        """As `test_dataloader`, each query once."""
        return self._test_loaders(draws=1)

    def transfer_batch_to_device(
        self, batch: EpisodeBatch | LatentBatch, device, dataloader_idx: int
    ) -> EpisodeBatch | LatentBatch:
        """Move the stacked pictures or latents; the truth stays where metrics are computed."""
        return batch.to(device)

    def _place(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _eval_set(self, task: Task, split: str, samples: int | None, draws: int = 1) -> EpisodeTest:
        maker = EpisodeMaker(task, split, self.source, parse_context(self.context or task.context))
        maker.probe(self.eval_pairs)
        return EpisodeTest(maker, samples, self.eval_batch_size, self.eval_pairs, self.seed, draws)

    def _loader(self, dataset: Dataset, sampler: Sampler[int]) -> DataLoader:
        return DataLoader(
            dataset, batch_size=None, sampler=sampler, num_workers=self.workers, persistent_workers=self.workers > 0,
            worker_init_fn=leave_interrupts_to_parent,
        )  # fmt: skip
