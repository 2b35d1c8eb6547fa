"""The contrastive loss against open_clip's, on 1, 2 and 4 ranks. CLIP's tokens against open_clip's."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from pairloom import Text
from pairloom.loader.tokenizer import load
from systems.objectives.contrastive import Head, Settings, between, info_nce

ROWS, WIDTH = 8, 6


def features() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, WIDTH, generator=generator), torch.randn(ROWS, WIDTH, generator=generator)


def layers() -> tuple[torch.nn.Linear, torch.nn.Linear, Head]:
    torch.manual_seed(1)
    head = Head(Settings(temperature=0.07, same_image="negative", max_scale=100))
    return torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH), head


def rank_loss(rank: int, ranks: int, theirs: bool) -> tuple[Tensor, list[Tensor]]:
    """The loss of this rank's rows, and the gradients of towers and scale, averaged over ranks as DDP does."""
    mine = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
    image_tower, text_tower, head = layers()
    images, texts = (part[mine] for part in features())
    image_BE, text_BE = F.normalize(image_tower(images), dim=-1), F.normalize(text_tower(texts), dim=-1)
    if theirs:
        from open_clip.loss import ClipLoss

        value = ClipLoss()(image_BE, text_BE, head())
    else:
        ids = tuple(number.to_bytes(16, "little") for number in range(ROWS))[mine]
        batch: Any = SimpleNamespace(image_ids=ids)
        settings = Settings(temperature=0.07, same_image="negative", max_scale=100)
        value = between(image_BE, text_BE, head, batch, settings).loss
    torch.autograd.backward(value)
    grads = [p.grad for part in (image_tower, text_tower, head) for p in part.parameters() if p.grad is not None]
    if ranks > 1:
        for grad in grads:
            distributed.all_reduce(grad)
            grad /= ranks
    return value.detach(), grads


def work(rank: int, ranks: int, port: int, out: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    loss, grads = rank_loss(rank, ranks, theirs=False)
    out.put((float(loss), [grad.tolist() for grad in grads]))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_loss_and_gradients_are_open_clips_on_any_number_of_ranks(ranks: int) -> None:
    pytest.importorskip("open_clip")
    whole_loss, whole_grads = rank_loss(0, 1, theirs=True)
    if ranks == 1:
        found = [rank_loss(0, 1, theirs=False)]
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        queue = context.SimpleQueue()
        workers = [context.Process(target=work, args=(rank, ranks, port, queue)) for rank in range(ranks)]
        for worker in workers:
            worker.start()
        sent = [queue.get() for _ in workers]
        found = [(torch.tensor(loss), [torch.tensor(grad) for grad in grads]) for loss, grads in sent]
        for worker in workers:
            worker.join()
    for loss, grads in found:
        torch.testing.assert_close(loss, whole_loss)
        torch.testing.assert_close(grads, whole_grads)


def test_aligns_loss_is_torchs_smoothed_cross_entropy_both_ways_added() -> None:
    logits, answers = torch.randn(5, 5), torch.arange(5)
    both = [F.cross_entropy(one, answers, label_smoothing=0.1) for one in (logits, logits.t())]
    torch.testing.assert_close(info_nce(logits, smoothing=0.1, reduction="sum"), both[0] + both[1])
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: info_nce(x, None, 0.1, "sum"), logits)


def test_what_is_ignored_takes_no_share_of_the_smoothing() -> None:
    logits, ignored = torch.randn(3, 3), torch.zeros(3, 3, dtype=torch.bool)
    ignored[0, 2] = ignored[2, 0] = True
    outer = [F.cross_entropy(x[0, :2], torch.tensor(0), label_smoothing=0.1) for x in (logits, logits.t())]
    inner = [F.cross_entropy(x[1], torch.tensor(1), label_smoothing=0.1) for x in (logits, logits.t())]
    last = [F.cross_entropy(x[2, 1:], torch.tensor(1), label_smoothing=0.1) for x in (logits, logits.t())]
    wanted = sum(outer + inner + last) / 6
    torch.testing.assert_close(info_nce(logits, ignored, 0.1), torch.as_tensor(wanted))


def test_the_scale_stays_between_1_and_its_largest_and_can_come_back() -> None:
    head = Head(Settings(temperature=0.07, same_image="ignore", max_scale=100))
    for start, wanted in ((9.0, 100.0), (-3.0, 1.0), (2.0, 7.389056)):
        with torch.no_grad():
            head.value.fill_(start)
        assert float(head().detach()) == pytest.approx(wanted)
        head.zero_grad()
        head().backward()
        assert head.value.grad is not None
        assert head.value.grad != 0


def test_a_learned_temperature_never_passes_zero_and_can_come_back() -> None:
    for largest, wanted in ((None, 1000.0), (100.0, 100.0)):
        head = Head(Settings(temperature=1.0, same_image="ignore", learned="temperature", max_scale=largest))
        with torch.no_grad():
            head.value.fill_(-0.2)
        scale = head()
        scale.backward()
        assert float(scale.detach()) == pytest.approx(wanted)
        assert head.value.grad is not None
        assert head.value.grad != 0


@pytest.mark.parametrize(
    "caption",
    [
        "a photo of a dog",
        "It's 1,234 DOGS!! don't…",
        "  two\n spaces ",
        "Número de cosas: 2 · 拖拉机（红色）",
        "’tis naïve 🐕",
        "",
    ],
)
def test_clips_own_vocabulary_gives_open_clips_tokens(caption: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    text = Text(tokenizer="byte_bpe", vocab_size=49408, lowercase=True, max_tokens=77)
    path = Path(open_clip.tokenizer.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    tokenizer = load(path, text)
    assert tokenizer.vocab_size == 49408
    theirs = open_clip.SimpleTokenizer()
    theirs.clean_fn = lambda given: " ".join(given.split()).lower()  # without ftfy, which is curate's
    wanted = theirs(caption)[0]
    assert tokenizer.words(caption).ids_T.tolist() == wanted[: int(wanted.argmax()) + 1].tolist()
