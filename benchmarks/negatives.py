"""Claim: exact hard negatives below a ceiling cost less than any library's inexact search for the nearest.

python -m benchmarks.negatives --sizes 100000,400000,1000000 [--text stop|content] [--queries 4000] [--threads 2]
python -m benchmarks.negatives --glosses                      real text: WordNet's glosses (Debian wordnet-base)
python -m benchmarks.negatives --sizes 100000,400000 --whole  every caption, with vectorising and writing

All search the same sample of queries among the same captions, each in a process of its own, compiled code warm. The
peers get the same TF-IDF vectors (bm25s and rank-bm25: the same words). None of them can cut from above:
sparse_dot_topn and bm25s are asked for 64, and the share is given of captions that this leaves short of 30 below the
ceiling. `accumulate` adds up all products in blocks that fit the cache and selects nothing: no search without pruning
can be faster. Ratios are of processor time, so that another program on the machine does not decide them. `exact`: 100
queries compared, ids and order, with brute force in float64.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from benchmarks.captions_text import glosses, made_up
from pairloom.store.writing import write_shard
from stages.negatives import Config
from stages.negatives.inverted import Index, build
from stages.negatives.mining import mine_captions
from stages.negatives.standalone import Mined

Array = npt.NDArray[Any]

TOP, CUT = 64, 200_000  # asked of the peers. Columns of a block of sparse_dot_topn
MOST = {"scikit-learn": 50_000, "rank-bm25": 10_000}  # captions. These take minutes beyond
PEERS = ("pairloom", "accumulate", "sparse_dot_topn", "sparse_dot_topn 200k", "scikit-learn")
BM25 = ("pairloom bm25", "bm25s", "rank-bm25")


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """(processor seconds, seconds, result)."""
    start, wall = time.process_time(), time.monotonic()
    result = work()
    return time.process_time() - start, time.monotonic() - wall, result


def matrix(index: Index) -> csr_matrix:
    (part,) = index.parts
    shape = len(part.postings.starts) - 1, index.scales.shape[1]
    arrays = part.postings.weights.astype(np.float32), part.postings.terms.copy(), part.postings.starts.copy()
    return csr_matrix(arrays, shape=shape)


@numba.njit(cache=True, nogil=True)
def accumulate(queries: tuple[Array, ...], postings: tuple[Array, ...], documents: int, block: int) -> float:
    """All products of the queries (CSR) with all documents (by term), block by block. Returns a checksum."""
    starts, terms, weights = queries
    ends, places, values = postings
    cursors = ends[:-1][terms]
    sums, total = np.zeros(block, np.float32), np.float32(0)
    for low in range(0, documents, block):
        for query in range(len(starts) - 1):
            for pair in range(starts[query], starts[query + 1]):
                at, last = cursors[pair], ends[terms[pair] + 1]
                while at < last and places[at] < low + block:
                    sums[places[at] - low] += weights[pair] * values[at]
                    at += 1
                cursors[pair] = at
            total += sums[query % block]
            # cleared only now and then: the limit shall be what adding costs, nothing else
        sums[:] = 0
    return float(total)


def search_vectors(name: str, index: Index, rows: Array, threads: int) -> tuple[float, float, float]:
    """(processor seconds, seconds, share left short) of a peer's search for these documents."""
    vectors = matrix(index)
    queries, columns = vectors[rows], csr_matrix(vectors.T)
    if name == "accumulate":
        given = queries.indptr.astype(np.int64), queries.indices, queries.data
        postings = columns.indptr.astype(np.int64), columns.indices, columns.data
        accumulate(given, postings, 1, 1 << 16)
        used, seconds, _ = timed(lambda: accumulate(given, postings, vectors.shape[0], 1 << 16))
        return used, seconds, 0.0
    if name == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=TOP, metric="cosine", algorithm="brute", n_jobs=threads).fit(vectors)
        used, seconds, (distances, _) = timed(lambda: search.kneighbors(queries))
        return used, seconds, float(((distances > 0.5).sum(axis=1) < 30).mean())
    import sparse_dot_topn as library

    options = {"top_n": TOP, "threshold": 0.0, "sort": True, "n_threads": threads}
    if name == "sparse_dot_topn":
        used, seconds, found = timed(lambda: library.sp_matmul_topn(queries, columns, **options))
    else:
        blocks = [columns[:, low : low + CUT].tocsr() for low in range(0, vectors.shape[0], CUT)]
        used, seconds, found = timed(
            lambda: library.zip_sp_matmul_topn(TOP, [library.sp_matmul_topn(queries, b, **options) for b in blocks])
        )
    below = np.bincount(np.repeat(np.arange(len(rows)), np.diff(found.indptr)), found.data < 0.5, minlength=len(rows))
    return used, seconds, float(((np.diff(found.indptr) == TOP) & (below < 30)).mean())


