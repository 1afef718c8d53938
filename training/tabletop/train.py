"""Trains a policy: python -m tabletop.train pi0 --out DIR.

Everything follows from --seed. The work is measured in observations, not in time; with --resume an interrupted run
goes on from its last state.
"""

import argparse
import copy
import json
import math
import os
import pathlib
import time

import numpy as np
import torch

from . import arm, demos, learn, policy
from .scene import COLOURS, TASKS

FIRST_SEED = 1_000_000  # of demonstrations; evaluate.py uses other ones
EPISODES = 6000
PLACE_SCALE = 0.15  # m, of places in the auxiliary losses
BESIDE_WITHIN = 0.13  # m: blocks farther from the tool are not in the wrist camera


def demonstrations(episodes: int, cache: pathlib.Path) -> demos.Demos:
    """Demonstrations, recorded once and kept in a file."""
    path = cache / f"demos-{FIRST_SEED}-{episodes}.npz"
    if path.exists():
        with np.load(path) as file:
            return demos.Demos(**{key: file[key] for key in file.files})
    recorded = demos.record(episodes, FIRST_SEED, lambda n: print(f"{n} episodes", flush=True) if n % 500 == 0 else None)
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, **vars(recorded))
    part.rename(path)
    return recorded


def statistics(data: demos.Demos, relative: bool) -> dict:
    """Statistics of states and actions as lerobot's data sets have them."""

    def of(values):
        values = torch.from_numpy(values.reshape(-1, values.shape[-1])).double()
        out = {"mean": values.mean(0), "std": values.std(0), "min": values.amin(0), "max": values.amax(0)}
        for name, q in (("q01", 0.01), ("q10", 0.10), ("q50", 0.50), ("q90", 0.90), ("q99", 0.99)):
            out[name] = torch.from_numpy(np.quantile(values.numpy(), q, axis=0))
        out = {name: value.float() for name, value in out.items()}
        out["count"] = torch.tensor([float(len(values))])
        return out

    chunks = data.chunks
    if relative:
        offset = data.states.copy()
        offset[:, 3] = 0.0  # the lift stays absolute
        chunks = chunks - offset[:, None, None]
    return {"observation.state": of(data.states), "action": of(chunks)}


def prepare(model: str, arch, data: demos.Demos, pre) -> dict[str, torch.Tensor]:
    """What lerobot's preprocessor makes of the demonstrations, but for the images: tensors over all snapshots."""
    out = {"state": [], "chunks": [], "tokens": [], "masks": []}
    n, prompts = data.tasks.shape
    for at in range(0, n, 512):
        part = slice(at, min(at + 512, n))
        for k in range(prompts):
            told = pre({
                "observation.state": torch.from_numpy(data.states[part]), "action": torch.from_numpy(data.chunks[part, k]),
                "task": [TASKS[i].text() for i in data.tasks[part, k]]})
            out["state"].append(told["observation.state"]) if k == 0 else None
            out["chunks"].append(told["action"])
            out["tokens"].append(told["observation.language.tokens"])
            out["masks"].append(told["observation.language.attention_mask"].bool())

    def paired(parts):  # [label 0 of the first part, label 1 of it, label 0 of the second …] -> [n, prompts, …]
        return torch.cat([torch.stack(parts[i : i + prompts], 1) for i in range(0, len(parts), prompts)])

    result = {"state": torch.cat(out["state"]), **{key: paired(out[key]) for key in ("chunks", "tokens", "masks")}}
    # Padding takes no part: what is padding in every prompt is left out.
    longest = int(result["masks"].sum(-1).max())
    result["tokens"], result["masks"] = result["tokens"][..., :longest], result["masks"][..., :longest]
    pad = torch.nn.functional.pad
    result["state"] = pad(result["state"], (0, arch.max_state_dim - arch.state_dim))
    result["chunks"] = pad(result["chunks"], (0, arch.max_action_dim - arch.action_dim))

    tools = np.array([_tool(q) for q in data.states], np.float32)
    places = data.places
    beside = places - tools[:, None, :2]
    yaw = tools[:, 2]
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    beside = np.stack([c * beside[..., 0] + s * beside[..., 1], c * beside[..., 1] - s * beside[..., 0]], -1)
    hidden = np.abs(beside).max(-1, keepdims=True) > BESIDE_WITHIN
    colour = np.array([COLOURS.index(task.colour) for task in TASKS])[data.tasks]
    index = np.arange(n)[:, None]
    named = np.concatenate([places[index, colour], beside[index, colour]], -1)
    result["places"] = torch.from_numpy(places / PLACE_SCALE)
    result["beside"] = torch.from_numpy(np.where(hidden, np.nan, beside) / PLACE_SCALE).float()
    result["named"] = torch.from_numpy(named / PLACE_SCALE).float()
    return result


