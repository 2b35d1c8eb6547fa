"""BERT and RoBERTa, as transformers writes them, into a whole BertModel or into layers that stand alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, equal, nn

from trainer.published import Layout, Rule

EMBEDDINGS = r"(?:word|position|token_type)_embeddings\.weight|LayerNorm\.(?:weight|bias)"
KNOWN_ELSEWHERE = Rule(r"(?:.*\.)?(?:position_ids|decoder\.(?:weight|bias))", ())  # counted, or tied to the words


def words_heads(heads: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Names of the heads that predict words as BERT does."""
    return tuple(name for name, head in heads.items() if hasattr(head, "bias_V"))


def hidden_words(prefix: str, heads: Mapping[str, nn.Module], norm: str = "transform.LayerNorm") -> tuple[Rule, ...]:
    """BERT's head of hidden words, under this name, to every head that predicts words."""
    dense = norm.replace("LayerNorm", "dense").replace("layer_norm", "dense")
    names = words_heads(heads)
    return (
        Rule(rf"{prefix}{dense}\.(weight|bias)", tuple(rf"heads.{name}.transform.0.\1" for name in names)),
        Rule(rf"{prefix}{norm}\.(weight|bias)", tuple(rf"heads.{name}.transform.2.\1" for name in names)),
        Rule(rf"{prefix}bias", tuple(f"heads.{name}.bias_V" for name in names)),
        KNOWN_ELSEWHERE,
    )


def bert(heads: Mapping[str, nn.Module]) -> Layout:
    """BertModel, with or without `bert.`, BertForMaskedLM and BertForPreTraining."""
    rules = (
        Rule(rf"(?:bert\.)?(embeddings\.(?:{EMBEDDINGS})|encoder\..+|pooler\..+)", (r"model.bert.\1",)),
        Rule(r"cls\.seq_relationship\..+", ()),  # of two sentences
        *hidden_words(r"cls\.predictions\.", heads),
    )
    return Layout("BERT", r"(?:bert\.)?embeddings\.word_embeddings\.weight", rules, ("model.bert.",))


def _one_type(values: Sequence[Tensor]) -> Tensor | None:
    """RoBERTa has one type of word. None where both of ours have gone apart."""
    types = values[0]
    return types[:1] if equal(types[:1], types[1:]) else None


def roberta(heads: Mapping[str, nn.Module]) -> Layout:
    """RobertaModel and RobertaForMaskedLM. Its positions start at 2, and all words are of its one type."""
    embeddings = "model.bert.embeddings."
    rules = (
        Rule(r"roberta\.(embeddings\.(?:word_embeddings\.weight|LayerNorm\..+)|encoder\..+|pooler\..+)",
             (r"model.bert.\1",)),
        Rule(r"roberta\.embeddings\.position_embeddings\.weight",
             (f"{embeddings}position_embeddings.weight",), lambda value: value.roll(-2, 0),
             lambda values: values[0].roll(2, 0)),
        Rule(r"roberta\.embeddings\.token_type_embeddings\.weight",
             (f"{embeddings}token_type_embeddings.weight",), lambda value: value[:1].repeat(2, 1), _one_type),
        *hidden_words(r"lm_head\.", heads, "layer_norm"),
    )  # fmt: skip
    return Layout("RoBERTa", r"roberta\.embeddings\.word_embeddings\.weight", rules, ("model.bert.",))


def layers_of_words(first: int, heads: Mapping[str, nn.Module], layers: tuple[str, str]) -> Layout:
    """BERT into embeddings and two lists of layers, named `layers`, of which the first takes so many.

    Its pooler and the head of two sentences find no place.
    """
    below, above = layers
    rules = (
        Rule(rf"(?:bert\.)?embeddings\.({EMBEDDINGS})", (r"model.embeddings.\1",)),
        *numbered(r"(?:bert\.)?encoder\.layer", first, below, above),
        Rule(r"(?:bert\.)?pooler\..+|cls\.seq_relationship\..+", ()),
        *hidden_words(r"cls\.predictions\.", heads),
    )
    parts = ("model.embeddings.", f"{below}.", f"{above}.")
    return Layout("BERT", r"(?:bert\.)?embeddings\.word_embeddings\.weight", rules, parts)


def numbered(theirs: str, first: int, below: str, above: str) -> tuple[Rule, ...]:
    """Layers 0 to first − 1 to the list `below`, those after it to `above`, counted anew. At most 48 of them."""
    ours = [f"{below}.{number}" if number < first else f"{above}.{number - first}" for number in range(48)]
    return tuple(Rule(rf"{theirs}\.{number}\.(.+)", (rf"{name}.\1",)) for number, name in enumerate(ours))
