"""The embedded world keeps its promises: closed-form relations between its pictures and its truth."""

import importlib.util
import json
import operator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lavindit  # noqa: F401
from lavindit.data import world
from lavindit.data.world import CLASS_NAMES, WORLD_VERSION, WorldSource
from lavindit.data.world.motion import pose
from lavindit.data.world.render import render
from lavindit.types import Scene

ROOT = Path(__file__).parents[2]
SCENES = 48
TOTAL = ["rgb", "depth_m", "normals", "instance_ids", "class_ids", "keypoints_px"]


@pytest.fixture(scope="module")
def stills() -> WorldSource:
    return WorldSource("train", 64, SCENES).preload()


@pytest.fixture(scope="module")
def clips() -> WorldSource:
    return WorldSource("train", 64, 16, frames=3).preload()


def back_project(scene: Scene, tan_half_fov: float) -> torch.Tensor:
    """Camera-space points [3, H, W] of frame 0."""
    depth = scene.depth_m[0, 0]
    size = depth.shape[-1]
    steps = (torch.arange(size) - (size - 1) / 2) * 2 / size * tan_half_fov
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    return torch.stack([x * depth, y * depth, -depth])


def tangents(source: WorldSource) -> torch.Tensor:
    return source.parameters(range(len(source))).camera.tan_half_fov


def test_shapes_types_and_ranges(stills: WorldSource) -> None:
    assert stills.provides == {"depth_m", "normals", "instance_ids", "class_ids", "keypoints_px"}
    for i in range(SCENES):
        scene = stills[i]
        assert scene.known() == stills.provides | {"rgb"}
        assert scene.rgb.shape == scene.normals.shape == (3, 1, 64, 64)
        assert scene.depth_m.shape == scene.instance_ids.shape == scene.class_ids.shape == (1, 1, 64, 64)
        assert scene.rgb.min() >= 0
        assert scene.rgb.max() <= 1
        assert scene.rgb.std() > 0.05
        valid = scene.depth_m.isfinite()
        assert valid.float().mean() > 0.2
        assert scene.depth_m[valid].min() >= 0.5
        assert scene.depth_m[valid].max() <= 30
        assert scene.instance_ids.dtype == scene.class_ids.dtype == torch.int64
        assert int(scene.class_ids.max()) < len(CLASS_NAMES)
        assert torch.equal(scene.instance_ids > 0, scene.class_ids > 0)
        assert not (scene.instance_ids[~valid] > 0).any()


def test_scenes_do_not_depend_on_chunks_order_or_length(stills: WorldSource) -> None:
    other = WorldSource("train", 64, 20, chunk=7)
    for i in (19, 3, 8, 0):
        for name in TOTAL:
            torch.testing.assert_close(getattr(other[i], name), getattr(stills[i], name), rtol=0, atol=2e-3)
        assert torch.equal(other[i].instance_ids, stills[i].instance_ids)
        assert torch.equal(other[i].rgb, WorldSource("train", 64, 20, chunk=7)[i].rgb)


def test_a_clip_begins_with_the_still(stills: WorldSource, clips: WorldSource) -> None:
    for i in range(4):
        assert torch.equal(clips[i].instance_ids[:, :1], stills[i].instance_ids)
        torch.testing.assert_close(clips[i].depth_m[:, :1], stills[i].depth_m, rtol=1e-4, atol=1e-4)


def test_splits_and_seeds_differ(stills: WorldSource) -> None:
    seen = [stills[0].rgb, stills[1].rgb]
    for source in (WorldSource("val", 64, 1), WorldSource("test", 64, 1), WorldSource("train", 64, 1, seed=1)):
        rgb = source[0].rgb
        assert all((rgb - old).abs().mean() > 0.05 for old in seen)
        seen.append(rgb)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown split"):
        WorldSource("training")
    with pytest.raises(ValueError, match="positive"):
        WorldSource("train", scenes=0)
    with pytest.raises(IndexError):
        WorldSource("train", scenes=2)[2]


