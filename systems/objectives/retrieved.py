"""Retrieved images as positives of a caption alone of objective cmcl (UNIMO, arXiv:2012.15409, section 3.2).

They come from column `neighbours` of the shards with the features of a few regions each. N retrieved images of a row,
G regions of all of these one after the other, S of the images that are there, of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pairloom.loader.batch import Batch, Example, RegionBatch, WordBatch, map_tensors
from pairloom.loader.row import Row
from pairloom.table import Array
from systems.units.regions import seven
from trainer.contract import Fusion

COLUMNS = ("neighbours", "neighbour_boxes", "neighbour_features", "neighbour_regions")
SIZES, BOXES, FEATURES = "retrieved_sizes", "retrieved_boxes", "retrieved_features"  # targets of a batch
Product = Callable[[Tensor, Tensor], Tensor]  # of (S, H) and (S, H): (S,)


def with_images(example: Example, row: Row, most: int, rng: np.random.Generator) -> Example:
    """The example with so many retrieved images at most, none twice, all alike likely.

    Targets: how many regions each has (N), 0 for one that is not there. Boxes (G, 7) and features (G, D).
    """
    sizes = np.array([one["num_regions"] for one in row.value("neighbours")], np.int64)
    ends = np.cumsum(sizes)
    there = np.flatnonzero(sizes)
    chosen = rng.choice(there, min(most, len(there)), replace=False) if len(there) else there
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(ends[n] - sizes[n], ends[n]) for n in chosen)])
    counts: Array = np.zeros(most, np.int64)
    counts[: len(chosen)] = sizes[chosen]
    boxes_G7 = seven(row.numbers("neighbour_boxes")[rows], 1, 1)
    features_GD = row.numbers("neighbour_features")[rows]
    return example.with_targets(**{SIZES: counts, BOXES: boxes_G7, FEATURES: features_GD})


def image_scores(model: Fusion, batch: Batch, nothing: WordBatch, product: Product) -> Tensor:
    """(B, N): each row's caption without an image times each retrieved image without a text, −∞ where there is none.

    nothing: an empty text for each row.
    """
    assert batch.regions is not None
    sizes_BN = batch.targets[SIZES]
    rows_S, places_S = sizes_BN.nonzero(as_tuple=True)  # only what is there costs a pass
    nowhere_BN = torch.full(sizes_BN.shape, -torch.inf, device=sizes_BN.device)
    if not len(rows_S):
        return nowhere_BN
    texts, number_S = rows_S.unique(return_inverse=True)
    bare = replace(batch, targets={}, others=None)
    unseen = replace(bare, regions=map_tensors(batch.regions, lambda tensor: tensor[:, :0]))
    texts_SH = model(unseen.take(texts)).pooled_BH[number_S]
    shown = replace(bare, regions=None, words=nothing).take(rows_S)
    images_SH = model(replace(shown, regions=_regions(batch, rows_S, places_S))).pooled_BH
    scores_S = product(images_SH, texts_SH)
    return nowhere_BN.to(scores_S.dtype).index_put((rows_S, places_S), scores_S)


def _regions(batch: Batch, rows_S: Tensor, places_S: Tensor) -> RegionBatch:
    """Of the retrieved images at these places of these rows."""
    sizes_BN, boxes_BG7 = batch.targets[SIZES], batch.targets[BOXES]
    sizes_S = sizes_BN[rows_S, places_S]
    starts_S = sizes_BN.cumsum(dim=1)[rows_S, places_S] - sizes_S
    numbers_R = torch.arange(int(sizes_S.max()), device=sizes_S.device)
    mask_SR = numbers_R < sizes_S[:, None]
    here_SR = (starts_S[:, None] + numbers_R).clamp(max=boxes_BG7.shape[1] - 1)
    features_SRD, boxes_SR7 = (
        batch.targets[name][rows_S[:, None], here_SR].masked_fill(~mask_SR[..., None], 0) for name in (FEATURES, BOXES)
    )
    return RegionBatch(features_SRD, boxes_SR7, mask_SR, torch.zeros_like(mask_SR))
