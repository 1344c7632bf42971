"""What the nano VAE's latent space costs, stage by stage, beside what was asked of it.

    lavindit fit --config experiment/nano_vae.yaml --data.source.photos FOLDER
    lavindit test --config experiment/nano_vae.yaml --data.source.photos FOLDER --data.test_samples 256
    lavindit fit --config experiment/nano_vae_clips.yaml --data.source.photos FOLDER
    lavindit test --config experiment/nano_vae_clips.yaml --data.source.photos FOLDER --data.test_samples 256
    python benchmarks/vae.py --stage1 runs/nano_vae --stage2 runs/nano_vae_clips --out benchmarks/results/vae.json

Takes the results of the tests and the curves of the trainings apart and together; it measures nothing itself.
"""

import argparse
import csv
import json
from pathlib import Path

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
from lavindit.report.figure import PCA_MIXTURE, PCA_OWN
from lavindit.report.schema import RESULT_NAME, RunResult, read_result

# Modality or task, figure, comparison, threshold. PSNR against principal components is in decibels above them.
ABOVE_PCA_DB = 2.0
COMPARED = ("rgb", "depth", "normals", "photographs, cropped", "photographs, whole")
THROUGH = (
    ("depth_estimation", "abs_rel", "max", 0.03),
    ("normal_estimation", "mean_deg", "max", 5.0),
    ("foreground_segmentation", "miou", "min", 0.95),
    ("instance_segmentation", "pq", "min", 0.85),
)
PHOTOS_DB, CLIPS_DB, LOST_DB = 25.0, 27.0, 0.3


def modalities(result: RunResult) -> dict[str, dict]:
    """Figures by modality; those of clips end in ", clips"."""
    return {
        m.modality + (", clips" if m.frames > 1 else ""): {"n": m.n}
        | {f.metric: {"vae": f.answer, "std": f.std, **f.baselines} for f in m.figures}
        for m in result.modalities
    }


def tasks(result: RunResult) -> dict[str, dict]:
    """Figures by task: through the VAE, and through the codec alone."""
    return {
        t.task: {"n": t.n}
        | {f.metric: {"unit": f.unit, "vae": f.answer, "stderr": f.stderr, **f.baselines} for f in t.figures}
        for t in result.tasks
    }


def curve(run: Path, points: int = 60) -> dict[str, list]:
    """Training and validation loss by step, thinned out."""
    files = sorted((run / "csv").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    found: dict[str, list] = {"train_loss": [], "val_loss": []}
    for path in files:
        with path.open() as lines:
            for row in csv.DictReader(lines):
                for name, values in found.items():
                    if row.get(name):
                        values.append((int(row["step"]), round(float(row[name]), 6)))
    return {name: values[:: max(1, len(values) // points)] for name, values in found.items()}


def stage(run: Path) -> dict:
    """Everything of one stage."""
    result = read_result(run / RESULT_NAME)
    kept = ("command", "seed", "commit", "machine", "model", "notes")
    facts = {key: value for key, value in result.to_json().items() if key in kept}
    return facts | {"modalities": modalities(result), "tasks": tasks(result), "curve": curve(run)}


def share(figure: dict) -> float:
    """A figure in its unit, percents as shares."""
    return figure["vae"] / (100 if figure["unit"] == "%" else 1)


def targets(first: dict, second: dict | None) -> list[dict]:
    """What was asked, what was found, whether it was met."""
    rows = []

    def add(name: str, found: float, sign: str, asked: float) -> None:
        met = found >= asked if sign == ">=" else found <= asked
        rows.append({"target": name, "found": round(found, 4), "asked": f"{sign} {asked:g}", "met": met})

    for modality in COMPARED:
        psnr = first["modalities"][modality]["psnr"]
        for rival in (PCA_MIXTURE, PCA_OWN):
            if rival in psnr:
                add(f"{modality}: dB above {rival}", psnr["vae"] - psnr[rival], ">=", ABOVE_PCA_DB)
        if modality.startswith("photographs"):
            add(f"{modality}: PSNR in dB", psnr["vae"], ">=", PHOTOS_DB)
    for task, metric, bound, asked in THROUGH:
        figure = first["tasks"][task][metric]
        add(f"{task}: {metric} through the VAE", share(figure), "<=" if bound == "max" else ">=", asked)
    if second is not None:
        for name in COMPARED:
            lost = first["modalities"][name]["psnr"]["vae"] - second["modalities"][name]["psnr"]["vae"]
            add(f"{name}: dB that stage 2 loses on images", lost, "<=", LOST_DB)
        for name, found in second["modalities"].items():
            if name.endswith(", clips"):
                add(f"{name}: PSNR in dB", found["psnr"]["vae"], ">=", CLIPS_DB)
    return rows


def main() -> None:
    """Join and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage1", type=Path, required=True, help="run folder of stage 1, tested")
    parser.add_argument("--stage2", type=Path, help="run folder of stage 2, tested")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know besides")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    first = stage(chosen.stage1)
    second = stage(chosen.stage2) if chosen.stage2 else None
    rows = targets(first, second)
    result = {"notes": chosen.note, "targets": rows, "stage1": first} | ({"stage2": second} if second else {})
    for row in rows:
        print(f"{'met   ' if row['met'] else 'MISSED'} {row['target']}: {row['found']:.3f} (asked {row['asked']})")
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
