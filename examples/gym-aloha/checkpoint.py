"""Makes a checkpoint in openpi's layout, of ALOHA's sizes and with random weights: python checkpoint.py SYNTH OUT.

SYNTH is a directory that `pi0rt synth` has written. A policy of random weights does nothing sensible; what can be seen
with it is that sizes, units, rate and transforms fit.
"""

import json
import pathlib
import shutil
import struct
import sys

from gym_aloha.constants import START_ARM_POSE


def main() -> None:
    source, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True)
    with (source / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    # openpi's names have no "model.", and its output projection is the embedding.
    kept, tensors = {}, b""
    for name, entry in header.items():
        if not name.endswith("embed_tokens.weight"):
            first, end = entry["data_offsets"]
            kept[name.removeprefix("model.")] = {**entry, "data_offsets": [len(tensors), len(tensors) + end - first]}
            tensors += data[first:end]
    text = json.dumps(kept).encode()
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    for name in ("arch.json", "tokenizer.json"):
        shutil.copy(source / name, out / name)
    # Statistics in the space of the model's own robot, as openpi's `_decode_state` has it: around the arms' pose at the start.
    arm = [START_ARM_POSE[0], *(-q for q in START_ARM_POSE[1:3]), *START_ARM_POSE[3:6], 0.5]
    feature = {"mean": arm * 2, "std": [0.05] * 14, "q01": [q - 0.1 for q in arm * 2], "q99": [q + 0.1 for q in arm * 2]}
    assets = out / "assets" / "aloha"
    assets.mkdir(parents=True)
    (assets / "norm_stats.json").write_text(json.dumps({"norm_stats": {"state": feature, "actions": feature}}))


if __name__ == "__main__":
    main()
