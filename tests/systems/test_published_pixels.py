"""Files as transformers, timm and open_clip write them start models here, and give those libraries' own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pairloom.errors import ConfigError
from systems import recipes
from systems.layouts.pixels import align
from tests.systems.test_pixels import batch_of, tiny
from trainer import checkpoint
from trainer.contract import Shapes
from trainer.learner import Learner
from trainer.published import place
from trainer.weight_files import read

IDS = torch.tensor([[2, 7, 8, 3]])


def drawn(model: Any) -> Any:
    """The model with no constant left at its start: norms, biases and tokens are drawn, too."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def saved(model: Any, folder: Path) -> dict[str, Tensor]:
    """What lies in the folder that transformers writes, which need not be named as the model in memory is."""
    model.save_pretrained(folder)
    return read(folder)


def vit(learner: Any) -> Any:
    from transformers import ViTModel

    return drawn(ViTModel(learner.model.vit.config, use_mask_token=True))


def test_a_vit_that_transformers_saved_gives_its_outputs(tmp_path: Path) -> None:
    learner: Any = tiny("vit")
    theirs = vit(learner)
    placed = learner.load_published(saved(theirs, tmp_path))
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(IDS)
    torch.testing.assert_close(learner.model(batch).pooled_BH, theirs(batch.pixels_B3SS).pooler_output)


def test_the_names_in_memory_are_known_too() -> None:
    learner: Any = tiny("vit")
    theirs = vit(learner)
    assert learner.load_published(theirs.state_dict()).missing == ()
    batch = batch_of(IDS)
    torch.testing.assert_close(learner.model(batch).pooled_BH, theirs(batch.pixels_B3SS).pooler_output)