def search_words(name: str, texts: list[str], rows: Array, threads: int) -> tuple[float, float, float]:
    words = [text.split() for text in texts]
    asked = [words[row] for row in rows]
    if name == "rank-bm25":
        from rank_bm25 import BM25Okapi

        slow, asked = BM25Okapi(words), asked[: len(asked) // 20]  # it takes a minute for a thousand
        used, seconds, _ = timed(lambda: [np.argpartition(slow.get_scores(query), -TOP) for query in asked])
        return used * 20, seconds * 20, 0.0
    import bm25s

    fast = bm25s.BM25(backend="numba")
    fast.index(words, show_progress=False)
    fast.retrieve(asked[:2], k=TOP, show_progress=False, n_threads=threads)
    used, seconds, _ = timed(lambda: fast.retrieve(asked, k=TOP, show_progress=False, n_threads=threads))
    return used, seconds, 0.0


def is_exact(index: Index, rows: Array, config: Config) -> bool:
    """Whether the negatives of some captions are those of brute force in float64, ids and order."""
    (part,) = index.parts
    captions, postings = part.captions, part.postings
    shape = len(postings.starts) - 1, index.scales.shape[1]
    columns = csr_matrix(csr_matrix((postings.weights, postings.terms, postings.starts), shape=shape).T)
    asked = csr_matrix((part.query_weights, postings.terms, postings.starts), shape=shape)
    found = mine_captions(index, 0, rows, config)
    ends = np.cumsum(found.counts)
    for number, caption in enumerate(rows):
        row = (asked[[captions.documents[caption]]] @ columns).toarray()[0].astype(np.float32)[captions.documents]
        other = (captions.images != captions.images[caption]) & (captions.documents != captions.documents[caption])
        allowed = np.flatnonzero(other & (row > config.floor) & (row < config.ceiling))
        best = allowed[np.lexsort((allowed, -row[allowed]))][: config.top_k]
        mine = found.places[ends[number] - found.counts[number] : ends[number]]
        if not (best == mine).all() if len(best) == len(mine) else True:
            return False
    return True


def one(name: str, file: Path, queries: int, threads: int) -> dict[str, Any]:
    """One line of the table, measured in this process."""
    texts = pq.read_table(file)["caption"].combine_chunks()
    ids = pa.array([f"{number:09d}" for number in range(len(texts))])
    config = Config(scorer="bm25" if name in BM25 else "tfidf", against="caption", distinct=False)
    if name == "whole":
        return whole(ids, texts, config, threads)
    small = Mined.of_columns(ids[:100], texts[:100], pa.nulls(100, pa.string()), config)
    list(small.slices(1))  # compiles
    rows = np.linspace(0, len(texts) - 1, min(queries, len(texts))).astype(np.int64)
    facts: dict[str, Any] = {}
    peak = None
    if name in ("bm25s", "rank-bm25"):
        used, seconds, short = search_words(name, texts.to_pylist(), rows, threads)
    else:
        table = pa.table({"image_id": ids, "caption_index": pa.array(np.zeros(len(ids)), pa.uint16()), "text": texts})
        built, _, index = timed(lambda: build(table, config, part=len(table)))
        if name.startswith("pairloom"):
            used, seconds, found = timed(lambda: mine_captions(index, 0, rows, config, threads))
            short = float((found.counts < config.top_k).mean())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # brute force needs more than the search
            facts = {"index_s": round(built, 1), "exact": is_exact(index, rows[:: max(len(rows) // 100, 1)], config)}
        else:
            documents = index.parts[0].captions.documents[rows]
            used, seconds, short = search_vectors(name, index, documents, threads)
    memory = (peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
    return facts | {"queries": len(rows), "cpu_s": used, "wall_s": seconds, "short": short, "peak_mb": round(memory)}


def whole(ids: pa.Array, texts: pa.Array, config: Config, threads: int) -> dict[str, Any]:
    """Every caption, from its text to the written result."""
    with tempfile.TemporaryDirectory() as folder:
        langs = pa.nulls(len(texts), pa.string())
        index_cpu, index_wall, mined = timed(lambda: Mined.of_columns(ids, texts, langs, config))
        number, used, seconds, written = 0, 0.0, 0.0, 0.0
        slices = mined.slices(threads)
        while True:
            here_cpu, here_wall, table = timed(lambda: next(slices, None))
            if table is None:
                break
            used, seconds = used + here_cpu, seconds + here_wall
            _, wall, _ = timed(partial(write_shard, Path(folder), f"{number:05d}", table))
            written, number = written + wall, number + 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {"index_cpu_s": index_cpu, "index_wall_s": index_wall, "write_wall_s": written, "peak_mb": round(memory)}
    return facts | {"queries": len(texts), "cpu_s": used, "wall_s": seconds, "short": 0.0}


def measure(name: str, file: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.negatives", "--one", name, "--file", str(file)]
    command += ["--queries", str(arguments.queries), "--threads", str(arguments.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def compare(file: Path, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    names: tuple[str, ...] = ("whole",) if arguments.whole else (*PEERS, *BM25)
    if arguments.peers:
        names = tuple(name for name in names if name in ("pairloom", *arguments.peers.split(",")))
    for name in names:
        if size > MOST.get(name, size):
            continue
        facts = lines[name] = measure(name, file, arguments)
        if "error" in facts:
            print(f"  {name:22s} {facts['error']}")
            continue
        ours = lines.get("pairloom bm25" if name in BM25 else "pairloom", facts)
        ratio = facts["cpu_s"] / facts["queries"] / (ours["cpu_s"] / ours["queries"])
        rest = {key: round(value, 1) if isinstance(value, float) else value for key, value in facts.items()}
        extra = "".join(f", {key} {rest[key]}" for key in rest if key.endswith("_s") and key not in ("cpu_s", "wall_s"))
        exact = "" if "exact" not in facts else ", exact" if facts["exact"] else ", NOT EXACT"
        print(
            f"  {name:22s} {facts['queries'] / facts['wall_s']:>9,.0f} queries/s, {rest['cpu_s']:>7} s CPU, "
            f"{rest['wall_s']:>7} s, {rest['peak_mb']:>6,} MB, {facts['short']:.1%} short, {ratio:5.1f}×{extra}{exact}",
            flush=True,
        )
    return lines


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="20000,100000", help="numbers of captions, with commas between")
    parser.add_argument("--text", choices=["stop", "content"], default="stop", help="with stop words, or without")
    parser.add_argument("--glosses", action="store_true", help="WordNet's glosses instead of made-up captions")
    parser.add_argument("--whole", action="store_true", help="all captions, from text to files; no peers")
    parser.add_argument("--peers", help="some of them, with commas between")
    parser.add_argument("--queries", type=int, default=4000, help="captions that are searched for")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output at the end")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.file, arguments.queries, arguments.threads)))
        return 0
    results: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.parquet"
        real = glosses() if arguments.glosses else []
        for size in [len(real)] if arguments.glosses else [int(size) for size in arguments.sizes.split(",")]:
            texts = real or made_up(size, stop_words=arguments.text == "stop")
            pq.write_table(pa.table({"caption": pa.array(texts, pa.large_string())}), file)
            print(
                f"{size:,} captions, {'WordNet' if real else arguments.text}, {arguments.threads} threads", flush=True
            )
            results[size] = compare(file, size, arguments)
    name = "whole" if arguments.whole else "pairloom"
    good = [size for size in results if "error" not in results[size][name]]
    if len(good) > 1:
        seconds = [results[size][name]["cpu_s"] / results[size][name]["queries"] * size for size in good]
        print(f"search of all captions: CPU time ~ captions^{exponent(good, seconds):.2f}")
    if arguments.json:
        print(json.dumps(results))
    exact = [facts.get("exact", True) for lines in results.values() for facts in lines.values()]
    return 0 if all(exact) else 1


if __name__ == "__main__":
    sys.exit(main())
