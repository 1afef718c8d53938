"""The simulator: exact functions, motion, contact, images, demonstrator."""

import json
import math

import numpy as np
import pytest

from tabletop import arm, demos, exact, expert, vectors, world
from tabletop.evaluate import Episode, wilson
from tabletop.render import render
from tabletop.scene import COLOURS, HALF, HEIGHT, TASKS, scene


def test_functions_are_near_the_libraries():
    for x in np.linspace(-20, 20, 4001):
        s, c = exact.sin_cos(x)
        assert abs(s - math.sin(x)) < 1e-12 and abs(c - math.cos(x)) < 1e-12
    for x in np.logspace(-17, 0, 500):
        assert abs(exact.ln(x) - math.log(x)) <= 1e-12 * abs(math.log(x)) + 1e-15


def test_normals_are_normal():
    drawn = exact.normals(3, 20000).astype(np.float64)
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.02 and abs((drawn**3).mean()) < 0.1


def test_splitmix64_is_the_published_one():
    # The first outputs for the seed 1234567 (Vigna's splitmix64.c).
    assert [int(exact.mix(1234567, i)) for i in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_inverse_kinematics_is_the_inverse():
    for x in (-0.2, 0.0, 0.2):
        for y in (-0.17, 0.0, 0.14):
            q0, q1, q2, q3 = arm.joints(x, y, 0.07, 0.1)
            assert np.allclose(arm.tool(q0, q1), (x, y), atol=1e-12) and abs(q0 + q1 + q2 - 0.1) < 1e-12 and q3 == 0.07


def test_scenes_leave_each_block_its_lane():
    for seed in range(300):
        start = scene(seed)
        gaps = np.diff(np.sort(start.blocks[:, 1]))
        assert gaps.min() >= 0.0849 and len(set(start.colours.tolist())) == 3
        assert np.abs(start.blocks[:, 0]).max() <= 0.10
        assert np.all(start.joints > arm.LOW) and np.all(start.joints < arm.HIGH)
        assert len(start.tasks()) == 9


def test_joint_speed_and_positions_are_limited():
    q, blocks = scene(1).joints, scene(1).blocks
    for _ in range(3000):
        before = q.copy()
        world.step(q, blocks, np.array([9.0, -9.0, 9.0, 9.0]))
        assert np.all(np.abs(q - before) <= np.array(arm.SPEED) * world.STEP + 1e-15)
    assert np.allclose(q, [arm.HIGH[0], arm.LOW[1], arm.HIGH[2], arm.HIGH[3]], atol=1e-6)


def test_a_centred_push_moves_a_block_straight_and_a_corner_turns_it():
    block = np.array([0.0, 0.0, 0.0])
    assert world._push(block, HALF + 0.006, 0.0)
    assert np.allclose(block, [-0.002, 0.0, 0.0], atol=1e-12)
    block = np.array([0.0, 0.0, 0.0])
    world._push(block, HALF + 0.006, 0.02)
    assert -0.002 < block[0] < 0.0 and block[2] > 0.0


def test_no_prong_is_left_inside_a_block():
    generator = np.random.default_rng(0)
    for _ in range(200):
        block = np.array([0.0, 0.0, generator.uniform(-3, 3)])
        px, py = generator.uniform(-0.045, 0.045, 2)
        for _ in range(20):
            world._push(block, px, py)
        s, c = exact.sin_cos(block[2])
        u, v = c * (px - block[0]) + s * (py - block[1]), c * (py - block[1]) - s * (px - block[0])
        gap = math.hypot(max(abs(u) - HALF, 0), max(abs(v) - HALF, 0))
        assert gap > arm.PRONG_RADIUS - 1e-4


def test_the_fork_stands_on_a_block_and_does_not_go_through():
    start = scene(2)
    q, blocks = start.joints, start.blocks
    q[:] = arm.joints(blocks[0, 0], blocks[0, 1], 0.08, 0.0)
    command = q.copy()
    command[3] = 0.01
    for _ in range(1000):
        world.step(q, blocks, command)
    assert q[3] == HEIGHT and np.array_equal(blocks, scene(2).blocks)


@pytest.mark.parametrize("kind", ["reach", "push"])
def test_the_demonstrator_succeeds(kind):
    for seed in range(500, 510):
        for task in scene(seed).tasks():
            if task.kind != kind:
                continue
            episode = Episode.begin(seed, task)
            for at in range(0, 160, 8):
                rows = expert.rows(episode.q, episode.blocks, episode.start.block(task), demos.side_of(task))
                episode.play(rows[:9], at / expert.RATE_HZ)
            assert episode.success_s is not None, (seed, task)


def test_recorded_chunks_are_the_demonstrators_from_there():
    out = demos.record(2, 77)
    again = demos.record(2, 77)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(vars(out).values(), vars(again).values(), strict=True))
    assert np.all(np.abs(out.chunks[:, :, 0] - out.states[:, None]) < 0.2)
    named = np.array([COLOURS.index(TASKS[i].colour) for i in out.tasks[:, 0]])
    assert not np.isnan(out.places[np.arange(len(named)), named]).any()
    assert len({image.tobytes() for image in out.images[:, 0]}) > 8


def test_covering_is_possible_and_light_dims():
    start = scene(3)
    bright = render("front", start.joints, start.blocks, start)
    start.light = 128
    dim = render("front", start.joints, start.blocks, start)
    assert bright.shape == (64, 64, 3) and dim.mean() < 0.7 * bright.mean()


def test_wilson():
    low, high = wilson(90, 100)
    assert abs(low - 0.8256) < 1e-3 and abs(high - 0.9448) < 1e-3


def test_the_vectors_for_ports_are_up_to_date():
    """Write them anew with: python -m tabletop.vectors"""
    assert json.loads(vectors.PATH.read_text()) == json.loads(json.dumps(vectors.vectors()))
