"""Which card a worker gets."""

from __future__ import annotations

import pytest

from pipeline.cards import gpus, pick_gpu


def test_workers_share_out_the_cards_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    devices = gpus()
    assert devices == ["2", "5"]
    picked = []
    for rank in range(3):
        pick_gpu(rank, devices)
        picked.append(gpus())
    assert picked == [["2"], ["5"], ["2"]]


def test_no_card_may_be_used_where_none_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
