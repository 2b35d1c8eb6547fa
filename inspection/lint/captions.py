"""Lint, part 3: captions: none blank, none twice, no control characters, languages by their codes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inspection.columns import Numbers, flat_list
from inspection.lint.languages import is_language
from inspection.lint.shard import Shard

RAW = "download"  # the stage whose captions are still those of the list


def check_captions(shard: Shard) -> None:
    """Every image has one at least. What curate takes out is looked for only after it."""
    captions, rows = flat_list(shard.table["captions"])
    without = np.flatnonzero(np.bincount(rows, minlength=shard.table.num_rows) == 0)
    shard.bad("empty", without, lambda _: "the image has no caption")
    shard.texts("captions", captions, rows)
    if shard.made_by.get("stage") != RAW:
        _check_clean(shard, pc.struct_field(captions, "text"), rows)
        _check_doubled(shard, captions, rows)
        _check_languages(shard, pc.struct_field(captions, "lang"), rows)
    if captions.type.get_field_index("kind") >= 0:  # tables of pairloom 0.1.0 have none
        _check_kinds(shard, pc.struct_field(captions, "kind"), rows)


def _check_clean(shard: Shard, texts: pa.Array, rows: Numbers) -> None:
    bad = pc.indices_nonzero(pc.match_substring_regex(texts, r"\p{Cc}")).to_numpy()
    shard.bad("control", rows[bad], lambda i: f"a caption has a control character: {texts[bad[i]].as_py()[:60]!r}")


def _check_doubled(shard: Shard, captions: pa.Array, rows: Numbers) -> None:
    """The same text in the same language, as curate compares them."""
    texts, langs = (pc.struct_field(captions, name).dictionary_encode() for name in ("text", "lang"))
    spoken = langs.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    said = texts.indices.to_numpy(zero_copy_only=False).astype(np.int64) * (len(langs.dictionary) + 1) + spoken
    order = np.lexsort((said, rows))  # stable: the first of equal ones stays first
    again = np.sort(order[1:][(said[order][1:] == said[order][:-1]) & (rows[order][1:] == rows[order][:-1])])
    text = pc.struct_field(captions, "text")
    shard.bad("doubled", rows[again], lambda i: f"the image has a caption twice: {text[again[i]].as_py()[:60]!r}")


def _check_languages(shard: Shard, langs: pa.Array, rows: Numbers) -> None:
    unknown = [code for code in langs.unique().to_pylist() if code is not None and not is_language(code)]
    if unknown:
        bad = pc.indices_nonzero(pc.is_in(langs, pa.array(unknown, pa.string()))).to_numpy()
        whats = [f"{code!r} is no code of a language" for code in langs.take(pa.array(bad)).to_pylist()]
        fix = f"{shard.cure}. If the list says so, correct it there first"
        shard.findings.rows("language", shard.file, rows[bad], lambda i: whats[i], fix)


def _check_kinds(shard: Shard, kinds: pa.Array, rows: Numbers) -> None:
    """Recipes name kinds as they are written, so a kind that is written in two ways would be drawn as two."""
    words = [word for word in kinds.unique().to_pylist() if word is not None]
    counted = {item["values"]: item["counts"] for item in pc.value_counts(kinds).to_pylist()}
    usual: dict[str, str] = {}
    for word in sorted(words, key=lambda word: (-counted[word], word)):
        usual.setdefault(word.strip().casefold(), word.strip() or word)
    wrong = {word: usual[word.strip().casefold()] for word in words if word != usual[word.strip().casefold()]}
    wrong |= {word: "" for word in words if not word.strip()}
    bad = pc.indices_nonzero(pc.is_in(kinds, pa.array(list(wrong), pa.string()))).to_numpy()
    said = kinds.take(pa.array(bad)).to_pylist()
    fix = f"write it alike in the list or its `kinds`, then {shard.cure}"
    shard.findings.rows("kind", shard.file, rows[bad], lambda i: _kind_as_words(said[i], wrong[said[i]]), fix)


def _kind_as_words(word: str, usual: str) -> str:
    return f"the kind of a caption is {word!r}" + (f", of others {usual!r}" if usual else ", which is blank")
