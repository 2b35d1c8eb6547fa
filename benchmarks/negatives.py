"""Claim: the exact search below a ceiling takes less time than sparse_dot_topn takes for its inexact top 64.

python -m benchmarks.negatives [--sizes 20000,50000] [--threads 1]

Both get the same TF-IDF vectors of the same made-up captions and one search each in this process; the compiled code
is warm. sparse_dot_topn cannot cut from above: its best 64 are taken and those at the ceiling or over are dropped,
which leaves some captions short. Where it is not installed, scikit-learn's brute force stands in, at small sizes only.
Times are processor time, so that another program on the machine does not decide the ratio.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_array, csr_matrix

from stages.negatives import Config
from stages.negatives.captions import table_of
from stages.negatives.inverted import Index, build
from stages.negatives.kernel import BLOCK
from stages.negatives.mining import Found, mine_captions

Array = npt.NDArray[Any]

WORDS, STOP_WORDS, TOPICS = 40_000, 60, 500
BRUTE_SIZE = 20_000  # scikit-learn's neighbours take a minute at 50,000
TOP = 64  # what is asked of sparse_dot_topn for 30 below the ceiling


@dataclass(frozen=True)
class Line:
    """One size: processor seconds of both, and whether the result is that of brute force."""

    captions: int
    products: int  # Σ df²: multiplications that a search without pruning does
    build_s: float
    ours_s: float
    peer: str
    peer_s: float
    peer_short: float  # share of captions that the peer leaves short although negatives exist
    ours_short: float
    exact: bool


def made_up_captions(number: int, seed: int = 0) -> list[str]:
    """Captions of 6 to 14 words: a third stop words, the others by Zipf's law, half of them from the topic."""
    random = np.random.default_rng(seed)
    lengths = random.integers(6, 15, number)
    total = int(lengths.sum())
    topic = np.repeat(random.integers(0, TOPICS, number), lengths)
    rank = np.exp(random.random(total) * np.log(WORDS)).astype(np.int64)  # P(rank) ~ 1 / rank
    word = np.where(random.random(total) < 0.5, rank, (rank * 7919 + topic * 104_729) % WORDS)
    word = np.where(random.random(total) < 1 / 3, WORDS + random.integers(0, STOP_WORDS, total), word)
    names = np.array([f"w{number}" for number in range(WORDS + STOP_WORDS)])[word]
    ends = np.cumsum(lengths)
    return [" ".join(names[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def processor_time(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def matrix(index: Index) -> csr_array:
    vectors = index.postings
    shape = (len(vectors.starts) - 1, len(vectors.largest))
    arrays = (vectors.weights.astype(np.float32), vectors.terms.copy(), vectors.starts.astype(np.int32))
    return csr_array(arrays, shape=shape)


def peer(index: Index, config: Config, threads: int) -> tuple[str, float, float]:
    """(name, processor seconds, share of texts left short) of the peer's search."""
    vectors = csr_matrix(matrix(index))
    if importlib.util.find_spec("sparse_dot_topn"):
        library: Any = importlib.import_module("sparse_dot_topn")
        multiply = library.sp_matmul_topn
        other = csr_matrix(vectors.T)
        seconds, found = processor_time(
            lambda: multiply(vectors, other, top_n=TOP, threshold=config.floor, sort=True, n_threads=threads)
        )
        below = np.bincount(np.repeat(np.arange(vectors.shape[0]), np.diff(found.indptr)), found.data < config.ceiling)
        full = np.diff(found.indptr) == TOP  # the others have everything that there is
        return "sparse_dot_topn 64", seconds, float((full & (below < config.top_k)).mean())
    from sklearn.neighbors import NearestNeighbors

    most = min(TOP, vectors.shape[0])
    neighbours = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute", n_jobs=threads)
    seconds, (distances, _) = processor_time(lambda: neighbours.fit(vectors).kneighbors(vectors))
    return "scikit-learn 64", seconds, float(((distances > 1 - config.ceiling).sum(axis=1) < config.top_k).mean())


def is_exact(index: Index, found: Found, config: Config, sample: int = 200) -> bool:
    """Whether the negatives of some captions are those of brute force in float64, ids and order."""
    vectors = index.postings
    shape = (len(vectors.starts) - 1, len(vectors.largest))
    full = csr_array((vectors.weights, vectors.terms, vectors.starts), shape=shape)
    captions = index.captions
    asked = np.linspace(0, len(captions.documents) - 1, sample).astype(np.int64)
    cosines = (full[captions.documents[asked]] @ full.T).toarray().astype(np.float32)[:, captions.documents]
    ends = np.cumsum(found.counts)
    for row, caption in zip(cosines, asked, strict=True):
        other = (captions.images != captions.images[caption]) & (captions.documents != captions.documents[caption])
        allowed = np.flatnonzero(other & (row > config.floor) & (row < config.ceiling))
        best = allowed[np.lexsort((allowed, -row[allowed]))][: config.top_k]
        if best.tolist() != found.captions[ends[caption] - found.counts[caption] : ends[caption]].tolist():
            return False
    return True


def measure(size: int, threads: int, block: int) -> Line:
    config = Config()
    texts = made_up_captions(size)
    image_ids = pa.array([f"{number // 5:09d}" for number in range(size)])
    table = table_of(image_ids, np.arange(size) % 5, texts, [None] * size)
    build_s, index = processor_time(lambda: build(table, config))
    mine_captions(index, np.arange(1), config)  # compiles
    ours_s, found = processor_time(lambda: mine_captions(index, np.arange(size), config, threads, block))
    name, peer_s, peer_short = peer(index, config, threads)
    terms = np.diff(index.postings.posting_starts)
    return Line(
        captions=size,
        products=int((terms.astype(np.int64) ** 2).sum()),
        build_s=round(build_s, 2),
        ours_s=round(ours_s, 2),
        peer=name,
        peer_s=round(peer_s, 2),
        peer_short=round(peer_short, 4),
        ours_short=round(float((found.counts < config.top_k).mean()), 4),
        exact=is_exact(index, found, config),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="20000,50000", help="numbers of captions, with commas between")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--block", type=int, default=BLOCK, help="documents a block of the search")
    parser.add_argument("--json", action="store_true", help="one JSON list on standard output")
    arguments = parser.parse_args()
    lines = [measure(int(size), arguments.threads, arguments.block) for size in arguments.sizes.split(",")]
    if arguments.json:
        print(json.dumps([line.__dict__ for line in lines]))
        return 0
    for line in lines:
        print(
            f"{line.captions:>9,} captions: vectors and index {line.build_s} s, search {line.ours_s} s "
            f"({line.captions / line.ours_s:,.0f} captions/s, "
            f"{'equal to' if line.exact else 'NOT EQUAL TO'} brute force); "
            f"{line.peer} {line.peer_s} s, {line.peer_short:.1%} short by its cut; "
            f"ratio {line.peer_s / line.ours_s:.1f}×"
        )
    return 0 if all(line.exact for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
