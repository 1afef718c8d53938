"""The arm: a SCARA robot with shoulder, elbow, wrist (rad) and lift (m, height of the tool's tip).

The shoulder stands behind the table, at (0, BASE_Y). At angle 0 the arm points to the table (-y); the elbow always bends
to the same side. The tool is a fork of two round prongs, side by side along y when its yaw is 0.
"""

import math

from numba import njit

from .exact import sin_cos

JOINTS = ("shoulder", "elbow", "wrist", "lift")
BASE_Y = 0.36
UPPER = 0.30
FORE = 0.28
PRONG_OFFSET = 0.018
PRONG_RADIUS = 0.008

# Per joint: least and greatest position, greatest speed per second.
LOW = (-2.2, 0.15, -3.2, 0.008)
HIGH = (2.2, 2.75, 3.2, 0.16)
SPEED = (3.0, 4.0, 5.0, 0.4)
# Greatest acceleration of a command per second squared: what a profile declares; the simulator does not need it.
ACCELERATION = (60.0, 80.0, 100.0, 10.0)


@njit(cache=True)
def elbow(q0):
    """Position (x, y) of the elbow."""
    s, c = sin_cos(q0)
    return UPPER * s, BASE_Y - UPPER * c


@njit(cache=True)
def tool(q0, q1):
    """Position (x, y) of the tool."""
    s, c = sin_cos(q0)
    s1, c1 = sin_cos(q0 + q1)
    return UPPER * s + FORE * s1, BASE_Y - UPPER * c - FORE * c1


@njit(cache=True)
def joints(x, y, z, yaw):
    """Joint positions that put the tool there: for scripts, not part of the simulation."""
    dx, dy = x, BASE_Y - y
    d2 = dx * dx + dy * dy
    cosine = (d2 - UPPER * UPPER - FORE * FORE) / (2.0 * UPPER * FORE)
    q1 = math.acos(min(max(cosine, -1.0), 1.0))
    q0 = math.atan2(dx, dy) - math.atan2(FORE * math.sin(q1), UPPER + FORE * math.cos(q1))
    return q0, q1, yaw - q0 - q1, z