def _tool(q):
    """Place and yaw of the tool."""
    x, y = arm.tool(float(q[0]), float(q[1]))
    return x, y, q[0] + q[1] + q[2]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model", choices=policy.MODELS)
    p.add_argument("--out", type=pathlib.Path, required=True, help="directory for the checkpoint and the training's state")
    p.add_argument("--episodes", type=int, default=EPISODES, help="demonstrations, of 8 snapshots with 2 labels each")
    p.add_argument("--ground", type=int, default=3000, help="steps of the auxiliary losses alone, which cost a third")
    p.add_argument("--steps", type=int, default=10000, help="steps in all: the learning rate falls up to there")
    p.add_argument("--until", type=int, help="stop, with a checkpoint, at this step [default: the last]")
    p.add_argument("--batch", type=int, default=16, help="snapshots per step")
    p.add_argument("--draws", type=int, default=1, help="noise draws per label")
    p.add_argument("--lr", type=float, default=1.2e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--minutes", type=float, default=0.0, help="stop, with a checkpoint, after so many [default: never]")
    p.add_argument("--resume", action="store_true", help="go on from the state in --out, if there is one")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    is_pi05 = args.model == "pi05"
    arch = policy.arch_of(args.model)
    data = demonstrations(args.episodes, args.out.parent)
    net = policy.build(args.model, arch)
    policy.initialize(net, arch, args.seed)
    pre, post = policy.make_processors(args.model, net.config, statistics(data, is_pi05))
    prepared = prepare(args.model, arch, data, pre)
    auxiliary = learn.Auxiliary(arch)
    unused = ("lm_head", "language_model.norm")
    trained = [(name, w) for name, w in net.named_parameters() if not any(part in name for part in unused)]
    decayed = [w for _, w in trained if w.ndim > 1] + [auxiliary.text.weight]
    kept = [w for _, w in trained if w.ndim <= 1] + [w for n, w in auxiliary.named_parameters() if n != "text.weight"]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}], lr=args.lr, betas=(0.9, 0.98),
        fused=True)
    parameters = decayed + kept
    mean = copy.deepcopy({name: w.detach() for name, w in trained})
    first, spent = 0, 0.0
    state_path = args.out / "training.pt"
    if args.resume and state_path.exists():
        state = torch.load(state_path, weights_only=False)
        net.load_state_dict(state["net"])
        auxiliary.load_state_dict(state["auxiliary"])
        optimizer.load_state_dict(state["optimizer"])
        mean, first, spent = state["mean"], state["step"], state["spent"]
        print(f"goes on from step {first}", flush=True)
    print(f"{sum(w.numel() for _, w in trained)} parameters, {len(data.states)} snapshots", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)

    def keep(step):
        part = state_path.with_suffix(".part")
        torch.save({"net": net.state_dict(), "auxiliary": auxiliary.state_dict(), "optimizer": optimizer.state_dict(),
                    "mean": mean, "step": step, "spent": spent + time.process_time() - started_cpu}, part)
        part.rename(state_path)
        averaged = copy.deepcopy(net)
        with torch.no_grad():
            for name, w in averaged.named_parameters():
                if name in mean:
                    w.copy_(mean[name])
        policy.save(args.out / "checkpoint", args.model, arch, averaged, pre, post)

    started, started_cpu = time.time(), time.process_time()
    sums = np.zeros(3)
    generator = np.random.default_rng([args.seed, 2])
    order = np.concatenate([generator.permutation(len(data.states)) for _ in range(
        math.ceil(args.steps * args.batch / len(data.states)))])
    images = torch.from_numpy(data.images)
    log = (args.out / "log.jsonl").open("a")
    step = first
    last = min(args.steps, args.until or args.steps)
    while step < last:
        grounding = step < args.ground
        into = step if grounding else step - args.ground
        rate = args.lr * min((into + 1) / 100, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.from_numpy(order[step * args.batch : (step + 1) * args.batch])
        batch = {key: value[rows] for key, value in prepared.items()}
        batch["images"] = images[rows].permute(0, 1, 4, 2, 3).float().div_(127.5).sub_(1.0)
        noises = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        labels = batch["tokens"].shape[0] * batch["tokens"].shape[1]
        noise = torch.randn(labels, args.draws, arch.chunk_size, arch.max_action_dim, generator=noises)
        # lerobot's times: Beta(1.5, 1) on (0.001, 1), by inversion.
        times = torch.rand(labels, generator=noises) ** (1 / 1.5) * 0.999 + 0.001
        drawn = (None, None) if grounding else (noise, times)
        flow, places, named = learn.losses(net, is_pi05, auxiliary, batch, *drawn)
        weight = 1.0 if grounding else 0.3
        optimizer.zero_grad(set_to_none=True)
        (flow + weight * (places + named)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            names = [name for name, _ in trained]
            torch._foreach_lerp_([mean[n] for n in names], [w for _, w in trained], 1 - decay)
        sums += [float(loss.detach()) for loss in (flow, places, named)]
        if step % 100 == 0:
            now = {"step": step, "flow": sums[0] / 100, "places": sums[1] / 100, "named": sums[2] / 100,
                   "lr": rate, "s": round(time.time() - started), "cpu_s": round(spent + time.process_time() - started_cpu)}
            print(json.dumps(now), flush=True)
            log.write(json.dumps(now) + "\n")
            log.flush()
            sums[:] = 0
        if step % 500 == 0:
            keep(step)
        if args.minutes and time.time() - started > 60 * args.minutes:
            break
    keep(step)


if __name__ == "__main__":
    main()
