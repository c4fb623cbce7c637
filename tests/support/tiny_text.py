"""Text encoders small enough to run by hand, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast


def tiny_tokenizer(folder: Path) -> int:
    """Save a tokenizer of whole words; give its vocabulary's size."""
    words = ["[UNK]", "[PAD]", "building", "tree", "grey", "round", "crowns"]
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    return len(words)


def tiny_bert(folder: Path, seed: int = 0, longest: int = 64) -> Path:
    """Save a BERT of one layer and 16 channels, and give its folder."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tiny_tokenizer(folder), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=longest,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder
