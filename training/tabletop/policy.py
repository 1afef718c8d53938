"""lerobot's own π0 and π0.5 at a small size, their processors, and their checkpoints.

lerobot hardcodes the sizes of its two "variants"; `sizes` replaces them while a policy is built. The forward code is
lerobot's, unmodified.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors.torch import load_file, save_file

from . import arm, expert, tokens
from .render import CAMERAS, SIZE

MODELS = ("pi0", "pi05")


@dataclasses.dataclass
class Arch:
    """Every size of a model, under the names of arch.json."""

    image_size: int = SIZE
    patch_size: int = 16
    vision_width: int = 96
    vision_layers: int = 2
    vision_heads: int = 4
    vision_mlp: int = 192
    vocab_size: int = 0
    width: int = 96
    depth: int = 4
    mlp: int = 256
    heads: int = 8  # lerobot's training code takes 8 for granted
    kv_heads: int = 1
    head_dim: int = 16
    expert_width: int = 96
    expert_mlp: int = 192
    max_state_dim: int = 8
    max_action_dim: int = 8
    chunk_size: int = expert.ROWS
    num_inference_steps: int = 10
    tokenizer_max_length: int = 0
    state_dim: int = 4
    action_dim: int = 4


def arch_of(model: str) -> Arch:
    """The sizes that are trained."""
    return Arch(vocab_size=len(tokens.tokenizer()), tokenizer_max_length={"pi0": 16, "pi05": 32}[model])


def modeling(model: str):
    """lerobot's module of the model."""
    if model == "pi05":
        from lerobot.policies.pi05 import modeling_pi05 as module
    else:
        from lerobot.policies.pi0 import modeling_pi0 as module
    return module