def test_normals_are_unit_and_face_the_camera(stills: WorldSource) -> None:
    tan = tangents(stills)
    for i in range(SCENES):
        scene = stills[i]
        valid = scene.depth_m[0, 0].isfinite()
        normals = scene.normals[:, 0]
        length = normals.square().sum(0).sqrt()
        torch.testing.assert_close(length[valid], torch.ones_like(length[valid]))
        assert (length[~valid] == 0).all()
        points = back_project(scene, float(tan[i]))
        towards = -(points * normals).sum(0) / points.square().sum(0).sqrt()
        assert towards[valid].min() > -2e-3


def test_depth_and_normals_agree(stills: WorldSource) -> None:
    tan = tangents(stills)
    agree, compared = 0.0, 0
    for i in range(SCENES):
        points = back_project(stills[i], float(tan[i]))
        normals, ids = stills[i].normals[:, 0], stills[i].instance_ids[0, 0]
        right, down = points[:, :-1, 1:] - points[:, :-1, :-1], points[:, 1:, :-1] - points[:, :-1, :-1]
        estimate = torch.nn.functional.normalize(torch.linalg.cross(down, right, dim=0), dim=0)
        corners = [(slice(0, -1), slice(0, -1)), (slice(0, -1), slice(1, None)), (slice(1, None), slice(0, -1))]
        smooth = torch.stack([points[2][c].isfinite() & (ids[c] == ids[corners[0]]) for c in corners]).all(0)
        first = normals[:, :-1, :-1]
        for c in corners[1:]:
            smooth &= (normals[(slice(None), *c)] * first).sum(0) > 0.995
        cosine = (estimate * first).sum(0)[smooth]
        agree += float((cosine > 0.98).sum())
        compared += len(cosine)
    assert compared > SCENES * 1000
    assert agree / compared > 0.99


def test_flow_leads_to_the_same_thing(clips: WorldSource) -> None:
    agree, compared, moving = 0, 0, 0
    for i in range(len(clips)):
        scene = clips[i]
        assert scene.flow_px[:, -1].isnan().all()
        assert scene.flow_px[:, :-1].isfinite().all()
        for t in range(2):
            y, x = (~scene.occluded[0, t]).nonzero().unbind(1)
            flow = scene.flow_px[:, t, y, x]
            to = (torch.stack([x, y]) + flow).round().long().clamp(0, 63)
            agree += int((scene.instance_ids[0, t, y, x] == scene.instance_ids[0, t + 1, to[1], to[0]]).sum())
            compared += len(y)
            moving += int((flow.abs().amax(0) > 0.5).sum())
    assert agree / compared > 0.985
    assert moving / compared > 0.15


def test_flow_is_exact_in_depth(clips: WorldSource) -> None:
    """Where the camera alone moves (the background), a point keeps its place in the world."""
    parameters = clips.parameters(range(len(clips)))
    rendered = render(parameters, 64, 3)
    posed = pose(parameters, 3)
    for i in range(len(clips)):
        points = back_project(clips[i], float(parameters.camera.tan_half_fov[i])).flatten(1)
        usable = (rendered.instance_ids[i, 0, 0] == 0) & rendered.depth_m[i, 0, 0].isfinite()
        usable = usable.flatten()
        in_world = posed.view[i, 0] @ points + posed.origin[i, 0][:, None]
        camera = posed.view[i, 1].T @ (in_world - posed.origin[i, 1][:, None])
        focal = 32 / parameters.camera.tan_half_fov[i]
        end = torch.stack([focal * camera[0] / -camera[2] + 31.5, 31.5 - focal * camera[1] / -camera[2]])
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        expected = end - torch.stack([x, y]).flatten(1)
        near = usable & (camera[2] < -0.3)
        torch.testing.assert_close(
            rendered.flow_px[i, :, 0].flatten(1)[:, near], expected[:, near], rtol=1e-3, atol=5e-3
        )


