"""Demonstrations: episodes of the disturbed demonstrator, with what it would do next at random moments.

The arm is disturbed all the time (DART, Laskey et al. 2017): a drift of its commands, kicks that push it aside for a
moment, and changes of the instruction. The recorded chunk is undisturbed: each is a recovery from there. Every snapshot
is labelled with two instructions, so that only language tells which one counts.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from . import arm, exact, expert, world
from .exact import normal, uniform
from .render import CAMERAS, SIZE, render
from .scene import COLOURS, TASKS, Task, scene

SNAPSHOTS = 8  # per episode
TICKS = 100  # of an episode, at most


def side_of(task: Task) -> int:
    """The side as the demonstrator takes it."""
    return {"": 0, "left": -1, "right": 1}[task.side]


@njit(cache=True)
def _disturbed(q, blocks, target, side, seed, tick, drift, command):
    """One row of an episode: moves q, blocks, drift [3] and command [4] on."""
    nxt = np.empty(4)
    expert.lead(q, blocks, target, side, world.LAG + 1.0 / expert.RATE_HZ, nxt)
    base = 16 * tick
    for i in range(3):
        drift[i] = 0.85 * drift[i] + 0.0035 * normal(seed, base + i)
    x, y = arm.tool(nxt[0], nxt[1])
    x, y, z = x + drift[0], y + drift[1], nxt[3] + 0.7 * drift[2]
    # A kick of 4 rows, about once in 2 s.
    kick = tick - tick % 4
    if uniform(seed, 1000000 + kick) < 0.10:
        vx, vy = 0.30 * (uniform(seed, 1000001 + kick) - 0.5), 0.30 * (uniform(seed, 1000002 + kick) - 0.5)
        vz = 0.5 * (uniform(seed, 1000003 + kick) - 0.6)
        x, y, z = x + 0.1 * vx, y + 0.1 * vy, z + 0.1 * vz
    x, y = min(max(x, -0.27), 0.27), min(max(y, -0.18), 0.15)
    yaw = nxt[0] + nxt[1] + nxt[2] + 2.0 * drift[2]
    nxt[0], nxt[1], nxt[2], nxt[3] = arm.joints(x, y, min(max(z, arm.LOW[3]), arm.HIGH[3]), yaw)
    world.play(q, blocks, command, nxt, expert.STEPS)
    command[:] = nxt


@dataclass
class Demos:
    """Snapshots: images [n, 2, SIZE, SIZE, 3], states [n, 4], and two labels of each.

    tasks [n, 2] are indices of TASKS, chunks [n, 2, ROWS, 4] joint commands; places [n, 4, 2] is where the block of each
    colour is (x, y), NaN where there is none.
    """

    images: np.ndarray
    states: np.ndarray
    tasks: np.ndarray
    chunks: np.ndarray
    places: np.ndarray

    @staticmethod
    def empty(n: int) -> "Demos":
        return Demos(
            np.zeros((n, len(CAMERAS), SIZE, SIZE, 3), np.uint8), np.zeros((n, 4), np.float32), np.zeros((n, 2), np.int64),
            np.zeros((n, 2, expert.ROWS, 4), np.float32), np.full((n, len(COLOURS), 2), np.nan, np.float32))


def episode(seed: int, out: Demos, at: int) -> None:
    """Records the SNAPSHOTS of an episode into out[at : at + SNAPSHOTS]."""
    rng = np.random.default_rng([seed, 1])
    start = scene(seed)
    q, blocks = start.joints.copy(), start.blocks.copy()
    tasks = start.tasks()
    task = tasks[rng.integers(len(tasks))]
    ticks = set(rng.choice(TICKS, SNAPSHOTS, replace=False).tolist())
    change = rng.integers(TICKS) if rng.random() < 0.5 else TICKS
    drift, command = np.zeros(3), q.copy()
    stream = int(exact.mix(seed, 1 << 40)) >> 1  # the scene has taken numbers of `seed` itself
    for tick in range(TICKS):
        if tick == change:
            task = tasks[rng.integers(len(tasks))]
        if tick in ticks:
            other = tasks[rng.integers(len(tasks))]
            out.images[at] = [render(camera, q, blocks, start) for camera in CAMERAS]
            out.states[at] = q
            out.places[at, start.colours] = blocks[:, :2]
            for k, label in enumerate((task, other)):
                block = start.block(label)
                out.tasks[at, k] = TASKS.index(label)
                out.chunks[at, k] = expert.rows(q, blocks, block, side_of(label))
            at += 1
        _disturbed(q, blocks, start.block(task), side_of(task), stream, tick, drift, command)


def record(episodes: int, first_seed: int, progress=None) -> Demos:
    """Demonstrations of the seeds first_seed … first_seed + episodes - 1."""
    out = Demos.empty(episodes * SNAPSHOTS)
    for i in range(episodes):
        episode(first_seed + i, out, i * SNAPSHOTS)
        if progress is not None and i % 100 == 99:
            progress(i + 1)
    return out
