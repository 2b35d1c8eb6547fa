"""BERT and RoBERTa, as transformers saves them and as Google named BERT's norms, start every system that has words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pairloom.errors import ConfigError
from systems import recipes
from systems.layers import attention_bias, norm_eps_of
from systems.models.single_stream import embedded_words
from tests.systems.test_pixels import batch_of
from tests.systems.test_published_pixels import drawn, saved
from trainer.contract import Shapes
from trainer.learner import Learner
from trainer.weight_files import read

IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
SHAPES = {"feature_width": 16, "num_classes": 7, "num_attributes": 5, "image_size": 64, "answers": ("yes", "no")}
WHOLE = ("uniter", "villa", "oscar", "vinvl", "unimo", "pixelbert", "soho", "fashionbert", "kaleidobert", "mlim")


def learner_of(name: str) -> Any:
    torch.manual_seed(0)
    return Learner(recipes.load(name, "tiny"), Shapes(50, **SHAPES)).eval()  # type: ignore[arg-type]


def bert_of(learner: Learner, layers: int | None = None) -> Any:
    from transformers import BertConfig, BertForPreTraining

    settings: Any = learner.recipe.model.settings
    words = getattr(settings, "words", settings)
    config = BertConfig(
        vocab_size=50, hidden_size=words.hidden, num_hidden_layers=layers or words.layers,
        num_attention_heads=words.heads, intermediate_size=words.feed_forward,
        max_position_embeddings=settings.max_tokens, layer_norm_eps=norm_eps_of(learner.model),
    )  # fmt: skip
    return drawn(BertForPreTraining(config))


def as_google_named_it(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As bert-base-uncased's own file says it."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next((name.replace(old, new) for old, new in names.items() if name.endswith(old)), name): value
        for name, value in state.items()
    }


@pytest.mark.parametrize("name", WHOLE)
def test_berts_own_file_gives_its_hidden_states(name: str, tmp_path: Path) -> None:
    learner = learner_of(name)
    theirs = bert_of(learner)
    torch.save(as_google_named_it(theirs.state_dict()), tmp_path / "pytorch_model.bin")
    placed = learner.load_published(read(tmp_path))
    assert (placed.missing, placed.left_over) == ((), ())
    seen = (IDS != 0).long()
    wanted = theirs.bert(IDS, attention_mask=seen).last_hidden_state
    torch.testing.assert_close(learner.model.bert(IDS, attention_mask=seen).last_hidden_state, wanted)
    if "mlm" in learner.heads:
        found = learner.heads["mlm"](wanted, learner.model.word_weight)
        torch.testing.assert_close(found, theirs.cls.predictions(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_a_bert_without_prefix_or_pooler(kind: str, tmp_path: Path) -> None:
    import transformers

    learner = learner_of("uniter")
    theirs = drawn(getattr(transformers, kind)(bert_of(learner).config))
    state = saved(theirs, tmp_path)
    if kind == "BertModel":
        assert learner.load_published(state).missing == ()
        bert = theirs
    else:
        with pytest.raises(ConfigError, match=r"lack 2 tensors: model\.bert\.pooler"):
            learner.load_published(state)
        assert len(learner.load_published(state, partial=True).missing) == 2
        bert = theirs.bert
    torch.testing.assert_close(learner.model.bert(IDS).last_hidden_state, bert(IDS).last_hidden_state)


def test_other_heads_do_not_take_the_head_of_hidden_words() -> None:
    learner = learner_of("uniter")
    before = learner.state_dict()["heads.mrfr.transform.0.weight"].clone()
    learner.load_published(bert_of(learner).state_dict())
    assert torch.equal(learner.state_dict()["heads.mrfr.transform.0.weight"], before)


@pytest.mark.parametrize("name", ["vilbert", "interbert"])
def test_a_bert_starts_the_layers_that_read_words(name: str) -> None:
    """With no region to be seen, the words' layers one after the other are BERT."""
    learner = learner_of(name)
    model, settings = learner.model, learner.recipe.model.settings
    layers = [*model.word_layers] if name == "vilbert" else [*model.together, *model.words_alone]
    theirs = bert_of(learner, len(layers))
    placed = learner.load_published(theirs.state_dict())
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(IDS)
    hidden = embedded_words(model.embeddings, batch.words)
    for layer in layers:
        hidden = layer(hidden, attention_bias(IDS != 0, hidden.dtype))
    wanted = theirs.bert(IDS, attention_mask=(IDS != 0).long()).last_hidden_state
    torch.testing.assert_close(hidden[IDS != 0], wanted[IDS != 0])
    assert settings.max_tokens == len(model.embeddings.position_embeddings.weight)


def test_robertas_positions_start_at_2(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaForMaskedLM

    learner = learner_of("unimo")
    settings = learner.recipe.model.settings
    config = RobertaConfig(
        vocab_size=50, hidden_size=settings.hidden, num_hidden_layers=settings.layers, layer_norm_eps=1e-5,
        num_attention_heads=settings.heads, intermediate_size=settings.feed_forward, type_vocab_size=1,
        max_position_embeddings=settings.max_tokens, pad_token_id=1,
    )  # fmt: skip
    theirs: Any = drawn(RobertaForMaskedLM(config))
    state = saved(theirs, tmp_path)
    assert learner.load_published(state, partial=True).missing == (
        "model.bert.pooler.dense.weight", "model.bert.pooler.dense.bias",
    )  # fmt: skip
    ids = torch.tensor([[4, 7, 8, 9, 5]])
    wanted = theirs.roberta(ids).last_hidden_state
    torch.testing.assert_close(learner.model.bert(ids).last_hidden_state, wanted)
    found = learner.heads["mlm"](wanted, learner.model.word_weight)
    torch.testing.assert_close(found, theirs.lm_head(wanted), rtol=1e-4, atol=1e-4)
