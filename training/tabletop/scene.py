"""What is on the table at the start of an episode, and what is to be done: functions of seeds.

The table's surface is z = 0; x goes to the right and y to the robot, as seen from the front camera; lengths are in m.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from . import arm
from .exact import uniform

TABLE_X, TABLE_Y = 0.33, 0.23
# Beyond these lines (|x|) a block is on the left or on the right.
LINE_X = 0.15
BLOCKS = 3
HALF = 0.03
HEIGHT = 0.05
COLOURS = ("red", "green", "blue", "yellow")
SIDES = ("left", "right")
HOVER = 0.085


@dataclass(frozen=True)
class Task:
    """An instruction: reach the block of a colour (side is ""), or push it to a side."""

    colour: str
    side: str = ""

    def text(self) -> str:
        if self.side:
            return f"push the {self.colour} block to the {self.side}"
        return f"reach the {self.colour} block"

    @property
    def kind(self) -> str:
        return "push" if self.side else "reach"


TASKS = tuple(Task(colour, side) for colour in COLOURS for side in ("", *SIDES))


@dataclass
class Scene:
    """Start of an episode: joints [4], blocks [3, 3] (x, y, angle), colours [3] (indices), light (of 256)."""

    joints: np.ndarray
    blocks: np.ndarray
    colours: np.ndarray
    light: int

    def tasks(self) -> list[Task]:
        """All instructions that make sense here."""
        return [task for task in TASKS if COLOURS.index(task.colour) in self.colours]

    def block(self, task: Task) -> int:
        """Index of the block that the task is about."""
        return int(np.flatnonzero(self.colours == COLOURS.index(task.colour))[0])


def scene(seed: int) -> Scene:
    """The scene of a seed. Each block has a lane of its own along x: it can be pushed without touching others."""
    q, blocks, colours, light = _scene(seed)
    return Scene(q, blocks, colours, int(light))


@njit(cache=True)
def _scene(seed):
    order = np.arange(4)
    for i in range(3):
        j = i + int(uniform(seed, i) * (4 - i))
        order[i], order[j] = order[j], order[i]
    # Distances in y: 0.085 and what three sorted random numbers add, at most 0.11 in all.
    spread = np.sort(np.array([uniform(seed, 4), uniform(seed, 5), uniform(seed, 6)]))
    lanes = np.arange(3)
    for i in range(2):
        j = i + int(uniform(seed, 7 + i) * (3 - i))
        lanes[i], lanes[j] = lanes[j], lanes[i]
    blocks = np.empty((BLOCKS, 3))
    for i in range(BLOCKS):
        lane = lanes[i]
        blocks[i, 0] = -0.10 + 0.20 * uniform(seed, 10 + i)
        blocks[i, 1] = -0.15 + 0.085 * lane + 0.11 * spread[lane]
        blocks[i, 2] = -0.25 + 0.50 * uniform(seed, 13 + i)
    q = np.empty(4)
    # Drawn in joint space: a start needs no inverse kinematics.
    q[0] = -0.95 + 0.90 * uniform(seed, 16)
    q[1] = 0.85 + 0.75 * uniform(seed, 17)
    q[2] = -(q[0] + q[1]) - 0.3 + 0.6 * uniform(seed, 18)
    q[3] = 0.075 + 0.045 * uniform(seed, 19)
    light = 224 + int(uniform(seed, 20) * 33.0)
    return q, blocks, order[:BLOCKS].copy(), light
