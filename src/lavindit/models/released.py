"""Where a model is: released ones, which come with the package, by name; all others by path. Nothing is downloaded."""

from pathlib import Path

from lavindit.errors import LavinditError

RELEASED = Path(__file__).parents[1] / "released"
RELEASED_DEFAULT = "nano"
CONFIG_NAME = "config.json"


def released_models() -> tuple[str, ...]:
    """Names of the models that come with the package, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in RELEASED.glob(f"*/{CONFIG_NAME}")))


def released_folder(name: str) -> Path:
    """The model directory of a released model, whatever lies in the working folder.

    Raises:
        LavinditError: There is none of that name.
    """
    if name not in released_models():
        raise LavinditError(f"no released model {name!r}; {_known()}")
    return RELEASED / name


def model_folder(path: Path | str) -> Path:
    """The model directory that a path or a name stands for.

    What exists in the file system comes before a released model of that name. Of a run folder it is `model/` in it.
    """
    folder = Path(path)
    if not folder.exists() and str(path) in released_models():
        return RELEASED / folder
    inner = folder / "model"
    return inner if not (folder / CONFIG_NAME).is_file() and (inner / CONFIG_NAME).is_file() else folder


def no_model(folder: Path) -> LavinditError:
    """What to say where `folder`, as it was named, holds no model."""
    is_name, remedy = folder.name == str(folder), "`lavindit fit` writes one to RUN/model"
    if is_name and not folder.exists():
        return LavinditError(
            f"no model in {folder}: there is no such folder, nor a released model of that name; {_known()}; {remedy}: "
            "give that path"
        )
    if is_name and folder.name in released_models():
        remedy = "this folder hides the released model of that name: rename it"
    return LavinditError(f"no model in {folder} ({CONFIG_NAME} is missing); {remedy}")


def _known() -> str:
    names = released_models()
    return f"released are: {', '.join(names)}" if names else "no model comes with this installation"
