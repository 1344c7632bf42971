"""The embedded world keeps its promises: closed-form relations between its pictures and its truth."""

from dataclasses import replace

import pytest
import torch

import lavindit  # noqa: F401
from lavindit.data.world import CLASS_NAMES, STUFF, THINGS, WorldSource
from lavindit.data.world.motion import pose
from lavindit.data.world.render import render
from lavindit.types import Scene

SCENES = 48
CLIPS, FRAMES = 8, 13
TOTAL = ["rgb", "depth_m", "normals", "instance_ids", "class_ids", "keypoints_px"]


@pytest.fixture(scope="module")
def stills() -> WorldSource:
    return WorldSource("train", 64, SCENES).preload()


@pytest.fixture(scope="module")
def clips() -> WorldSource:
    return WorldSource("train", 64, CLIPS, frames=FRAMES).preload()


def back_project(scene: Scene, tan_half_fov: float, frame: int = 0) -> torch.Tensor:
    """Camera-space points [3, H, W] of one frame."""
    depth = scene.depth_m[0, frame]
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
        assert torch.equal(scene.instance_ids > 0, torch.isin(scene.class_ids, torch.tensor(THINGS)))
        assert not (scene.instance_ids[~valid] > 0).any()


def test_scenes_do_not_depend_on_chunks_order_or_length(stills: WorldSource) -> None:
    other = WorldSource("train", 64, 20, chunk=7)
    for i in (19, 3, 8, 0):
        for name in TOTAL:
            torch.testing.assert_close(getattr(other[i], name), getattr(stills[i], name), rtol=0, atol=2e-3)
        assert torch.equal(other[i].instance_ids, stills[i].instance_ids)
        assert torch.equal(other[i].rgb, WorldSource("train", 64, 20, chunk=7)[i].rgb)


def test_a_clip_begins_with_the_still(stills: WorldSource, clips: WorldSource) -> None:
    for i in range(CLIPS):
        assert torch.equal(clips[i].instance_ids[:, :1], stills[i].instance_ids)
        assert torch.equal(clips[i].class_ids[:, :1], stills[i].class_ids)
        assert (clips[i].rgb[:, :1] - stills[i].rgb).abs().mean() < 1e-4
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


