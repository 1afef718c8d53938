"""ALOHA in simulation as a client of the daemon, through the C interface.

    pi0rt serve --checkpoint DIR --profile aloha_sim --socket /tmp/pi0rt.sock &
    python aloha.py --socket /tmp/pi0rt.sock --library target/release/libpi0rt.so --header include/pi0rt.h

gym-aloha's two arms and its top camera are the robot: MuJoCo steps them 50 times a second of simulated time, by
commands of pi0rt_action_at. Rendered in software that takes longer than 20 ms, so time is stretched: with --speed 0.25
a simulated second takes four. The daemon is told the stretched rate, and everything else is as on a robot. Without a
graphics card, MUJOCO_GL is osmesa or egl.

Nothing is bound by hand: cffi reads the interface from pi0rt.h.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("MUJOCO_GL", "egl")

import cffi
import gym_aloha  # noqa: F401  registers the environments
import gymnasium
import numpy as np
from gym_aloha.constants import ACTIONS, DT, JOINTS
from PIL import Image

CAMERA = "cam_high"


class Pi0rt:
    """libpi0rt by its header."""

    def __init__(self, library: pathlib.Path, header: pathlib.Path):
        self.ffi = cffi.FFI()
        # The standard headers as the compiler has them say more than cffi reads; it knows their types itself.
        text = header.read_text().replace("#include <stddef.h>", "").replace("#include <stdint.h>", "")
        self.ffi.cdef(subprocess.run(["cc", "-E", "-P", "-"], input=text, capture_output=True, text=True, check=True).stdout)
        self.c = self.ffi.dlopen(str(library))
        constants = [line.split() for line in text.splitlines() if line.startswith("#define PI0RT_")]
        self.constants = {words[1]: int(words[2], 0) for words in constants if len(words) == 3}
        if self.c.pi0rt_version() != self.constants["PI0RT_ABI_VERSION"]:
            sys.exit(f"aloha: {header} has ABI {self.constants['PI0RT_ABI_VERSION']}, the library {self.c.pi0rt_version()}")

    def new(self, name: str, **fields):
        """A struct with its struct_size and these fields."""
        return self.ffi.new(f"{name} *", {"struct_size": self.ffi.sizeof(name), **fields})

    def error(self) -> str:
        """The text of the last error."""
        buffer = self.ffi.new("char[512]")
        self.c.pi0rt_last_error(buffer, 512)
        return self.ffi.string(buffer).decode()

    def check(self, what: str, status: int) -> None:
        """Ends the program unless `status` is OK."""
        if status != self.c.PI0RT_STATUS_OK:
            said = self.ffi.string(self.c.pi0rt_status_string(status)).decode()
            sys.exit(f"aloha: {what}: {said}: {self.error()}")

    def array(self, pointer, count: int) -> np.ndarray:
        """`count` floats of C as an array, without a copy."""
        return np.frombuffer(self.ffi.buffer(pointer, 4 * count), np.float32)


def dimensions(pi0rt: Pi0rt, client, vector: int, count: int) -> list:
    """Descriptions of a vector's values."""
    found = []
    for i in range(count):
        dimension = pi0rt.new("pi0rt_dimension")
        pi0rt.check("dimension", pi0rt.c.pi0rt_client_dimension(client, vector, i, dimension))
        found.append(dimension)
    return found


