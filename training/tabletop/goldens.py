"""Records held-out observations with the chunks of lerobot in f32: python -m tabletop.goldens CHECKPOINT.

Writes CHECKPOINT/golden_tabletop.safetensors: `frames` [n, camera, height, width, 3] u8, `state` [n, state] and `actions`
[n, row, action] f32 in the robot's units, `noise` [n, row, width] f32, and in the metadata `tasks`, a JSON list of the
instructions, and `cameras`, their names. Half of the observations are the first of their episode, the others come later.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

from . import evaluate, policy
from .render import CAMERAS, render

FIRST_SEED = 9_500_000  # neither demonstrations nor evaluation
COUNT = 12


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoint", type=pathlib.Path)
    args = p.parse_args()
    _, arch, net, pre, post = policy.load(args.checkpoint)
    net.model.config.num_inference_steps = arch.num_inference_steps
    found = {"frames": [], "state": [], "noise": [], "actions": []}
    texts = []
    for i in range(COUNT):
        kind = ("reach", "push")[i % 2]
        (seed, task, _), = evaluate.tasks(FIRST_SEED + i, 1, kind)
        episode = evaluate.Episode.begin(seed, task)
        for chunk in range(1 if i % 4 < 2 else 2 + i // 4):
            frames = np.stack([render(camera, episode.q, episode.blocks, episode.start) for camera in CAMERAS])
            seen = {f"observation.images.{camera}": torch.from_numpy(frame)[None].float().div(255).permute(0, 3, 1, 2)
                    for camera, frame in zip(CAMERAS, frames, strict=True)}
            state = episode.q.astype(np.float32)
            noise = evaluate.noise(seed, chunk, arch.chunk_size, arch.max_action_dim)
            batch = pre({**seen, "observation.state": torch.from_numpy(state)[None], "task": [task.text()]})
            rows = post(net.predict_action_chunk(batch, noise=torch.from_numpy(noise)[None]))[0]
            episode.play(rows.numpy()[: evaluate.EXECUTE + 1], 0.0)
        texts.append(task.text())
        for name, value in (("frames", frames), ("state", state), ("noise", noise), ("actions", rows.numpy())):
            found[name].append(torch.from_numpy(np.ascontiguousarray(value)))
    save_file({name: torch.stack(values).contiguous() for name, values in found.items()},
              args.checkpoint / "golden_tabletop.safetensors",
              metadata={"tasks": json.dumps(texts), "cameras": json.dumps(list(CAMERAS))})


if __name__ == "__main__":
    main()
