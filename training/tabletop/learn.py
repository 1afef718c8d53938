"""The training loss: flow matching through lerobot's modules, and two auxiliary losses that are dropped afterwards.

Attention is lerobot's joint pass over prefix and suffix. The prefix is the expensive part, so each observation gets several
suffixes in the same pass, with noise of their own; the mask keeps them from seeing one another. With one suffix the
velocity is that of `PI0Policy.forward` (tests/test_learn.py).
"""

import torch
import torch.nn.functional as F
from torch import nn

# Layer whose input the auxiliary head reads: later layers are left to act on what it says.
GROUNDED_AT = 2


class Auxiliary(nn.Module):
    """What the prefix is made to know early on: where blocks are, and which one is meant.

    From each camera's tokens, the place of the block of each colour (front: on the table; wrist: beside the tool). From the
    prompt's last token, the place of the block that the instruction is about, on the table and beside the tool, and rows
    of the demonstrated chunk.
    """

    ROWS = (3, 11, 23)

    def __init__(self, arch):
        super().__init__()
        patches = (arch.image_size // arch.patch_size) ** 2
        self.cameras = nn.ModuleList(nn.Linear(patches * arch.width, 8) for _ in range(2))
        self.text_norm = nn.LayerNorm(arch.width)
        self.text = nn.Linear(arch.width, 4 + 4 * len(self.ROWS))


def prefix(policy, images, tokens, masks):
    """Embeddings of prefixes: images [B, cameras, 3, S, S], tokens and masks [B, L, n]: L prompts for each observation.

    Returns (embeddings [B*L, N, D], valid [B*L, N], image tokens [B, cameras, P, D]).
    """
    model = policy.model.paligemma_with_expert
    b, cameras = images.shape[:2]
    prompts = tokens.shape[1]
    image_tokens = model.embed_image(images.flatten(0, 1)).unflatten(0, (b, cameras))
    text = model.embed_language_tokens(tokens.flatten(0, 1))
    shared = image_tokens.flatten(1, 2)[:, None].expand(b, prompts, -1, -1).flatten(0, 1)
    valid = torch.cat([torch.ones(shared.shape[:2], dtype=torch.bool), masks.flatten(0, 1)], dim=1)
    return torch.cat([shared, text], dim=1), valid, image_tokens


def suffixes(policy, is_pi05, state, noisy, time):
    """Embeddings of K suffixes: noisy [B, K, T, A] -> (embeddings [B, S, E], state tokens in S, adaRMS condition)."""
    model = policy.model
    b, k, rows, _ = noisy.shape
    flat, times = noisy.flatten(0, 1), time.repeat_interleave(k)
    if is_pi05:
        embedded = model.embed_suffix(flat, times)[0].unflatten(0, (b, k)).flatten(1, 2)
        return embedded, 0, model.embed_suffix(noisy[:, 0], time)[3]
    embedded = model.embed_suffix(state.repeat_interleave(k, 0), flat, times)[0].unflatten(0, (b, k))
    return torch.cat([embedded[:, 0, :1], embedded[:, :, 1:].flatten(1, 2)], dim=1), 1, None


def attention(valid, states, k, rows):
    """Mask [B, 1, N+S, N+S] (0 or -inf-like) and positions [B, N+S] of a prefix and K suffixes of `rows` actions."""
    b, n = valid.shape
    s = states + k * rows
    see = torch.zeros(b, n + s, n + s, dtype=torch.bool)
    see[:, :, :n] = valid[:, None, :]
    if states:
        see[:, n:, n] = True
    for i in range(k):
        block = slice(n + states + i * rows, n + states + (i + 1) * rows)
        see[:, block, block] = True
    count = valid.sum(1, keepdim=True)
    inside = torch.cat([torch.arange(states)] + [torch.arange(rows) + states] * k)
    positions = torch.cat([torch.cumsum(valid, 1) - 1, count + inside[None]], dim=1)
    return torch.where(see[:, None], 0.0, -2.3819763e38), positions


def velocity(policy, is_pi05, embedded, valid, state, noisy, time, grounded=None):
    """Velocities [B, K, T, A] of K suffixes; `grounded` gets the input of layer GROUNDED_AT."""
    k, rows = noisy.shape[1:3]
    suffix, states, condition = suffixes(policy, is_pi05, state, noisy, time)
    mask, positions = attention(valid, states, k, rows)
    model = policy.model.paligemma_with_expert
    handle = None
    if grounded is not None:
        norm = model.paligemma.model.language_model.layers[GROUNDED_AT].input_layernorm
        handle = norm.register_forward_pre_hook(lambda _m, args: grounded.append(args[0]))
    (_, out), _ = model.forward(
        attention_mask=mask, position_ids=positions, past_key_values=None, inputs_embeds=[embedded, suffix],
        use_cache=False, adarms_cond=[None, condition])
    if handle is not None:
        handle.remove()
    return policy.model.action_out_proj(out[:, states:]).unflatten(1, (k, rows))


def ground(policy, embedded, valid):
    """Input of layer GROUNDED_AT, by the prefix's first layers alone: all that the auxiliary losses need."""
    language = policy.model.paligemma_with_expert.paligemma.model.language_model
    mask, positions = attention(valid, 0, 0, 0)
    rotary = language.rotary_emb(embedded, positions)
    for layer in language.layers[:GROUNDED_AT]:
        embedded = layer(embedded, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    return embedded


def losses(policy, is_pi05, auxiliary, batch, noise=None, time=None):
    """(flow matching, places, grounding): means over a batch of B observations with L prompts each.

    batch: images [B, cameras, 3, S, S] in [-1, 1]; tokens, masks [B, L, n]; state [B, A]; chunks [B, L, T, A] (normalized and
    padded); places, beside [B, 4, 2] (NaN: not there); named [B, L, 4]: place on the table, place beside the tool.
    noise [B*L, K, T, A], time [B*L]; without them the first is 0, and costs nothing.
    """
    embedded, valid, image_tokens = prefix(policy, batch["images"], batch["tokens"], batch["masks"])
    prompts = batch["tokens"].shape[1]
    chunks = batch["chunks"].flatten(0, 1)
    if noise is None:
        flow = torch.zeros(())
        grounded = ground(policy, embedded, valid)
    else:
        t = time[:, None, None, None]
        noisy = t * noise + (1.0 - t) * chunks[:, None]
        inputs = []
        state = batch["state"].repeat_interleave(prompts, 0)
        v = velocity(policy, is_pi05, embedded, valid, state, noisy, time, inputs)
        flow = F.mse_loss(v, noise - chunks[:, None])
        grounded = inputs[0]

    places = 0.0
    for camera, key in enumerate(("places", "beside")):
        told = auxiliary.cameras[camera](image_tokens[:, camera].flatten(1)).unflatten(1, (4, 2))
        there = ~torch.isnan(batch[key])
        places = places + F.smooth_l1_loss(told[there], batch[key][there], beta=0.1)
    last = grounded[torch.arange(len(valid)), valid.sum(1) - 1]
    told = auxiliary.text(auxiliary.text_norm(last))
    named = F.smooth_l1_loss(told[:, :4], batch["named"].flatten(0, 1), beta=0.1)
    rows = chunks[:, list(Auxiliary.ROWS), :4]
    planned = F.smooth_l1_loss(told[:, 4:], rows.flatten(1), beta=0.1)
    return flow, places, named + planned
