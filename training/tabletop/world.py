"""The motion of arm and blocks: 1000 steps a second.

A joint follows its command with a first-order lag and a greatest speed. Blocks are pushed quasi-statically and without
friction at the contact (Goyal, Ruina and Papadopoulos 1991): the limit surface of the friction below a block is taken as
an ellipsoid, so a push along the normal n at r from the centre moves it by n and turns it by (r x n) / TURN2.
"""

import numpy as np
from numba import njit

from . import arm
from .exact import sin_cos
from .scene import HALF, HEIGHT, TABLE_X, TABLE_Y

STEP = 0.001
LAG = 0.040
_GAIN = STEP / LAG
# Square of the length that relates turning to moving: (0.45 of the side)^2.
TURN2 = 0.000729
_ROUND = HALF * 1.15  # blocks are discs to one another

_LOW = np.array(arm.LOW)
_HIGH = np.array(arm.HIGH)
_SPEED = np.array(arm.SPEED)


@njit(cache=True)
def _prong(q, k):
    """Position (x, y) of prong 0 or 1."""
    x, y = arm.tool(q[0], q[1])
    s, c = sin_cos(q[0] + q[1] + q[2])
    side = arm.PRONG_OFFSET if k == 0 else -arm.PRONG_OFFSET
    return x - s * side, y + c * side


@njit(cache=True)
def _push(block, px, py):
    """Moves a block out of a prong at (px, py). Returns true if they touched."""
    s, c = sin_cos(block[2])
    dx, dy = px - block[0], py - block[1]
    # The prong in the block's frame, and the nearest point of the square.
    u, v = c * dx + s * dy, c * dy - s * dx
    a, b = min(max(u, -HALF), HALF), min(max(v, -HALF), HALF)
    if u == a and v == b:
        # Its centre is inside: out through the nearest side.
        if HALF - abs(u) < HALF - abs(v):
            nu, nv = (-1.0 if u > 0.0 else 1.0), 0.0
            depth = arm.PRONG_RADIUS + HALF - abs(u)
        else:
            nu, nv = 0.0, (-1.0 if v > 0.0 else 1.0)
            depth = arm.PRONG_RADIUS + HALF - abs(v)
    else:
        eu, ev = u - a, v - b
        distance = np.sqrt(eu * eu + ev * ev)
        if distance >= arm.PRONG_RADIUS:
            return False
        nu, nv = -eu / distance, -ev / distance
        depth = arm.PRONG_RADIUS - distance
    turn = a * nv - b * nu
    t = depth / (1.0 + turn * turn / TURN2)
    block[0] += t * (c * nu - s * nv)
    block[1] += t * (s * nu + c * nv)
    block[2] += t * turn / TURN2
    return True


@njit(cache=True)
def _over(block, px, py):
    """True if a prong at (px, py) is above the block."""
    s, c = sin_cos(block[2])
    dx, dy = px - block[0], py - block[1]
    return abs(c * dx + s * dy) < HALF + arm.PRONG_RADIUS and abs(c * dy - s * dx) < HALF + arm.PRONG_RADIUS


@njit(cache=True)
def step(q, blocks, command):
    """Moves joints `q` [4] and `blocks` [n, 3] by one step, in place."""
    before = q[3]
    for j in range(4):
        move = (min(max(command[j], _LOW[j]), _HIGH[j]) - q[j]) * _GAIN
        most = _SPEED[j] * STEP
        q[j] += min(max(move, -most), most)
    if q[3] >= HEIGHT:
        return
    for k in range(2):
        px, py = _prong(q, k)
        for i in range(len(blocks)):
            if before >= HEIGHT:
                if _over(blocks[i], px, py):
                    q[3] = HEIGHT  # the prong stands on the block
                    return
    for _ in range(2):
        for k in range(2):
            px, py = _prong(q, k)
            for i in range(len(blocks)):
                _push(blocks[i], px, py)
        for i in range(len(blocks)):
            for j in range(i):
                dx, dy = blocks[i, 0] - blocks[j, 0], blocks[i, 1] - blocks[j, 1]
                distance = np.sqrt(dx * dx + dy * dy)
                if 0.0 < distance < 2.0 * _ROUND:
                    half = 0.5 * (2.0 * _ROUND - distance) / distance
                    blocks[i, 0] += half * dx
                    blocks[i, 1] += half * dy
                    blocks[j, 0] -= half * dx
                    blocks[j, 1] -= half * dy
    for i in range(len(blocks)):
        blocks[i, 0] = min(max(blocks[i, 0], -TABLE_X), TABLE_X)
        blocks[i, 1] = min(max(blocks[i, 1], -TABLE_Y), TABLE_Y)


@njit(cache=True)
def play(q, blocks, first, second, steps):
    """Moves by `steps` steps while the command goes linearly from `first` to `second`, which is reached at the end."""
    command = np.empty(4)
    for i in range(steps):
        f = (i + 1.0) / steps
        for j in range(4):
            command[j] = first[j] + (second[j] - first[j]) * f
        step(q, blocks, command)


# ------------------------------------------------------------------ success

REACH_WITHIN = 0.02
REACH_BELOW = 0.065
REACH_HOLD = 500  # steps
OTHERS_WITHIN = 0.03


@njit(cache=True)
def reached(q, blocks, target):
    """True if the tool is just above the block `target`."""
    x, y = arm.tool(q[0], q[1])
    dx, dy = x - blocks[target, 0], y - blocks[target, 1]
    return q[3] < REACH_BELOW and dx * dx + dy * dy < REACH_WITHIN * REACH_WITHIN


@njit(cache=True)
def others_stayed(blocks, start, target):
    """True if no block other than `target` has been moved away from its place at the start."""
    for i in range(len(blocks)):
        dx, dy = blocks[i, 0] - start[i, 0], blocks[i, 1] - start[i, 1]
        if i != target and dx * dx + dy * dy > OTHERS_WITHIN * OTHERS_WITHIN:
            return False
    return True
