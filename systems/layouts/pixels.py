"""The files of systems that see pixels: ViT (transformers, timm, the authors' .npz), ViLT, CLIP and ALIGN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from systems.layouts.bert import hidden_words
from trainer.published import Change, Layout, Rule

Names = Mapping[str, str]  # of a block's parts, the same in every table: query, key, value, out, norms, feed-forward

IN_MEMORY: Names = {
    "query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj", "out": "attention.o_proj",
    "before": "layernorm_before", "after": "layernorm_after", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip
IN_FILES: Names = {
    "query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value",
    "out": "attention.output.dense", "before": "layernorm_before", "after": "layernorm_after",
    "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip
TIMM: Names = {"out": "attn.proj", "before": "norm1", "after": "norm2", "up": "mlp.fc1", "down": "mlp.fc2"}
NPZ: Names = {
    "query": "MultiHeadDotProductAttention_1/query", "key": "MultiHeadDotProductAttention_1/key",
    "value": "MultiHeadDotProductAttention_1/value", "out": "MultiHeadDotProductAttention_1/out",
    "before": "LayerNorm_0", "after": "LayerNorm_2", "up": "MlpBlock_3/Dense_0", "down": "MlpBlock_3/Dense_1",
}  # fmt: skip


def _blocks(theirs: str, names: Names, ours: str, own: Names, written: bool = True) -> tuple[Rule, ...]:
    """theirs, ours: what stands before a part's name, with the block's number as the first group."""
    return tuple(
        Rule(rf"{theirs}{name}\.(weight|bias)", (rf"{ours}{own[part]}.\2",), written=written)
        for part, name in names.items()
    )


def _third(number: int) -> Change:
    """The number-th third of rows: query, key and value lie under each other."""
    return lambda value: value.chunk(3)[number]


def _under_each_other(thirds: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(thirds))


def _turned(values: Sequence[Tensor]) -> Tensor:
    return values[0].t()


def _one_for_three(theirs: str, ours: str, own: Names) -> tuple[Rule, ...]:
    return tuple(
        Rule(rf"{theirs}\.(weight|bias)", (rf"{ours}{own[part]}.\2",), _third(number), _under_each_other)
        for number, part in enumerate(("query", "key", "value"))
    )


def vits(to: str, blocks: str, own: Names, pooler: bool) -> tuple[Layout, ...]:
    r"""Layouts of a ViT into a model whose names begin with `to`.

    blocks: what stands before the parts of a block, with \1 for its number. pooler: whether the model needs one.
    """
    parts = ["embeddings.cls_token", "embeddings.position_embeddings", "embeddings.patch_embeddings."]
    parts += [blocks.partition(r"\1")[0], "layernorm.", *(["pooler."] if pooler else [])]
    due = tuple(to + part for part in parts)
    return (_hugging_face(to, to + blocks, own, due), _timm(to, to + blocks, own, due), _npz(to, to + blocks, own, due))


def _hugging_face(to: str, blocks: str, own: Names, due: tuple[str, ...]) -> Layout:
    outside = r"embeddings\.(?:cls_token|mask_token|position_embeddings|patch_embeddings\.projection\.(?:weight|bias))"
    rules = (
        Rule(rf"(?:vit\.)?({outside}|layernorm\..+|pooler\..+)", (rf"{to}\1",)),
        *_blocks(r"(?:vit\.)?encoder\.layer\.(\d+)\.", IN_FILES, blocks, own),
        *_blocks(r"(?:vit\.)?layers\.(\d+)\.", IN_MEMORY, blocks, own, written=False),
        Rule(r"classifier\..+", ()),
    )
    return Layout("ViT (transformers)", r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.weight", rules, due)


def _timm(to: str, blocks: str, own: Names, due: tuple[str, ...]) -> Layout:
    rules = (
        Rule(r"cls_token", (f"{to}embeddings.cls_token",)),
        Rule(r"pos_embed", (f"{to}embeddings.position_embeddings",)),
        Rule(r"patch_embed\.proj\.(.+)", (rf"{to}embeddings.patch_embeddings.projection.\1",)),
        Rule(r"norm\.(.+)", (rf"{to}layernorm.\1",)),
        Rule(r"pre_logits\.fc\.(.+)", (rf"{to}pooler.dense.\1",)),
        *_blocks(r"blocks\.(\d+)\.", TIMM, blocks, own),
        *_one_for_three(r"blocks\.(\d+)\.attn\.qkv", blocks, own),
        Rule(r"head\..+", ()),
    )
    return Layout("ViT (timm)", r"patch_embed\.proj\.weight", rules, due)


def _npz(to: str, blocks: str, own: Names, due: tuple[str, ...]) -> Layout:
    """google-research/vision_transformer: a layer's kernel has its inputs first, and heads are an axis of their own."""
    block = r"Transformer/encoderblock_(\d+)/"
    rules = [
        Rule("cls", (f"{to}embeddings.cls_token",)),
        Rule("Transformer/posembed_input/pos_embedding", (f"{to}embeddings.position_embeddings",)),
        Rule("embedding/kernel", (f"{to}embeddings.patch_embeddings.projection.weight",), _from_hwio),
        Rule("embedding/bias", (f"{to}embeddings.patch_embeddings.projection.bias",)),
        Rule("Transformer/encoder_norm/scale", (f"{to}layernorm.weight",)),
        Rule("Transformer/encoder_norm/bias", (f"{to}layernorm.bias",)),
        Rule("pre_logits/kernel", (f"{to}pooler.dense.weight",), Tensor.t),
        Rule("pre_logits/bias", (f"{to}pooler.dense.bias",)),
        Rule("head/.+", ()),
    ]
    for part, name in NPZ.items():
        kernel: Change = _joined_out if part == "out" else _joined_in
        scaled = part in ("before", "after")
        rules += [
            Rule(rf"{block}{name}/{'scale' if scaled else 'kernel'}", (rf"{blocks}{own[part]}.weight",),
                 None if scaled else kernel),
            Rule(rf"{block}{name}/bias", (rf"{blocks}{own[part]}.bias",), Tensor.flatten),
        ]  # fmt: skip
    return Layout("ViT (.npz)", "embedding/kernel", tuple(rules), due)