def landing(scene: Scene, t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows and columns [n] of the pixels of frame t that stay in sight, and the nearest pixels [2, n] they move to."""
    y, x = (~scene.occluded[0, t]).nonzero().unbind(1)
    to = torch.stack([x, y]) + scene.flow_px[:, t, y, x]
    assert (to - 31.5).abs().max() < 32.01
    return y, x, to.round().long().clamp(0, 63)


def test_flow_leads_to_the_same_thing(clips: WorldSource) -> None:
    agree, same_class, compared, moving = 0, 0, 0, 0
    for scene in clips:
        assert scene.flow_px[:, -1].isnan().all()
        assert not scene.occluded[:, -1].any()
        assert scene.flow_px[:, :-1].isfinite().all()
        for t in range(FRAMES - 1):
            y, x, to = landing(scene, t)
            agree += int((scene.instance_ids[0, t, y, x] == scene.instance_ids[0, t + 1, to[1], to[0]]).sum())
            same_class += int((scene.class_ids[0, t, y, x] == scene.class_ids[0, t + 1, to[1], to[0]]).sum())
            compared += len(y)
            moving += int((scene.flow_px[:, t, y, x].abs().amax(0) > 0.5).sum())
    assert agree / compared > 0.985
    assert same_class / compared > 0.975
    assert moving / compared > 0.6


def test_flow_is_exact_in_depth(clips: WorldSource) -> None:
    """Where the camera alone moves (the background), a point keeps its place in the world, in every frame."""
    parameters = clips.parameters(range(CLIPS))
    rendered, posed = render(parameters, 64, FRAMES), pose(parameters, FRAMES)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    for i, t in ((i, t) for i in range(CLIPS) for t in range(0, FRAMES - 1, 3)):
        points = back_project(clips[i], float(parameters.camera.tan_half_fov[i]), t).flatten(1)
        usable = (rendered.instance_ids[i, 0, t] == 0) & rendered.depth_m[i, 0, t].isfinite()
        in_world = posed.view[i, t] @ points + posed.origin[i, t][:, None]
        camera = posed.view[i, t + 1].T @ (in_world - posed.origin[i, t + 1][:, None])
        focal = 32 / parameters.camera.tan_half_fov[i]
        end = torch.stack([focal * camera[0] / -camera[2] + 31.5, 31.5 - focal * camera[1] / -camera[2]])
        expected = end - torch.stack([x, y]).flatten(1)
        near = usable.flatten() & (camera[2] < -0.3)
        torch.testing.assert_close(
            rendered.flow_px[i, :, t].flatten(1)[:, near], expected[:, near], rtol=1e-3, atol=5e-3
        )
        seen = near & ~clips[i].occluded[0, t].flatten()
        to = end[:, seen].round().long().clamp(0, 63)
        after, expected_depth = clips[i].depth_m[0, t + 1, to[1], to[0]], -camera[2][seen]
        assert ((after - expected_depth).abs() < 0.15 * expected_depth).float().mean() > 0.97


def test_kept_flow_is_the_rendered_flow(clips: WorldSource) -> None:
    parameters = clips.parameters(range(CLIPS))
    rendered = render(parameters, 64, FRAMES)
    for i, scene in enumerate(clips):
        assert torch.equal(scene.occluded, rendered.occluded[i])
        seen = ~scene.occluded[0, :-1]
        error = (scene.flow_px - rendered.flow_px[i])[:, :-1][:, seen].abs()
        assert error.max() < 0.0025


def test_a_clip_is_consistent(clips: WorldSource) -> None:
    """Every frame keeps what a still promises; an instance keeps its class; what fills the sky is infinitely far."""
    sky = CLASS_NAMES.index("sky")
    for scene in clips:
        thing = torch.isin(scene.class_ids, torch.tensor(THINGS))
        assert torch.equal(thing, scene.instance_ids > 0)
        assert torch.equal(~thing, torch.isin(scene.class_ids, torch.tensor(STUFF)))
        valid = scene.depth_m.isfinite()
        assert torch.equal(valid, scene.class_ids != sky)
        assert scene.depth_m[valid].min() >= 0.5
        assert scene.depth_m[valid].max() <= 30
        length = scene.normals.square().sum(0, keepdim=True).sqrt()
        torch.testing.assert_close(length, valid.float(), rtol=0, atol=1e-4)
        for instance in scene.instance_ids[thing].unique():
            assert len(scene.class_ids[scene.instance_ids == instance].unique()) == 1


def test_joints_of_a_clip_move_with_the_person(clips: WorldSource) -> None:
    """Where a joint is visible, the surface before it moves with it; its state is 0 outside the frame alone."""
    person = CLASS_NAMES.index("person")
    apart, states = [], set()
    for scene in clips:
        inside = ((scene.keypoints_px[..., :2] >= -0.5) & (scene.keypoints_px[..., :2] < 63.5)).all(-1)
        assert torch.equal(scene.keypoints_px[..., 2] > 0, inside)
        states |= set(scene.keypoints_px[..., 2].unique().tolist())
        for joint in scene.keypoints_px.flatten(0, 1):
            for t in (joint[:-1, 2] == 2).nonzero().flatten().tolist():
                x, y = joint[t, :2].round().long().tolist()
                if scene.class_ids[0, t, y, x] == person and not scene.occluded[0, t, y, x]:
                    apart.append((scene.flow_px[:, t, y, x] - (joint[t + 1, :2] - joint[t, :2])).norm())
    apart = torch.stack(apart)
    assert states == {0.0, 1.0, 2.0}
    assert len(apart) > 200
    assert apart.median() < 0.3
    assert (apart < 2).float().mean() > 0.95


def test_colours_travel_with_the_flow(clips: WorldSource) -> None:
    """Warped back along the flow, the next frame looks like this one, except for what is occluded."""
    warped_error, still_error, hidden_error = [], [], []
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    for scene, t in ((scene, t) for scene in clips for t in range(FRAMES - 1)):
        to = (torch.stack([x, y]) + scene.flow_px[:, t]).permute(1, 2, 0)[None]
        now, then = scene.rgb[None, :, t], scene.rgb[None, :, t + 1]
        warped = torch.nn.functional.grid_sample(then, (to - 31.5) / 32, align_corners=False, padding_mode="border")
        error, still = (warped - now).abs().mean(1)[0], (then - now).abs().mean(1)[0]
        moving = scene.flow_px[:, t].abs().amax(0) > 0.5
        hidden = scene.occluded[0, t]
        warped_error.append(error[moving & ~hidden])
        still_error.append(still[moving & ~hidden])
        hidden_error.append(error[hidden])
    warped, still, hidden = (torch.cat(x).mean() for x in (warped_error, still_error, hidden_error))
    assert warped < 0.5 * still
    assert warped < 0.3 * hidden


def test_stuff_is_where_it_belongs(stills: WorldSource) -> None:
    """The ground is the height 0, the ceiling the top of the room, what stands upright between them is a wall."""
    parameters = stills.parameters(range(SCENES))
    posed, seen = pose(parameters, 1), set()
    for i in range(SCENES):
        scene, view = stills[i], posed.view[i, 0]
        points = back_project(scene, float(parameters.camera.tan_half_fov[i])).flatten(1)
        height = (view @ points + posed.origin[i, 0][:, None])[1]
        upwards = (view @ scene.normals[:, 0].flatten(1))[1]
        top = float(parameters.walls.high[i, 1])
        for name, at, up in (("ground", 0.0, 1.0), ("ceiling", top, -1.0), ("wall", None, 0.0)):
            here = (scene.class_ids == CLASS_NAMES.index(name)).flatten()
            seen |= {name} if here.any() else set()
            torch.testing.assert_close(upwards[here], torch.full_like(upwards[here], up), rtol=0, atol=1e-3)
            if at is not None:
                torch.testing.assert_close(height[here], torch.full_like(height[here], at), rtol=0, atol=2e-3)
        assert torch.equal(scene.class_ids == CLASS_NAMES.index("sky"), scene.depth_m.isinf())
        seen |= {"sky"} if scene.depth_m.isinf().any() else set()
    assert seen == {CLASS_NAMES[c] for c in STUFF}


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


def test_the_camera_keeps_its_distance() -> None:
    """However far a camera sways, nothing comes nearer than half a metre."""
    source = WorldSource("val", 16, 32, frames=41, chunk=16)
    assert min(float(scene.depth_m.min()) for scene in source) >= 0.5