def timm_vit(learner: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    config = learner.model.vit.config
    return VisionTransformer(
        img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.hidden_size,
        depth=config.num_hidden_layers, num_heads=config.num_attention_heads,
        mlp_ratio=config.intermediate_size / config.hidden_size, num_classes=7,
    ).eval()  # fmt: skip


def test_a_vit_of_timm_gives_its_features_but_lacks_the_hidden_layer_of_pre_training(tmp_path: Path) -> None:
    learner: Any = tiny("vit")
    theirs = drawn(timm_vit(learner))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    state = read(tmp_path / "vit.pth")
    with pytest.raises(ConfigError, match=r"lack 2 tensors: model\.vit\.pooler\.dense\.weight"):
        learner.load_published(state)
    learner.load_published(state, partial=True)
    batch = batch_of(IDS)
    wanted = theirs.forward_features(batch.pixels_B3SS)[:, 1:]
    torch.testing.assert_close(learner.model(batch).units_BUH, wanted, rtol=1e-4, atol=1e-4)


def test_a_vit_of_its_authors_gives_what_timm_makes_of_the_file(tmp_path: Path) -> None:
    learner: Any = tiny("vit")
    config = learner.model.vit.config
    width, heads, wide, patch = config.hidden_size, config.num_attention_heads, config.intermediate_size, 8
    cells = (config.image_size // patch) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, width), "embedding/kernel": (patch, patch, 3, width), "embedding/bias": (width,),
        "Transformer/posembed_input/pos_embedding": (1, cells + 1, width),
        "Transformer/encoder_norm/scale": (width,), "Transformer/encoder_norm/bias": (width,),
        "pre_logits/kernel": (width, width), "pre_logits/bias": (width,),
        "head/kernel": (width, 7), "head/bias": (7,),
    }  # fmt: skip
    for number in range(config.num_hidden_layers):
        block = f"Transformer/encoderblock_{number}/"
        for name in ("query", "key", "value"):
            shapes[f"{block}MultiHeadDotProductAttention_1/{name}/kernel"] = (width, heads, width // heads)
            shapes[f"{block}MultiHeadDotProductAttention_1/{name}/bias"] = (heads, width // heads)
        shapes[f"{block}MultiHeadDotProductAttention_1/out/kernel"] = (heads, width // heads, width)
        shapes[f"{block}MultiHeadDotProductAttention_1/out/bias"] = (width,)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}{norm}/scale": (width,), f"{block}{norm}/bias": (width,)}
        for name, given, wanted in (("Dense_0", width, wide), ("Dense_1", wide, width)):
            shapes[f"{block}MlpBlock_3/{name}/kernel"] = (given, wanted)
            shapes[f"{block}MlpBlock_3/{name}/bias"] = (wanted,)
    random = np.random.default_rng(3)
    arrays: dict[str, Any] = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "vit.npz", **arrays)
    theirs = timm_vit(learner)
    theirs.load_pretrained(str(tmp_path / "vit.npz"))
    placed = learner.load_published(read(tmp_path / "vit.npz"))
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(IDS)
    features = theirs.forward_features(batch.pixels_B3SS)
    found = learner.model(batch)
    torch.testing.assert_close(found.units_BUH, features[:, 1:], rtol=1e-4, atol=1e-4)
    hidden = features[:, 0] @ torch.tensor(arrays["pre_logits/kernel"]) + torch.tensor(arrays["pre_logits/bias"])
    torch.testing.assert_close(found.pooled_BH, hidden.tanh(), rtol=1e-4, atol=1e-4)


def test_a_vilt_that_transformers_saved_gives_its_words_with_the_bias_that_transformers_reads(tmp_path: Path) -> None:
    from transformers import ViltForMaskedLM

    learner: Any = tiny("vilt")
    theirs: Any = drawn(ViltForMaskedLM(learner.model.vilt.config))
    with torch.no_grad():
        theirs.mlm_score.decoder.bias.normal_()
    placed = learner.load_published(saved(theirs, tmp_path))
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(IDS)
    wanted = theirs(input_ids=IDS, pixel_values=batch.pixels_B3SS).logits
    found = learner.heads["mlm"](learner.model(batch).words_BTH, learner.model.word_weight)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_vilt_model_alone_starts_all_but_the_heads(tmp_path: Path) -> None:
    from transformers import ViltModel

    learner: Any = tiny("vilt")
    theirs: Any = drawn(ViltModel(learner.model.vilt.config))
    placed = learner.load_published(saved(theirs, tmp_path))
    assert placed.missing == ()
    assert not [name for name in placed.tensors if name.startswith("heads.")]
    batch = batch_of(IDS)
    wanted = theirs(input_ids=IDS, pixel_values=batch.pixels_B3SS).pooler_output
    torch.testing.assert_close(learner.model(batch).pooled_BH, wanted, rtol=1e-4, atol=1e-4)


def test_the_authors_vilt_is_the_same_model_by_timms_names() -> None:
    """Its words by transformers' names, its patches and layers by timm's, and a match is 1, as here."""
    learner: Any = tiny("vilt")
    drawn(learner)
    own = learner.state_dict()
    state = {
        f"text_embeddings.{name}": own[f"model.vilt.embeddings.text_embeddings.{name}"]
        for name in ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight",
                     "LayerNorm.weight", "LayerNorm.bias")
    }  # fmt: skip
    state["token_type_embeddings.weight"] = own["model.vilt.embeddings.token_type_embeddings.weight"]
    state["transformer.cls_token"] = own["model.vilt.embeddings.cls_token"]
    state["transformer.pos_embed"] = own["model.vilt.embeddings.position_embeddings"]
    for part in ("weight", "bias"):
        state |= {
            f"transformer.patch_embed.proj.{part}": own[f"model.vilt.embeddings.patch_embeddings.projection.{part}"],
            f"transformer.norm.{part}": own[f"model.vilt.layernorm.{part}"],
            f"pooler.dense.{part}": own[f"model.vilt.pooler.dense.{part}"],
            f"itm_score.fc.{part}": own[f"heads.itm.{part}"],
            f"mlm_score.transform.dense.{part}": own[f"heads.mlm.transform.0.{part}"],
            f"mlm_score.transform.LayerNorm.{part}": own[f"heads.mlm.transform.2.{part}"],
        }
        for number in range(2):
            ours, theirs = f"model.vilt.encoder.layer.{number}.", f"transformer.blocks.{number}."
            three = [own[f"{ours}attention.attention.{name}.{part}"] for name in ("query", "key", "value")]
            state |= {
                f"{theirs}attn.qkv.{part}": torch.cat(three),
                f"{theirs}attn.proj.{part}": own[f"{ours}attention.output.dense.{part}"],
                f"{theirs}norm1.{part}": own[f"{ours}layernorm_before.{part}"],
                f"{theirs}norm2.{part}": own[f"{ours}layernorm_after.{part}"],
                f"{theirs}mlp.fc1.{part}": own[f"{ours}intermediate.dense.{part}"],
                f"{theirs}mlp.fc2.{part}": own[f"{ours}output.dense.{part}"],
            }
    state["mlm_score.bias"] = own["heads.mlm.bias_V"]
    state["mlm_score.decoder.weight"] = own["model.vilt.embeddings.text_embeddings.word_embeddings.weight"]
    fresh = tiny("vilt")
    placed = fresh.load_published(state)
    assert (placed.missing, placed.left_over) == ((), ())
    found = fresh.state_dict()
    assert all(torch.equal(found[name], value) for name, value in own.items() if value.is_floating_point())


@pytest.mark.parametrize("source", ["transformers", "timm"])
def test_a_vit_starts_the_patches_and_layers_of_a_vilt(source: str, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    learner: Any = tiny("vilt")
    config = learner.model.vilt.config
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
    theirs = drawn(ViTModel(ViTConfig(**{name: getattr(config, name) for name in names})))
    if source == "transformers":
        state = saved(theirs, tmp_path)
    else:
        learner.model.vit = theirs  # only to say its sizes
        theirs = drawn(timm_vit(learner))
        del learner.model.vit
        state = theirs.state_dict()
    placed = learner.load_published(state)
    assert placed.missing == ()
    encoder = learner.model.vilt.encoder
    hidden = torch.randn(2, 5, config.hidden_size)
    if source == "transformers":
        wanted = hidden
        for layer in theirs.layers:
            wanted = layer(wanted, None)
    else:
        wanted = theirs.blocks(hidden)
    torch.testing.assert_close(encoder(hidden)[0], wanted, rtol=1e-4, atol=1e-4)


def clip_learner() -> Any:
    vision = {"hidden": 64, "layers": 1, "heads": 2, "feed_forward": 128}
    return tiny("clip", dual_encoder={"backbone": None, "patch": 16, "vision": vision})


def test_a_clip_that_transformers_saved_gives_its_features(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    learner = clip_learner()
    theirs: Any = drawn(CLIPModel(CLIPConfig(**learner.model.clip.config.to_dict())))
    placed = learner.load_published(saved(theirs, tmp_path))
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(torch.tensor([[2, 7, 8, 49]]))
    wanted = theirs.get_image_features(batch.pixels_B3SS).pooler_output
    torch.testing.assert_close(learner.model.images(batch), F.normalize(wanted, dim=-1))
    torch.testing.assert_close(learner.heads["contrastive"].value, theirs.logit_scale)
    wanted = theirs.get_text_features(batch.words.input_ids_BT).pooler_output
    torch.testing.assert_close(learner.model.texts(batch), F.normalize(wanted, dim=-1))


def test_a_clip_of_open_clip_gives_its_features() -> None:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    learner = clip_learner()
    text = learner.model.clip.config.text_config
    vision = CLIPVisionCfg(layers=1, width=64, head_width=32, mlp_ratio=2.0, patch_size=16, image_size=64)
    words = CLIPTextCfg(
        context_length=text.max_position_embeddings, vocab_size=50, width=text.hidden_size,
        heads=text.num_attention_heads, layers=text.num_hidden_layers,
        mlp_ratio=text.intermediate_size / text.hidden_size,
    )  # fmt: skip
    embedding = learner.model.clip.config.projection_dim
    theirs: Any = drawn(CLIP(embedding, vision, words, quick_gelu=True))
    placed = learner.load_published(theirs.state_dict())
    assert (placed.missing, placed.left_over) == ((), ())
    ids = torch.zeros(1, text.max_position_embeddings, dtype=torch.long)
    ids[0, :4] = torch.tensor([2, 7, 8, 49])  # 49 is the largest, where open_clip looks for the end
    batch = batch_of(torch.tensor([[2, 7, 8, 49]]))
    wanted = theirs.encode_image(batch.pixels_B3SS, normalize=True)
    torch.testing.assert_close(learner.model.images(batch), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        learner.model.texts(batch), theirs.encode_text(ids, normalize=True), rtol=1e-4, atol=1e-5
    )


def test_an_align_that_transformers_saved_gives_its_features(tmp_path: Path) -> None:
    from transformers import AlignConfig, AlignModel

    learner: Any = tiny("align")
    model = learner.model
    model.image_projection = torch.nn.Identity()  # transformers projects texts alone, to the picture's width
    width = 80
    model.projection = torch.nn.Linear(64, width)
    config = AlignConfig(
        text_config=model.text.config.to_dict(), vision_config=model.vision.config.to_dict(), projection_dim=width
    )
    theirs = AlignModel(config).eval()
    placed = learner.load_published(saved(theirs, tmp_path))
    assert (placed.missing, placed.left_over) == ((), ())
    batch = batch_of(IDS)
    wanted = theirs.vision_model(batch.pixels_B3SS).pooler_output
    torch.testing.assert_close(model.images(batch), F.normalize(wanted, dim=-1), rtol=1e-4, atol=1e-5)
    wanted = theirs.get_text_features(batch.words.input_ids_BT).pooler_output
    torch.testing.assert_close(model.texts(batch), F.normalize(wanted, dim=-1), rtol=1e-4, atol=1e-5)


def test_the_align_that_can_be_had_fits_size_coyo_and_the_papers_is_larger() -> None:
    """transformers' default configuration is kakaobrain/align-base."""
    from transformers import AlignConfig, AlignModel

    with torch.device("meta"):
        theirs = AlignModel(AlignConfig()).state_dict()
        fits = {}
        for size in ("coyo", "base"):
            recipe = recipes.load("align", size)
            learner: Any = Learner(recipe, Shapes(recipe.text.vocab_size, image_size=289))
            own = learner.state_dict()
            placed = place(theirs, align(learner.heads), own)
            same = all(own[name].shape == value.shape for name, value in placed.tensors.items())
            fits[size] = same and all("num_batches_tracked" in name for name in placed.missing)
    assert fits == {"coyo": True, "base": False}


def test_what_a_file_gives_and_lacks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner: Any = tiny("vit")
    theirs = vit(learner)
    state = theirs.state_dict() | {"unheard.of": torch.zeros(1)}
    del state["layernorm.bias"]
    torch.save(state, tmp_path / "part.bin")
    with pytest.raises(ConfigError, match=r"model\.vit\.layernorm\.bias.*\n.*\n.*--init-partial"):
        checkpoint.load_published(learner, tmp_path / "part.bin")
    checkpoint.load_published(learner, tmp_path / "part.bin", partial=True)
    told = capsys.readouterr().err
    assert "gives model.vit (40 tensors)" in told
    assert "it lacks, so that they start at random: 1 tensors: model.vit.layernorm.bias" in told
    assert "it has no place here for 1 tensors: unheard.of" in told
