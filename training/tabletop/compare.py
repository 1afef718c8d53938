"""Compares pi0rt with lerobot on the same scenes and noise: python -m tabletop.compare CHECKPOINT.

`--trace` takes the file that `pi0rt eval --trace` wrote, without latency. Its rows are replayed in this simulator, whose states are
pi0rt's bit for bit; so lerobot sees what pi0rt saw, and each chunk can be compared. `--results` takes what `pi0rt eval --json`
wrote, plays the same episodes with lerobot, and compares how they end.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

from . import evaluate, expert, policy
from .evaluate import Episode
from .render import CAMERAS, SIZE, render
from .scene import TASKS

BY_TEXT = {task.text(): task for task in TASKS}


@torch.no_grad()
def chunk_of(loaded, episode: Episode, chunk: int, covered=()) -> np.ndarray:
    """lerobot's chunk [rows, joints] for an episode as it is now."""
    _, arch, net, pre, post = loaded
    seen = {}
    for camera in CAMERAS:
        black = np.zeros((SIZE, SIZE, 3), np.uint8)
        frame = black if camera in covered else render(camera, episode.q, episode.blocks, episode.start)
        seen[f"observation.images.{camera}"] = torch.from_numpy(frame)[None].float().div(255).permute(0, 3, 1, 2).contiguous()
    seen["observation.state"] = torch.from_numpy(episode.q.astype(np.float32))[None]
    batch = pre({**seen, "task": [episode.told.text()]})
    noise = torch.from_numpy(evaluate.noise(episode.seed, chunk, arch.chunk_size, arch.max_action_dim))[None]
    return post(net.predict_action_chunk(batch, noise=noise)).numpy()[0]


def compare_chunks(loaded, lines: list[dict], execute: int) -> list[float]:
    """The greatest difference of each chunk of a trace from lerobot's, in the robot's units."""
    worst, episode = [], None
    for line in lines:
        if line["chunk"] == 0:
            episode = Episode.begin(line["seed"], BY_TEXT[line["told"]])
        state = np.array(line["state"], np.float32)
        if not np.array_equal(state, episode.q.astype(np.float32)):
            raise SystemExit(f"seed {line['seed']}, chunk {line['chunk']}: the state is {state}, here it is {episode.q}")
        rows = np.array(line["actions"], np.float32).reshape(expert.ROWS, -1)
        worst.append(float(np.abs(rows - chunk_of(loaded, episode, line["chunk"])).max()))
        episode.play(rows[: execute + 1], line["chunk"] * execute / expert.RATE_HZ)
    return worst


def compare_outcomes(loaded, run: dict) -> np.ndarray:
    """Episodes [lerobot, pi0rt] by whether they fail (0) or succeed (1)."""
    condition = run["condition"]
    covered = {"covered-front": ("front",), "covered-wrist": ("wrist",), "covered-both": CAMERAS}.get(condition["telling"], ())
    episodes = [Episode.begin(o["seed"], BY_TEXT[o["task"]], BY_TEXT[o["told"]]) for o in run["outcomes"]]
    done = evaluate.run(loaded, episodes, covered=covered, steps=int(condition["steps"]), execute=int(condition["execute"]))
    table = np.zeros((2, 2), int)
    for theirs, ours in zip(done, run["outcomes"], strict=True):
        table[int(theirs.success_s is not None), int(ours["success_s"] is not None)] += 1
    return table


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoint", type=pathlib.Path)
    p.add_argument("--trace", type=pathlib.Path, help="chunks of pi0rt eval --trace")
    p.add_argument("--results", type=pathlib.Path, help="results of pi0rt eval --json")
    p.add_argument("--execute", type=int, default=evaluate.EXECUTE, help="rows played of each chunk of the trace")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    loaded = policy.load(args.checkpoint)
    loaded[2].model.config.num_inference_steps = loaded[1].num_inference_steps
    if args.trace:
        worst = compare_chunks(loaded, [json.loads(line) for line in args.trace.read_text().splitlines()], args.execute)
        print(f"{len(worst)} chunks: greatest difference {max(worst):.2e}, median {np.median(worst):.2e}")
    for run in json.loads(args.results.read_text())["runs"] if args.results else []:
        if run["condition"]["latency"] != "none":
            continue
        table = compare_outcomes(loaded, run)
        n = table.sum()
        print(f"{run['kind']:6} {run['condition']['device']}, {run['condition']['telling']}: lerobot {table[1].sum()} of {n}, "
              f"pi0rt {table[:, 1].sum()}; only lerobot {table[1, 0]}, only pi0rt {table[0, 1]}", flush=True)


if __name__ == "__main__":
    main()