@contextlib.contextmanager
def sizes(arch: Arch, model: str):
    """Within it, lerobot's classes build models of these sizes."""
    module = modeling(model)
    names = ("get_gemma_config", "PaliGemmaForConditionalGenerationWithPiGemma")
    saved = {name: getattr(module, name) for name in names}
    real = saved["PaliGemmaForConditionalGenerationWithPiGemma"]
    real_expert = module.PiGemmaForCausalLM

    def get_gemma_config(variant):
        is_expert = variant == "gemma_300m"
        return module.GemmaConfig(
            width=arch.expert_width if is_expert else arch.width, depth=arch.depth,
            mlp_dim=arch.expert_mlp if is_expert else arch.mlp,
            num_heads=arch.heads, num_kv_heads=arch.kv_heads, head_dim=arch.head_dim)

    def vlm(config):
        v, t = config.vision_config, config.text_config
        v.hidden_size, v.num_hidden_layers, v.num_attention_heads = arch.vision_width, arch.vision_layers, arch.vision_heads
        v.intermediate_size, v.patch_size, v.image_size = arch.vision_mlp, arch.patch_size, arch.image_size
        v.projection_dim = config.projection_dim = config.hidden_size = arch.width
        t.vocab_size = config.vocab_size = config._vocab_size = config.image_token_index = arch.vocab_size
        t.num_image_tokens = (arch.image_size // arch.patch_size) ** 2
        return real(config=config)

    def action_expert(config):
        config.vocab_size = arch.vocab_size
        return real_expert(config=config)

    module.get_gemma_config = get_gemma_config
    module.PaliGemmaForConditionalGenerationWithPiGemma = vlm
    module.PiGemmaForCausalLM = action_expert
    try:
        yield module
    finally:
        module.PiGemmaForCausalLM = real_expert
        for name, value in saved.items():
            setattr(module, name, value)


def make_config(model: str, arch: Arch):
    """lerobot's configuration. π0 has absolute actions; π0.5's are relative to the state, but for the lift's."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.pi0.configuration_pi0 import PI0Config
    from lerobot.policies.pi05.configuration_pi05 import PI05Config

    config = (PI05Config if model == "pi05" else PI0Config)(
        dtype="float32", device="cpu", push_to_hub=False, chunk_size=arch.chunk_size, n_action_steps=8,
        max_state_dim=arch.max_state_dim, max_action_dim=arch.max_action_dim, num_inference_steps=arch.num_inference_steps,
        image_resolution=(arch.image_size, arch.image_size), tokenizer_max_length=arch.tokenizer_max_length,
        use_relative_actions=model == "pi05", relative_exclude_joints=["lift"], action_feature_names=list(arm.JOINTS))
    size = arch.image_size
    config.input_features = {
        f"observation.images.{camera}": PolicyFeature(type=FeatureType.VISUAL, shape=(3, size, size)) for camera in CAMERAS}
    config.input_features["observation.state"] = PolicyFeature(type=FeatureType.STATE, shape=(arch.state_dim,))
    config.output_features = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(arch.action_dim,))}
    return config


def build(model: str, arch: Arch):
    """A policy with lerobot's initial weights."""
    with sizes(arch, model) as module:
        return getattr(module, "PI05Policy" if model == "pi05" else "PI0Policy")(make_config(model, arch))


@torch.no_grad()
def initialize(policy, arch: Arch, seed: int) -> None:
    """Initial weights for a small model that learns from nothing: lerobot's are meant for fine-tuning a large one."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in policy.named_parameters():
        if "norm.dense" in name:
            # adaRMS: rows are scale, shift, gate. Gates start at 1, so that all layers take part.
            if p.ndim == 2:
                p.normal_(0.0, 0.02, generator=generator)
            else:
                p.zero_()
                p[2 * len(p) // 3 :] = 1.0
            continue
        if "layernorm" in name or "layer_norm" in name or name.endswith("norm.weight"):
            siglip = "vision_tower" in name and name.endswith("weight")
            p.fill_(1.0 if siglip else 0.0)
            continue
        if p.ndim == 1:
            p.zero_()
            continue
        if name.endswith("position_embedding.weight"):
            p.normal_(0.0, 0.5, generator=generator)
            continue
        if "embed_tokens" in name or "lm_head" in name:
            p.normal_(0.0, 1.0 / math.sqrt(p.shape[1]), generator=generator)
            continue
        gain = 1.0
        if any(part in name for part in ("out_proj", "o_proj", "fc2", "down_proj")):
            gain = 1.0 / math.sqrt(2.0 * (arch.vision_layers if "vision_tower" in name else arch.depth))
        if name.endswith("action_out_proj.weight"):
            gain = 0.1
        p.normal_(0.0, gain / math.sqrt(p[0].numel()), generator=generator)
    _smooth_numbers(policy, generator)


def _smooth_numbers(policy, generator) -> None:
    """Starts with similar embeddings for similar numbers: sines and cosines of a few periods, at random angles."""
    table = policy.model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight
    width = table.shape[1]
    periods = 1024.0 * 2.0 ** -torch.arange(0, 6, dtype=torch.float32)
    mixing = torch.randn(2 * len(periods), width, generator=generator) / math.sqrt(len(periods) * width)
    for token, index in tokens.tokenizer().get_vocab().items():
        number = tokens.number_of(token)
        if number is not None:
            angles = 2.0 * math.pi * number / periods
            table[index] = torch.cat([angles.sin(), angles.cos()]) @ mixing


@contextlib.contextmanager
def local_tokenizer():
    """Within it, lerobot finds this project's tokenizer under the name of PaliGemma's."""
    import lerobot.processor.tokenizer_processor as module

    class Local:
        @staticmethod
        def from_pretrained(_name, **_):
            return tokens.tokenizer()

    real, module.AutoTokenizer = module.AutoTokenizer, Local
    try:
        yield
    finally:
        module.AutoTokenizer = real


def make_processors(model: str, config, statistics: dict):
    """lerobot's own pre- and postprocessor."""
    from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
    from lerobot.policies.pi05.processor_pi05 import make_pi05_pre_post_processors

    with local_tokenizer():
        return (make_pi05_pre_post_processors if model == "pi05" else make_pi0_pre_post_processors)(config, statistics)


def save(directory: pathlib.Path, model: str, arch: Arch, policy, pre, post) -> None:
    """Writes a lerobot checkpoint in bf16, with the tokenizer, arch.json and pi0rt's profile beside the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    vlm = policy.model.paligemma_with_expert.paligemma
    with torch.no_grad():
        vlm.lm_head.weight.copy_(vlm.model.language_model.embed_tokens.weight)  # as in Gemma
        policy.model.paligemma_with_expert.gemma_expert.lm_head.weight.zero_()  # nobody uses it
    policy.save_pretrained(directory)
    path = directory / "model.safetensors"
    save_file({name: t.to(torch.bfloat16).contiguous() for name, t in load_file(path).items()}, path, {"format": "pt"})
    path.chmod(0o644)
    pre.save_pretrained(directory)
    post.save_pretrained(directory)
    tokens.tokenizer().backend_tokenizer.save(str(directory / "tokenizer.json"))
    declared = {"model": model} if model == "pi05" else {}
    (directory / "arch.json").write_text(json.dumps({**declared, **dataclasses.asdict(arch)}, indent=1) + "\n")
    (directory / "pi0rt.toml").write_text(profile())
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)


def load(directory: pathlib.Path):
    """(model, arch, policy, preprocessor, postprocessor) of a checkpoint, read by lerobot's own code."""
    from lerobot.policies.factory import make_pre_post_processors

    values = json.loads((directory / "arch.json").read_text())
    model = values.pop("model", "pi0")
    arch = Arch(**values)
    policy = build(model, arch)
    missing = set(policy.state_dict()) - set(load_file(directory / "model.safetensors"))
    if missing:
        raise ValueError(f"{directory}: model.safetensors lacks {sorted(missing)[:3]}")
    policy.load_state_dict(load_file(directory / "model.safetensors"))
    with local_tokenizer():
        pre, post = make_pre_post_processors(policy.config, pretrained_path=str(directory))
    return model, arch, policy.eval(), pre, post


def profile() -> str:
    """pi0rt's profile: what lerobot's files don't tell of the robot.

    Commands may lie a little beyond what demonstrations command, which goes up to the arm's own limits: a policy is
    not exact, and the arm stops at these itself.
    """
    units = ("rad", "rad", "rad", "m")
    beyond = (0.02, 0.02, 0.02, 0.008)
    lines = ['summary = "the simulated arm of training/"', f"rate_hz = {expert.RATE_HZ}", "execution_horizon = 8"]
    for section in ("state", "action"):
        for i, name in enumerate(arm.JOINTS):
            lines += ["", f"[[{section}.dimensions]]", f'names = ["{name}"]', 'quantity = "position"', f'unit = "{units[i]}"',
                      f"position = [{arm.LOW[i] - beyond[i]:.3f}, {arm.HIGH[i] + beyond[i]:.3f}]"]
            if section == "action":
                lines += [f"velocity = {arm.SPEED[i]}", f"acceleration = {arm.ACCELERATION[i]}"]
    return "\n".join(lines) + "\n"
