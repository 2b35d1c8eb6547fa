"""Tiny seeded dual encoders in the layouts in which such models are published, written by the libraries themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import sentencepiece
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from pairloom.table import Array

WORDS = ["a", "red", "green", "small", "cup", "dog", "street", "tree", "by", "the", "of", "photo", "two", "old"]
WIDTH = 16
SIDE = 32  # pixels


def picture(seed: int, width: int = 83, height: int = 61) -> Image.Image:
    shades = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), np.uint8)
    return Image.fromarray(shades).resize((width, height))


def jpeg(one: Image.Image) -> bytes:
    stream = io.BytesIO()
    one.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def sentence(seed: int, words: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def clip(folder: Path) -> Path:
    """As CLIPModel, CLIPTokenizer and CLIPImageProcessor save themselves."""
    vocabulary = _byte_pairs()
    names = len(vocabulary["vocab"])
    text = {"vocab_size": names, "max_position_embeddings": 24, "bos_token_id": names - 2, "eos_token_id": names - 1}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=text | _tower(),
        vision_config={"image_size": SIDE, "patch_size": 8} | _tower(),
        projection_dim=WIDTH,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPTokenizer(**vocabulary, model_max_length=24).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """As SigLIP's, with a SentencePiece vocabulary and every text filled up to the full length."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentence(seed, 8) for seed in range(200)), model_writer=model, vocab_size=48,
        pad_id=-1, eos_id=1, bos_id=-1, unk_id=0, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=20).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.SiglipConfig(
        text_config={"vocab_size": 64, "max_position_embeddings": 20} | _tower(),
        vision_config={"image_size": SIDE, "patch_size": 8} | _tower(),
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def align(folder: Path) -> Path:
    """As ALIGN's: an EfficientNet and a BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(names), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.AlignConfig(
        text_config={"vocab_size": len(names), "max_position_embeddings": 64} | _tower(),
        vision_config={"image_size": SIDE, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32},
        projection_dim=32,
    )
    model = transformers.AlignModel(config)
    for _ in range(60):  # running means of random weights, without which the vectors vanish
        model.vision_model(torch.randn(4, 3, SIDE, SIDE))
    model.save_pretrained(folder)
    processor = transformers.EfficientNetImageProcessor(
        size={"height": SIDE + 4, "width": SIDE + 4}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor.save_pretrained(folder)
    return folder


OPEN_CLIP = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def open_clip_folder(folder: Path) -> Path:
    """As open_clip's push_to_hf_hub writes it. The vocabulary is the one that comes with open_clip."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**OPEN_CLIP)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    pixels = asdict(open_clip.transform.PreprocessCfg(size=SIDE))
    pixels = {key: value for key, value in pixels.items() if key in ("mean", "std", "interpolation", "resize_mode")}
    content = {"model_cfg": OPEN_CLIP, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "clip": clip,
    "siglip": siglip,
    "align": align,
    "open_clip": open_clip_folder,
}


def expected(kind: str, folder: Path, pictures: Sequence[Image.Image], texts: Sequence[str]) -> tuple[Array, Array]:
    """(pictures (B, E), texts (N, E)), each of length 1, one at a time by the library's own calls."""
    with torch.no_grad():
        if kind == "open_clip":
            model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
            tokens = open_clip.get_tokenizer(f"local-dir:{folder}")
            model = model.eval()
            images = [model.encode_image(transform(one)[None], normalize=True) for one in pictures]
            return torch.cat(images).numpy(), torch.cat(
                [model.encode_text(tokens([text]), normalize=True) for text in texts]
            ).numpy()
        model = transformers.AutoModel.from_pretrained(folder).eval()
        processor = transformers.AutoProcessor.from_pretrained(folder)
        images, words = [], []
        for one in pictures:
            images.append(model.get_image_features(**processor(images=one, return_tensors="pt")).pooler_output)
        for text in texts:
            inputs = processor(text=text, return_tensors="pt", padding="max_length", truncation=True)
            words.append(model.get_text_features(**inputs).pooler_output)
        return _unit(torch.cat(images)), _unit(torch.cat(words))


def _unit(vectors: torch.Tensor) -> Array:
    unit: Array = (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()
    return unit


def _tower() -> dict[str, Any]:
    return {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def _byte_pairs() -> dict[str, Any]:
    """A vocabulary of CLIP's kind: pieces that end a word end in </w>."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(WORDS * 3, trainer)
    trained = json.loads(backend.to_str())["model"]
    names = [*trained["vocab"], "<|startoftext|>", "<|endoftext|>"]
    return {
        "vocab": {name: number for number, name in enumerate(names)},
        "merges": [tuple(m) for m in trained["merges"]],
    }