def same_joints(pi0rt: Pi0rt, what: str, found: list, joints: list[str]) -> None:
    """Ends the program unless the daemon's dimensions are the simulation's joints, in order and in its units."""
    for dimension, joint in zip(found, joints, strict=True):
        name = pi0rt.ffi.string(dimension.name).decode()
        if name.replace("left_", "").replace("right_", "") != joint.replace("left_arm_", "").replace("right_arm_", "") \
                or name.split("_")[0] != joint.split("_")[0]:
            sys.exit(f"aloha: {what}: the daemon has {name!r} where the simulation has {joint!r}")
        unit, gripper = pi0rt.ffi.string(dimension.unit).decode(), joint.endswith("gripper")
        if bool(dimension.gripper) != gripper or (unit == "rad") == gripper:
            sys.exit(f"aloha: {what}: {name} is in {unit!r}, gripper {dimension.gripper}")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--library", type=pathlib.Path, default="target/release/libpi0rt.so")
    p.add_argument("--header", type=pathlib.Path, default="include/pi0rt.h")
    p.add_argument("--socket", default=os.environ.get("PI0RT_SOCKET", "/run/pi0rt/pi0rt.sock"))
    p.add_argument("--env", default="gym_aloha/AlohaTransferCube-v0")
    p.add_argument("--prompt", default="Transfer cube")
    p.add_argument("--seed", type=int, default=0, help="of the scene")
    p.add_argument("--seconds", type=float, default=4.0, help="of simulated time")
    p.add_argument("--speed", type=float, default=0.25, help="simulated seconds per second")
    p.add_argument("--keep", type=pathlib.Path, help="directory for the first observation and its chunk, for `pi0rt infer`")
    args = p.parse_args()

    pi0rt = Pi0rt(args.library, args.header)
    c, ffi = pi0rt.c, pi0rt.ffi
    env = gymnasium.make(args.env, obs_type="pixels_agent_pos")
    seen, _ = env.reset(seed=args.seed)

    socket, name, prompt = (ffi.new("char[]", text.encode()) for text in (args.socket, "gym-aloha", args.prompt))
    handle = ffi.new("pi0rt_client **")
    options = pi0rt.new("pi0rt_client_options", socket_path=socket, session_name=name, control_rate_hz=args.speed / DT)
    pi0rt.check("open", c.pi0rt_client_open(options, handle))
    client = handle[0]
    info = pi0rt.new("pi0rt_policy_info")
    pi0rt.check("describe", c.pi0rt_client_describe(client, info))
    if (info.state_dim, info.action_dim) != (len(JOINTS), len(ACTIONS)):
        sys.exit(f"aloha: the policy has {info.state_dim} states and {info.action_dim} actions, ALOHA {len(JOINTS)} and {len(ACTIONS)}")
    same_joints(pi0rt, "state", dimensions(pi0rt, client, c.PI0RT_VECTOR_STATE, info.state_dim), JOINTS)
    actions = dimensions(pi0rt, client, c.PI0RT_VECTOR_ACTION, info.action_dim)
    same_joints(pi0rt, "actions", actions, ACTIONS)
    low, high = (np.array([getattr(d, bound) for d in actions]) for bound in ("position_min", "position_max"))
    camera = ffi.new("uint32_t *")
    pi0rt.check(CAMERA, c.pi0rt_client_camera(client, ffi.new("char[]", CAMERA.encode()), camera))
    pi0rt.check("prompt", c.pi0rt_client_set_prompt(client, prompt, ffi.NULL))
    print(f"{ffi.string(info.model).decode()} on {ffi.string(info.device).decode()}: {info.horizon} rows of {info.action_dim}, "
          f"declared for {info.control_rate_hz:g} Hz, played at {info.rate_hz:g} Hz")

    command = np.clip(seen["agent_pos"], low, high).astype(np.float32)
    pi0rt.check("start", c.pi0rt_start_from(client, ffi.from_buffer("float[]", command), len(command)))
    observation, completion, about = (pi0rt.new(f"pi0rt_{name}") for name in ("observation", "completion", "action_info"))
    first, kept, chunks, failed, stages, beyond, limited, steps = None, False, 0, [], {}, 0, 0, []
    tick = DT / args.speed
    due = time.monotonic()
    ticks = round(args.seconds / DT)
    for _ in range(ticks):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + tick, time.monotonic())
        while c.pi0rt_poll(client, completion) == c.PI0RT_STATUS_OK:
            if completion.status == c.PI0RT_STATUS_OK:
                chunks += 1
            else:
                failed.append(pi0rt.error())
        if args.keep and chunks and not kept:
            kept = keep(pi0rt, client, args.keep, first)
        before = command.copy()
        c.pi0rt_action_at(client, c.pi0rt_now_ns(), ffi.from_buffer("float[]", command), len(command), about)
        stages[about.stage] = stages.get(about.stage, 0) + 1
        limited += about.limited != 0
        beyond += bool(((command < low) | (command > high) | ~np.isfinite(command)).any())
        steps.append(float(np.abs(command - before).max()))
        seen, *_ = env.step(command)
        if about.flags & pi0rt.constants["PI0RT_ACTION_SUBMIT_NOW"]:
            if c.pi0rt_observation_acquire(client, observation) != c.PI0RT_STATUS_OK:
                continue
            picture = np.ascontiguousarray(seen["pixels"]["top"])
            frame = observation.frames[camera[0]]
            if picture.nbytes > frame.capacity:
                sys.exit(f"aloha: {CAMERA} is too large: {picture.nbytes} bytes, {frame.capacity} fit")
            ffi.memmove(frame.data, ffi.from_buffer(picture), picture.nbytes)
            frame.height, frame.width = picture.shape[:2]
            frame.format = c.PI0RT_FORMAT_RGB8
            state = np.clip(seen["agent_pos"], low, high).astype(np.float32)
            pi0rt.array(observation.state, observation.state_dim)[:] = state
            observation.observed_ns, observation.seed = c.pi0rt_now_ns(), args.seed + 1
            first = first or (picture, state)
            if c.pi0rt_submit(client, observation, ffi.NULL) != c.PI0RT_STATUS_OK:
                c.pi0rt_observation_release(client, observation)

    c.pi0rt_client_close(client)
    played = stages.get(c.PI0RT_STAGE_PLAY, 0)
    print(f"{ticks} ticks, {chunks} chunks, {played} commands played, {ticks - played} held or waiting, {limited} limited, "
          f"{beyond} beyond the limits, largest step {max(steps):.3f}")
    for why in sorted(set(failed)):
        print(f"{failed.count(why)} without a chunk: {why}")
    if beyond or failed or not played:
        sys.exit(1)


def keep(pi0rt: Pi0rt, client, directory: pathlib.Path, first: tuple) -> bool:
    """Writes the first observation and the chunk that answered it. Returns true."""
    chunk = pi0rt.new("pi0rt_chunk")
    pi0rt.check("chunk", pi0rt.c.pi0rt_chunk_latest(client, chunk))
    if chunk.chunk != 1:
        sys.exit(f"aloha: chunk {chunk.chunk} came before the first one was read")
    directory.mkdir(parents=True, exist_ok=True)
    picture, state = first
    Image.fromarray(picture).save(directory / f"{CAMERA}.png")
    np.savetxt(directory / "state.txt", state[None])
    rows = pi0rt.array(chunk.actions, chunk.horizon * chunk.action_dim).reshape(chunk.horizon, chunk.action_dim)
    np.savetxt(directory / "chunk.txt", rows)
    return True


if __name__ == "__main__":
    main()
