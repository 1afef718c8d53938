"""The demonstrator: where the tool goes next, as a function of what is there now.

It has no memory, so it recovers from whatever happens: it goes on from any state of arm and blocks. `rows` plays it in a
copy of the world, which gives the chunk that a policy is to learn there.
"""

import numpy as np
from numba import njit

from . import arm, world
from .scene import HOVER, LINE_X

RATE_HZ = 20
STEPS = 50  # of the simulation per row
ROWS = 24

_BEHIND = 0.058  # distance from a block at which the tool comes down to push it
_PUSH_Z = 0.016
_REACH_Z = 0.054
_BEYOND = LINE_X + 0.03


@njit(cache=True)
def _clamp(x, low, high):
    return min(max(x, low), high)


@njit(cache=True)
def velocity(q, blocks, target, side):
    """Velocity of the tool (x, y, z, yaw) towards the goal: reach block `target` (side 0), or push it (-1 left, 1 right)."""
    x, y = arm.tool(q[0], q[1])
    z = q[3]
    bx, by = blocks[target, 0], blocks[target, 1]
    most = 0.30
    if side == 0:
        gx, gy = bx, by
        e = np.sqrt((gx - x) * (gx - x) + (gy - y) * (gy - y))
        gz = _REACH_Z + (HOVER - _REACH_Z) * _clamp((e - 0.010) / 0.03, 0.0, 1.0)
    else:
        u, v = side * (x - bx), y - by
        if side * bx > _BEYOND:
            gx, gy, gz = x, y, HOVER
        elif z < 0.042 and -0.080 < u < -0.020 and abs(v) < 0.020:
            # Behind the block and down: push, and stay in its middle.
            gx, gy, gz = x + side * 0.05, by, _PUSH_Z
            most = 0.20
        else:
            gx, gy = bx - side * _BEHIND, by
            e = np.sqrt((gx - x) * (gx - x) + (gy - y) * (gy - y))
            gz = _PUSH_Z + (HOVER - _PUSH_Z) * _clamp((e - 0.010) / 0.02, 0.0, 1.0)
    dx, dy = gx - x, gy - y
    e = np.sqrt(dx * dx + dy * dy)
    speed = min(most, 5.0 * e)
    if e > 0.025 and most > 0.25:
        # Between blocks only when above them.
        speed *= _clamp((z - 0.056) / 0.015, 0.0, 1.0)
    scale = speed / e if e > 1e-6 else 0.0
    yaw = q[0] + q[1] + q[2]
    return dx * scale, dy * scale, _clamp(6.0 * (gz - z), -0.22, 0.22), _clamp(-4.0 * yaw, -1.5, 1.5)


@njit(cache=True)
def lead(q, blocks, target, side, seconds, out):
    """Joint positions where the tool will be after `seconds` at the present velocity: in `out` [4]."""
    vx, vy, vz, vyaw = velocity(q, blocks, target, side)
    x, y = arm.tool(q[0], q[1])
    yaw = q[0] + q[1] + q[2]
    out[0], out[1], out[2], out[3] = arm.joints(
        x + vx * seconds, y + vy * seconds, q[3] + vz * seconds, yaw + vyaw * seconds)
    for j in range(4):
        out[j] = _clamp(out[j], arm.LOW[j], arm.HIGH[j])


@njit(cache=True)
def rows(q, blocks, target, side):
    """The demonstrated chunk [ROWS, 4] of joint commands from this state on, which is left as it is."""
    q, blocks = q.copy(), blocks.copy()
    out = np.empty((ROWS, 4))
    # The arm follows its command after LAG: commands are ahead of it by as much.
    lead(q, blocks, target, side, world.LAG, out[0])
    for k in range(1, ROWS):
        lead(q, blocks, target, side, world.LAG + 1.0 / RATE_HZ, out[k])
        world.play(q, blocks, out[k - 1], out[k], STEPS)
    return out