def _from_hwio(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1)


def _joined_in(kernel: Tensor) -> Tensor:
    """(inputs, heads, width) or (inputs, outputs) -> (outputs, inputs)."""
    return kernel.flatten(1).t()


def _joined_out(kernel: Tensor) -> Tensor:
    """(heads, width, outputs) -> (outputs, inputs)."""
    return kernel.flatten(0, 1).t()


def vilt(heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """transformers' ViltModel and ViltForMaskedLM, and the authors' own checkpoint."""
    words = hidden_words(r"mlm_score\.", heads)
    bias = Rule(r"mlm_score\.decoder\.bias", words[2].places)  # transformers reads this one, where there are two
    whole = Rule(r"(?:vilt\.)?((?:embeddings|encoder|layernorm|pooler)\..+)", (r"model.vilt.\1",))
    sign = r"(?:vilt\.)?embeddings\.text_embeddings\.word_embeddings\.weight"
    blocks, embeddings = r"model.vilt.encoder.layer.\1.", "model.vilt.embeddings."
    published = (
        Rule(r"text_embeddings\.(.+)", (rf"{embeddings}text_embeddings.\1",)),
        Rule(r"token_type_embeddings\.weight", (f"{embeddings}token_type_embeddings.weight",)),
        Rule(r"transformer\.cls_token", (f"{embeddings}cls_token",)),
        Rule(r"transformer\.pos_embed", (f"{embeddings}position_embeddings",)),
        Rule(r"transformer\.patch_embed\.proj\.(.+)", (rf"{embeddings}patch_embeddings.projection.\1",)),
        Rule(r"transformer\.norm\.(.+)", (r"model.vilt.layernorm.\1",)),
        Rule(r"pooler\.dense\.(.+)", (r"model.vilt.pooler.dense.\1",)),
        Rule(r"itm_score\.fc\.(.+)", (r"heads.itm.\1",)),
        *_blocks(r"transformer\.blocks\.(\d+)\.", TIMM, blocks, IN_FILES),
        *_one_for_three(r"transformer\.blocks\.(\d+)\.attn\.qkv", blocks, IN_FILES),
        *words,
    )
    authors = Layout("ViLT (authors)", r"transformer\.patch_embed\.proj\.weight", published, ("model.vilt.",))
    return (
        Layout("ViLT (transformers)", sign, (whole, *words, bias), ("model.vilt.",)),
        authors,
        *vits("model.vilt.", r"encoder.layer.\1.", IN_FILES, pooler=False),
    )


def clip(heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """transformers' CLIPModel, and OpenAI's names, which open_clip keeps."""
    scale = Rule("logit_scale", tuple(f"heads.{name}.value" for name in heads))
    whole = Rule(r"((?:text_model|vision_model|text_projection|visual_projection)\..+)", (r"model.clip.\1",))
    text, vision = "model.clip.text_model.", "model.clip.vision_model."
    rules = (
        scale,
        Rule(r"token_embedding\.weight", (f"{text}embeddings.token_embedding.weight",)),
        Rule("positional_embedding", (f"{text}embeddings.position_embedding.weight",)),
        Rule(r"ln_final\.(.+)", (rf"{text}final_layer_norm.\1",)),
        Rule("text_projection", ("model.clip.text_projection.weight",), Tensor.t, _turned),
        Rule(r"visual\.class_embedding", (f"{vision}embeddings.class_embedding",)),
        Rule(r"visual\.positional_embedding", (f"{vision}embeddings.position_embedding.weight",)),
        Rule(r"visual\.conv1\.weight", (f"{vision}embeddings.patch_embedding.weight",)),
        Rule(r"visual\.ln_pre\.(.+)", (rf"{vision}pre_layrnorm.\1",)),
        Rule(r"visual\.ln_post\.(.+)", (rf"{vision}post_layernorm.\1",)),
        Rule(r"visual\.proj", ("model.clip.visual_projection.weight",), Tensor.t, _turned),
        Rule("input_resolution|context_length|vocab_size", ()),
        *_residual_blocks(r"transformer\.resblocks\.(\d+)\.", rf"{text}encoder.layers.\1."),
        *_residual_blocks(r"visual\.transformer\.resblocks\.(\d+)\.", rf"{vision}encoder.layers.\1."),
    )
    return (
        Layout("CLIP (transformers)", r"text_model\.embeddings\.token_embedding\.weight",
               (scale, whole, Rule(r".+\.position_ids", ())), ("model.clip.",)),
        Layout("CLIP (OpenAI, open_clip)", r"visual\.conv1\.weight", rules, ("model.clip.",)),
    )  # fmt: skip


def _residual_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    own = {part: f"self_attn.{letter}_proj" for part, letter in (("query", "q"), ("key", "k"), ("value", "v"))}
    names = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    names |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    return (
        *(Rule(rf"{theirs}{name}\.(weight|bias)", (rf"{ours}{place}.\2",)) for name, place in names.items()),
        *(
            Rule(
                rf"{theirs}attn\.in_proj_(weight|bias)", (rf"{ours}{own[part]}.\2",), _third(number), _under_each_other
            )
            for number, part in enumerate(("query", "key", "value"))
        ),
    )


def align(heads: Mapping[str, nn.Module]) -> Layout:
    """transformers' AlignModel, whose text has a pooler that neither it nor the recipe reads."""
    rules = (
        Rule(r"text_model\.((?:embeddings|encoder)\..+)", (r"model.text.\1",)),
        Rule(r"vision_model\.(.+)", (r"model.vision.\1",)),
        Rule(r"text_projection\.(.+)", (r"model.projection.\1",)),
        Rule("temperature", tuple(f"heads.{name}.value" for name in heads)),
        Rule(r"text_model\.pooler\..+|.+\.(?:position_ids|num_batches_tracked)", ()),
    )
    parts = ("model.text.", "model.vision.", "model.projection.")
    return Layout("ALIGN", r"vision_model\.embeddings\.convolution\.weight", rules, parts)