def test_colours_travel_with_the_flow(clips: WorldSource) -> None:
    """Warped back along the flow, the next frame looks like this one, except for what is occluded."""
    warped_error, still_error, hidden_error = [], [], []
    for i in range(len(clips)):
        scene = clips[i]
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        to = (torch.stack([x, y]) + scene.flow_px[:, 0]).permute(1, 2, 0)[None]
        now, then = scene.rgb[None, :, 0], scene.rgb[None, :, 1]
        warped = torch.nn.functional.grid_sample(then, (to - 31.5) / 32, align_corners=False, padding_mode="border")
        error, still = (warped - now).abs().mean(1)[0], (then - now).abs().mean(1)[0]
        moving = scene.flow_px[:, 0].abs().amax(0) > 0.5
        hidden = scene.occluded[0, 0]
        warped_error.append(error[moving & ~hidden])
        still_error.append(still[moving & ~hidden])
        hidden_error.append(error[hidden])
    warped, still, hidden = (torch.cat(x).mean() for x in (warped_error, still_error, hidden_error))
    assert warped < 0.5 * still
    assert warped < 0.3 * hidden


def test_nothing_flows_when_nothing_moves(stills: WorldSource) -> None:
    parameters = stills.parameters(range(8))
    camera = replace(parameters.camera, sway=torch.zeros(8, 3), turn=torch.zeros(8, 3))
    objects = replace(parameters.objects, sway=0 * parameters.objects.sway, spin=0 * parameters.objects.spin)
    figures = replace(parameters.figures, swing=0 * parameters.figures.swing, stride=0 * parameters.figures.stride)
    rendered = render(replace(parameters, camera=camera, objects=objects, figures=figures), 64, 2)
    assert (rendered.flow_px[:, :, 0] == 0).all()
    assert not rendered.occluded.any()
    assert torch.equal(rendered.rgb[:, :, 0], rendered.rgb[:, :, 1])


def test_keypoints_are_where_they_say(stills: WorldSource) -> None:
    person = CLASS_NAMES.index("person")
    on_person, visible_joints, states, figures = 0, 0, set(), 0
    for i in range(SCENES):
        scene = stills[i]
        figures += i % 2 == 0 and len(scene.keypoints_px) > 0
        for joint in scene.keypoints_px[:, :, 0].reshape(-1, 3):
            x, y, state = joint.tolist()
            states.add(state)
            inside = -0.5 <= x < 63.5 and -0.5 <= y < 63.5
            assert (state > 0) == inside
            if state == 2:
                x, y = round(x), round(y)
                near = scene.class_ids[0, 0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                on_person += bool((near == person).any())
                visible_joints += 1
    assert states == {0.0, 1.0, 2.0}
    assert on_person / visible_joints > 0.95
    assert figures > 0.8 * SCENES / 2


def difficulty_script():
    spec = importlib.util.spec_from_file_location("world_difficulty", ROOT / "benchmarks" / "world_difficulty.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def holds(figure: float, rule: tuple[str, float]) -> bool:
    return {">=": operator.ge, "<": operator.lt}[rule[0]](figure, rule[1])


def test_recorded_difficulty_is_of_this_world() -> None:
    record = json.loads(Path(world.__file__).with_name("difficulty.json").read_text())
    assert record["world_version"] == WORLD_VERSION
    assert record["n"] >= 256
    thresholds = difficulty_script().THRESHOLDS
    assert record["figures"].keys() == thresholds.keys()
    for name, rule in thresholds.items():
        assert holds(record["figures"][name], rule), name


def test_the_mean_of_the_context_is_still_a_bad_answer() -> None:
    script = difficulty_script()
    script.TRAIN_SCENES = 64
    figures = script.mean_of_context(scenes=48, resolution=32, seed=0)
    for name, figure in figures.items():
        assert holds(figure, script.THRESHOLDS[name]), name
