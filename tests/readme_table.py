"""Prints the README's table of what the real models need, from their shapes alone.

python tests/readme_table.py
"""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT = 2048
GROUP = 128  # weights that share a scale in int4


@dataclass(frozen=True)
class Shape:
    """A LLaMA-1 with SelFee's 32,001 tokens."""

    name: str
    layers: int
    hidden: int
    mlp: int
    vocabulary: int = 32_001

    @property
    def in_layers(self) -> int:
        """Parameters in matrices of layers, which are what is quantised."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.mlp)

    @property
    def outside(self) -> int:
        """Embedding, head and norms, which stay in float16."""
        return 2 * self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden

    @property
    def cache(self) -> int:
        """Bytes of keys and values for the whole context, in float16."""
        return CONTEXT * 2 * self.layers * self.hidden * 2

    def weights(self, bits: float) -> float:
        """Bytes of weights with ``bits`` bits a quantised parameter."""
        return self.in_layers * bits / 8 + self.outside * 2


SHAPES = (Shape("7B", 32, 4096, 11_008), Shape("13B", 40, 5120, 13_824))
# An int8 scale per output row is next to nothing; int4 has a 16-bit scale and zero per group.
BITS = {"float16": 16.0, "int8": 8.0, "int4": 4.0 + 32 / GROUP}


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| | parameters | float16 | int8 (planned) | int4 (planned) | context of 2048 |",
        "|---|---|---|---|---|---|",
    ]
    for shape in SHAPES:
        parameters = (shape.in_layers + shape.outside) / 1e9
        sizes = " | ".join(f"{shape.weights(bits) / 1e9:.1f} GB" for bits in BITS.values())
        lines.append(
            f"| SelFee-{shape.name} | {parameters:.2f} B | {sizes} | + {shape.cache / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
