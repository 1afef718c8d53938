"""Records the demonstrations that `train` learns from: python -m tabletop.record --out DIR."""

import argparse
import pathlib

from . import train


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split(":")[0])
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--episodes", type=int, default=train.EPISODES)
    args = p.parse_args()
    data = train.demonstrations(args.episodes, args.out)
    print(f"{len(data.states)} snapshots of {args.episodes} episodes")


if __name__ == "__main__":
    main()
