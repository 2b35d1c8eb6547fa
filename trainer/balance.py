"""How the losses of one step are added: with the recipe's own weights alone, or balanced by how large they are."""

from __future__ import annotations

from torch import Tensor


def adaptive(losses_K: Tensor) -> Tensor:
    """(K,) the weights of arXiv:2005.09801, as its authors' code has them (alibaba/EasyTransfer).

    g = softmax(losses)², w = 1 / (K − g), scaled to a sum of 1. A larger loss has a larger weight; with three losses
    each is within 2/7 and 3/7. A loss alone has 1. The weights carry a gradient, for the code stops none. The paper is
    said to minimise over weights given squared norms of gradients, of which the code knows nothing.
    """
    if len(losses_K) == 1:  # the formula divides 0 by 0
        return losses_K.new_ones(1)
    raised_K = 1 / (len(losses_K) - losses_K.softmax(dim=0).square())
    return raised_K / raised_K.sum()
