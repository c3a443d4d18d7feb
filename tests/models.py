"""Small models with random weights, made by transformers, and a tokenizer trained on the spot."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import torch

from selfee_cli.engine.tokenizer import Tokenizer, load_tokenizer

SHAPES = {
    "llama-1": {},
    "grouped": {"num_key_value_heads": 2},
    "tied": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "head-dim": {"head_dim": 24},
}
_CORPUS = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\nName 3 colours.\n\n### Answer:\nRed, green, "
    "blue.\n\n### Feedback 1:\nIt is a solid 8/10. Revision is needed. Revision is not needed. "
    "No revision is needed.\n\n### Revision 1:\nRed, green and blue, as you asked for."
)


def make_model(path: Path, *, seed: int = 0, vocabulary: int = 320, **changes: object) -> Path:
    """Write a random LLaMA of a few thousand parameters, as transformers saves it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings)).float()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(path)
    (path / "tokenizer.model").write_bytes(tokenizer_model(vocabulary))
    return path


def load_plainly(path: Path) -> tuple[Any, Tokenizer]:
    """Load a model as the batched decoder takes it: transformers' network, in float32."""
    from selfee_cli.engine.hf import load_network

    return load_network(path, torch.device("cpu"), torch.float32), load_tokenizer(path)


@cache
def tokenizer_model(vocabulary: int = 320) -> bytes:
    """A SentencePiece model in LLaMA's manner: BPE, byte fallback, ``<unk> <s> </s>`` first."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS.split("\n") * 4),
        model_writer=out,
        model_type="bpe",
        vocab_size=vocabulary,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    return out.getvalue()
