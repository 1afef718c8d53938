"""The training loss is lerobot's, and checkpoints survive writing and reading."""

import numpy as np
import pytest
import torch

from tabletop import arm, demos, learn, policy, tokens, train
from tabletop.scene import TASKS


@pytest.fixture(scope="module")
def data():
    return demos.record(2, 31)


def built(model, data):
    arch = policy.arch_of(model)
    net = policy.build(model, arch)
    policy.initialize(net, arch, 1)
    pre, post = policy.make_processors(model, net.config, train.statistics(data, model == "pi05"))
    return arch, net, pre, post, train.prepare(model, arch, data, pre)


@pytest.mark.parametrize("model", policy.MODELS)
def test_loss_is_lerobots(model, data):
    arch, net, _, _, prepared = built(model, data)
    is_pi05 = model == "pi05"
    images = torch.from_numpy(data.images[:3]).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    tokens_, masks = prepared["tokens"][:3, :1], prepared["masks"][:3, :1]
    chunks, state = prepared["chunks"][:3, 0], prepared["state"][:3]
    generator = torch.Generator().manual_seed(5)
    noise, time = torch.randn(chunks.shape, generator=generator), torch.tensor([0.1, 0.5, 0.99])
    embedded, valid, _ = learn.prefix(net, images, tokens_, masks)
    noisy = time[:, None, None] * noise + (1 - time[:, None, None]) * chunks
    # A second suffix beside it must not change the first.
    other = torch.randn(chunks.shape, generator=generator)
    for k in ([noisy], [noisy, other]):
        v = learn.velocity(net, is_pi05, embedded, valid, state, torch.stack(k, 1), time)[:, 0]
        ours = (noise - chunks - v) ** 2
        cameras, present = [images[:, 0], images[:, 1]], [torch.ones(3, dtype=torch.bool)] * 2
        states = () if is_pi05 else (state,)
        theirs = net.model.forward(cameras, present, tokens_[:, 0], masks[:, 0], *states, chunks, noise, time)
        assert torch.allclose(ours, theirs, atol=2e-5), float((ours - theirs).abs().max())


@pytest.mark.parametrize("model", policy.MODELS)
def test_the_first_layers_alone_give_the_same_grounding(model, data):
    arch, net, _, _, prepared = built(model, data)
    batch = {key: value[:2] for key, value in prepared.items()}
    batch["images"] = torch.from_numpy(data.images[:2]).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    auxiliary = learn.Auxiliary(arch)
    noise, time = torch.randn(4, 1, arch.chunk_size, arch.max_action_dim), torch.full((4,), 0.5)
    flow, *whole = learn.losses(net, model == "pi05", auxiliary, batch, noise, time)
    none, *alone = learn.losses(net, model == "pi05", auxiliary, batch)
    assert flow > 0 and none == 0
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("model", policy.MODELS)
def test_checkpoints_survive(model, data, tmp_path):
    arch, net, pre, post, _ = built(model, data)
    policy.save(tmp_path, model, arch, net, pre, post)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 10_000_000
    name, read_arch, read, read_pre, read_post = policy.load(tmp_path)
    assert (name, read_arch) == (model, arch)
    for key, value in net.state_dict().items():
        assert torch.equal(value.to(torch.bfloat16).float(), read.state_dict()[key]), key
    observation = {f"observation.images.{c}": torch.rand(1, 3, 64, 64) for c in policy.CAMERAS}
    observation |= {"observation.state": torch.from_numpy(data.states[:1]), "task": ["reach the red block"]}
    batch = read_pre(dict(observation))
    noise = torch.zeros(1, arch.chunk_size, arch.max_action_dim)
    rows = read_post(read.predict_action_chunk(batch, noise=noise))
    assert rows.shape == (1, arch.chunk_size, 4) and torch.isfinite(rows).all()


def test_relative_actions_come_back(data):
    _, net, pre, post, prepared = built("pi05", data)
    assert [s.relative_step._build_mask(4) for s in post.steps if hasattr(s, "relative_step")] == [[True, True, True, False]]
    part = {"observation.state": torch.from_numpy(data.states[:4]), "task": ["x"] * 4}
    pre(part)
    rows = post(prepared["chunks"][:4, 0, :, :4])
    assert np.allclose(rows.numpy(), data.chunks[:4, 0], atol=1e-5)


def test_words_and_numbers_are_single_tokens():
    tokenizer = tokens.tokenizer()
    for task in TASKS:
        ids = tokenizer(task.text() + "\n")["input_ids"]
        assert len(ids) == len(task.text().split()) + 2
        assert tokenizer.decode(ids[1:]) == task.text() + "\n"
    text = "Task: push the blue block to the left, State: 0 17 255 -1;\nAction: "
    names = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    assert names[0] == "<bos>" and ["▁0", "▁17", "▁255", "▁-1"] == names[13:17] and names[-1] == "▁"
    assert len(names) == 22


def test_statistics_are_of_the_joints(data):
    told = train.statistics(data, False)["observation.state"]
    assert np.all(told["min"].numpy() >= np.array(arm.LOW) - 1e-5) and np.all(told["max"].numpy() <= np.array(arm.HIGH) + 1e-5)
