"""The reconstructed model in llama.cpp: its converter reads it, and it speaks as it does elsewhere.

python tests/llama_cpp.py DIR

DIR holds the source archive of llama-cpp-python, in which llama.cpp's converter comes (see
`make llama-cpp`); xllamacpp, a build of llama.cpp, is installed. The bundled delta is applied, the
result converted to float32, and each question answered greedily. Every token of the answer, its
end too, must be the likeliest one in a pass of transformers over the same directory, or as good as.
Prints a line a question; the exit code tells whether all held.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import torch
import xllamacpp
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import BASE, DELTA

QUESTIONS = (
    "What is 47 + 85?",
    "What is 93 - 28?",
    "Count from 12 in steps of 7, five numbers.",
    "Which three days come after Tuesday?",
    "你好，你是谁？",  # noqa: RUF001
    "def f(x):\n    return x + 1",
)
_ENOUGH = 600  # tokens
_TIE = 0.05  # of logits: engines that add in another order may choose differently


def main() -> None:
    """Compare in the directory named on the command line."""
    folder = Path(sys.argv[1]).resolve()
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    parts = ["--base", str(BASE), "--delta", str(DELTA), "--out", str(model)]
    subprocess.run([sys.executable, "-m", "selfee_cli", "apply-delta", *parts], check=True)
    converted = convert(folder, model)
    oracle = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    params = xllamacpp.CommonParams()
    params.model.path = str(converted)
    params.n_ctx, params.warmup = 2048, False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    lines, worst = [], 0.0
    for question in QUESTIONS:
        prompt = render_prompt(question)
        text = said(server, prompt)
        start = len(tokenizer(prompt).input_ids)
        ids = torch.tensor([[*tokenizer(prompt + text).input_ids, tokenizer.eos_token_id]])
        with torch.inference_mode():
            logits = oracle(ids).logits[0, start - 1 : -1]
        chosen = logits.gather(1, ids[0, start:, None])[:, 0]
        gap = float((logits.max(1).values - chosen).max())
        worst = max(worst, gap)
        lines.append(f"{question!r}: {len(chosen)} tokens, at most {gap:.4f} below the likeliest")
    print(*lines, sep="\n")
    sys.exit(worst > _TIE)


def convert(folder: Path, model: Path) -> Path:
    """Run llama.cpp's converter out of the archive; give the file it makes."""
    (archive,) = folder.glob("llama_cpp_python-*.tar.gz")
    source = folder / "llama.cpp"
    if not source.exists():
        with tarfile.open(archive) as packed:
            for member in packed:
                _, _, inner = member.name.partition("/vendor/llama.cpp/")
                if inner.startswith(("conver", "gguf-py/")):
                    member.name = inner
                    packed.extract(member, source, filter="data")
    target = folder / "model.gguf"
    command = [sys.executable, "convert_hf_to_gguf.py", str(model), "--outfile", str(target)]
    environment = {**os.environ, "PYTHONPATH": str(source / "gguf-py")}
    subprocess.run([*command, "--outtype", "f32"], cwd=source, env=environment, check=True)
    return target


def said(server: xllamacpp.Server, prompt: str) -> str:
    """Give what llama.cpp writes after ``prompt``."""
    answer = server.handle_completions({"prompt": prompt, "temperature": 0, "max_tokens": _ENOUGH})
    answer = json.loads(answer) if isinstance(answer, str) else answer
    return str(answer["choices"][0]["text"])


if __name__ == "__main__":
    main()
