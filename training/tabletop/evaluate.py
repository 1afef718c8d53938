"""Counts successes in closed loop: python -m tabletop.evaluate CHECKPOINT.

The policy is run by lerobot: its preprocessor, `predict_action_chunk` and postprocessor, from the checkpoint's files. Each
chunk is computed at once (no latency); EXECUTE of its rows are played, linearly interpolated at 1 kHz, and the
next chunk takes over. Scenes and noise are functions of the seed: see `noise`.
"""

import argparse
import json
import math
import pathlib
from dataclasses import dataclass

import numpy as np
import torch

from . import exact, expert, policy, world
from .demos import side_of
from .render import CAMERAS, SIZE, render
from .scene import LINE_X, Scene, Task, scene

FIRST_SEED = 9_000_000  # demonstrations have other ones
EXECUTE = 8
SECONDS = 10.0


def noise(seed: int, chunk: int, rows: int, width: int) -> np.ndarray:
    """Noise [rows, width] of chunk number `chunk` of the episode `seed`: f32, the same in every language."""
    stream = int(exact.mix(seed, 0x6E6F697365 + chunk)) >> 1  # seeds are below 2^63
    return exact.normals(stream, rows * width).reshape(rows, width)


@dataclass
class Episode:
    """An episode: its scene, the task that counts, the one that the policy is told, and how it went."""

    seed: int
    task: Task
    told: Task
    start: Scene
    q: np.ndarray
    blocks: np.ndarray
    held: int = 0
    success_s: float | None = None

    @staticmethod
    def begin(seed: int, task: Task, told: Task | None = None) -> "Episode":
        start = scene(seed)
        return Episode(seed, task, told or task, start, start.joints.copy(), start.blocks.copy())

    def play(self, rows: np.ndarray, at: float) -> None:
        """Plays from rows[0] to the last one; `at` is the time of the first, s."""
        target, side = self.start.block(self.task), side_of(self.task)
        rows = rows.astype(np.float64)
        for k in range(len(rows) - 1):
            world.play(self.q, self.blocks, rows[k], rows[k + 1], expert.STEPS)
            if side == 0:
                self.held = self.held + expert.STEPS if world.reached(self.q, self.blocks, target) else 0
                done = self.held >= world.REACH_HOLD
            else:
                done = side * self.blocks[target, 0] > LINE_X
            if done and self.success_s is None and world.others_stayed(self.blocks, self.start.blocks, target):
                self.success_s = at + (k + 1) / expert.RATE_HZ


def tasks(first_seed: int, count: int, kind: str) -> list[tuple[int, Task, Task]]:
    """(seed, task, another task) of each episode: both of the kind and the side, about two blocks of the scene."""
    chosen = []
    for seed in range(first_seed, first_seed + count):
        fit = [task for task in scene(seed).tasks() if task.kind == kind]
        task = fit[int(exact.uniform(seed, 100) * len(fit))]
        others = [other for other in fit if other.side == task.side and other != task]
        chosen.append((seed, task, others[int(exact.uniform(seed, 101) * len(others))]))
    return chosen


@torch.no_grad()
def run(loaded, running: list[Episode], *, covered=(), steps=None, execute=EXECUTE) -> list[Episode]:
    """Plays episodes side by side, each until its success. `covered` cameras see black."""
    _, arch, net, pre, post = loaded
    net.model.config.num_inference_steps = steps or arch.num_inference_steps
    for chunk in range(int(SECONDS * expert.RATE_HZ / execute)):
        going = [episode for episode in running if episode.success_s is None]
        if not going:
            break
        seen = {}
        for camera in CAMERAS:
            frames = [np.zeros((SIZE, SIZE, 3), np.uint8) if camera in covered else render(camera, e.q, e.blocks, e.start)
                      for e in going]
            # As lerobot's prepare_observation_for_inference does it.
            frames = torch.from_numpy(np.stack(frames)).float().div(255).permute(0, 3, 1, 2)
            seen[f"observation.images.{camera}"] = frames.contiguous()
        seen["observation.state"] = torch.from_numpy(np.stack([e.q for e in going]).astype(np.float32))
        batch = pre({**seen, "task": [e.told.text() for e in going]})
        start = torch.from_numpy(np.stack([noise(e.seed, chunk, arch.chunk_size, arch.max_action_dim) for e in going]))
        chunks = post(net.predict_action_chunk(batch, noise=start)).numpy()
        for episode, rows in zip(going, chunks, strict=True):
            episode.play(rows[: execute + 1], chunk * execute / expert.RATE_HZ)
    return running


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927)."""
    share = successes / n
    middle = share + z * z / (2 * n)
    width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (middle - width) / scale, (middle + width) / scale


def summary(done: list[Episode]) -> dict:
    """Success rate with its interval, and the median time to success."""
    times = [e.success_s for e in done if e.success_s is not None]
    low, high = wilson(len(times), len(done))
    return {"episodes": len(done), "successes": len(times), "rate": len(times) / len(done), "low": round(low, 4),
            "high": round(high, 4), "median_s": float(np.median(times)) if times else None}


# Per condition: whether the other task is told, whether the other task counts, and which cameras are covered.
CONDITIONS = {
    "plain": (False, False, ()),
    "swapped": (True, True, ()),  # same scenes and noise, another block
    "swapped-first": (True, False, ()),  # the first task: is not to succeed
    "covered-front": (False, False, ("front",)),
    "covered-wrist": (False, False, ("wrist",)),
    "covered-both": (False, False, ("front", "wrist")),
}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoint", type=pathlib.Path)
    p.add_argument("--episodes", type=int, default=100, help="per kind of instruction")
    p.add_argument("--seed", type=int, default=FIRST_SEED)
    p.add_argument("--steps", type=int, help="denoising steps")
    p.add_argument("--execute", type=int, default=EXECUTE, help="rows played of each chunk")
    p.add_argument("--conditions", default="plain", help="by commas, or all: " + ", ".join(CONDITIONS))
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--json", type=pathlib.Path)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    loaded = policy.load(args.checkpoint)
    results = []
    for name in CONDITIONS if args.conditions == "all" else args.conditions.split(","):
        is_told, counts, covered = CONDITIONS[name]
        for kind in ("reach", "push"):
            running = [Episode.begin(seed, other if counts else task, other if is_told else task)
                       for seed, task, other in tasks(args.seed, args.episodes, kind)]
            done = run(loaded, running, covered=covered, steps=args.steps, execute=args.execute)
            result = {"condition": name, "kind": kind, **summary(done)}
            results.append(result)
            print(f"{name:14} {kind:6} {result['successes']:4} of {result['episodes']:4}  {100 * result['rate']:5.1f} %  "
                  f"[{100 * result['low']:.1f}, {100 * result['high']:.1f}]  median {result['median_s']} s", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
