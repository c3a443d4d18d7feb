"""Prints the README's table of what the real models need: what the program itself asks for.

python tests/readme_table.py
"""

from __future__ import annotations

import math

import torch

from selfee_cli.bench.random_weights import RandomCheckpoint
from selfee_cli.engine.llama import LlamaConfig
from selfee_cli.engine.placement import footprint

CONTEXT = 2048
FORMS = {"float16": "none", "int8": "int8", "int4": "int4"}


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| | parameters | float16 | `--quant int8` | `--quant int4` | of it, a context of 2048 |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("7b", "13b"):
        checkpoint = RandomCheckpoint(name)
        config = LlamaConfig.parse(checkpoint.config)
        totals = [footprint(config, torch.float16, q, CONTEXT).total for q in FORMS.values()]
        sizes = [math.ceil(total / 1e8) / 10 for total in totals]  # less would be refused
        cache = CONTEXT * 2 * config.layers * config.kv_heads * config.head_dim * 2
        lines.append(
            f"| SelFee-{name.upper()} | {checkpoint.parameters / 1e9:.2f} B | "
            + " | ".join(f"{size:.1f} GB" for size in sizes)
            + f" | {cache / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
