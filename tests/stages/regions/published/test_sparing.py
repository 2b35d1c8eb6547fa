"""The region head with fewer multiplications says what torch and torchvision say of the plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import roi_pool

from stages.regions.published import backbone
from stages.regions.published.heads import RegionPool, Res5Head
from stages.regions.published.settings import FasterRCNN
from stages.regions.published.sparing import Winograd, distinct
from tests.stages.regions.published.families import BUTD, D2_R101, VINVL_X152, Family
from tests.stages.regions.published.test_oracle import settings as settings_of

SEED = st.integers(0, 2**31)


@settings(deadline=None, max_examples=30)
@given(side=st.integers(1, 13), maps=st.integers(1, 3), inputs=st.integers(1, 40), outputs=st.integers(1, 9), seed=SEED)
def test_winograd_is_the_convolution(side: int, maps: int, inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)
    x = torch.randn(maps, inputs, side, side)
    wanted = conv.double()(x.double())
    got = Winograd(conv.float(), side)(x.permute(2, 3, 0, 1).flatten(0, 1).contiguous())
    got_NOSS = got.unflatten(0, (side, side)).permute(2, 3, 0, 1)
    assert (got_NOSS - wanted).abs().max() <= 2e-5 * x.abs().max()


@st.composite
def regions(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A map of two pictures, and boxes in it that lie on, between and far beyond the lines of its cells."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    lines = st.integers(0, 16 * 40).map(float) | st.floats(0, 16 * 40, width=32)
    box = st.tuples(st.integers(0, 1), lines, lines, lines, lines)
    rois = torch.tensor(draw(st.lists(box, min_size=1, max_size=12)))
    limits = torch.tensor([16.0 * width, 16.0 * height] * 2)
    rois[:, 1:] = torch.cat([torch.minimum(rois[:, 1:3], rois[:, 3:]), torch.maximum(rois[:, 1:3], rois[:, 3:])], dim=1)
    rois[:, 1:] = rois[:, 1:].minimum(limits)
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(draw(SEED))), rois


@settings(deadline=None)
@given(found=regions(), size=st.sampled_from([1, 7, 14]))
def test_cells_stored_once_are_roi_pools_to_the_bit(found: tuple[Tensor, Tensor], size: int) -> None:
    map_NMHW, rois_R5 = found
    cells = distinct(map_NMHW, rois_R5, size, roi_pool)
    assert torch.equal(cells.values_UM[cells.index_RSS].permute(0, 3, 1, 2), roi_pool(map_NMHW, rois_R5, size, 1 / 16))


def test_regions_that_overlap_share_their_cells() -> None:
    rois = torch.tensor([[0, 0, 0, 96, 96], [0, 16, 16, 112, 112]]).float()  # 7 × 7 cells of the map, moved by one
    assert len(distinct(torch.randn(1, 2, 12, 12), rois, 14, roi_pool).values_UM) == 2 * 49 - 36


@pytest.mark.parametrize(
    ("family", "less"), [(BUTD, True), (D2_R101, True), (VINVL_X152, False)], ids=["RoIPool", "RoIAlign", "groups"]
)
def test_a_sparing_head_gives_the_plain_ones_features(family: Family, less: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    entry: FasterRCNN = settings_of(family, tmp_path)
    head, pool = Res5Head(entry).requires_grad_(False).eval(), RegionPool(entry)
    for value in head.state_dict().values():
        value.add_(torch.rand_like(value) * 0.1)
    backbone.fold(head)
    rois = torch.cat([torch.zeros(90, 1), torch.rand(90, 2) * 80, 80 + torch.rand(90, 2) * 100], dim=1)
    maps = [torch.randn(1, 64, 12, 12)]
    plain, _ = head(pool(maps, rois))
    assert head.spare("cpu", "fp32") == less
    pool.once = less and head.roi_pool
    spared, _ = head(pool(maps, rois))
    assert (spared - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert plain.std(dim=0).max() > 1e-3 * plain.abs().max()  # regions differ, so that an exchange would be seen
