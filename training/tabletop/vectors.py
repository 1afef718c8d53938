"""What a port of the simulator has to reproduce: python -m tabletop.vectors writes tests/vectors.json.

Numbers are hexadecimal doubles, images are digests and some pixels of a row. Each episode has the rows that were played
between its moments, from the joints it started with.
"""

import hashlib
import json
import pathlib

import numpy as np

from . import demos, exact, expert, world
from .render import CAMERAS, render
from .scene import Task, scene

PATH = pathlib.Path(__file__).parent.parent / "tests" / "vectors.json"


def vectors() -> dict:
    """All vectors."""
    out = {"sin_cos": [], "ln": [], "uniform": [], "normal": [], "episodes": []}
    for x in (-7.5, -1.0, 1e-9, 0.3, 0.785398163397448, 2.0, 100.25):
        out["sin_cos"].append([x.hex(), *(v.hex() for v in exact.sin_cos(x))])
    for x in (1e-17, 0.1, 0.75, 0.9999, 1.0):
        out["ln"].append([x.hex(), float(exact.ln(x)).hex()])
    for i in range(4):
        out["uniform"].append([11, i, float(exact.uniform(11, i)).hex()])
        out["normal"].append([11, i, float(exact.normal(11, i)).hex()])
    for seed, task in ((1, Task("red")), (2, Task("blue", "left")), (5, Task("yellow", "right"))):
        start = scene(seed)
        task = task if task in start.tasks() else start.tasks()[1]
        q, blocks = start.joints.copy(), start.blocks.copy()
        moments, command = [], q.copy()
        for tick in range(61):
            if tick % 20 == 0:
                images = {camera: render(camera, q, blocks, start) for camera in CAMERAS}
                moments.append({
                    "tick": tick, "joints": [v.hex() for v in q.tolist()], "blocks": [[v.hex() for v in b] for b in blocks.tolist()],
                    **{camera: {"sha256": hashlib.sha256(image.tobytes()).hexdigest(), "row_40": image[40, ::4].tolist()}
                       for camera, image in images.items()}})
            following = np.empty(4)
            expert.lead(q, blocks, start.block(task), demos.side_of(task), 0.09, following)
            # Rounded, as a policy's f32 rows are; so a port needs no inverse kinematics to replay them.
            following = following.astype(np.float32).astype(np.float64)
            moments[-1].setdefault("rows", []).append([v.hex() for v in following.tolist()])
            world.play(q, blocks, command, following, expert.STEPS)
            command = following
        out["episodes"].append({"seed": seed, "task": task.text(), "colours": start.colours.tolist(), "light": start.light, "moments": moments})
    return out


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
