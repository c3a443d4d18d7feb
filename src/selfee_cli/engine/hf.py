"""An engine over transformers: every causal model that library knows, and the native's oracle."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from selfee_cli.engine.base import Engine, is_out_of_memory
from selfee_cli.engine.llama import Loader
from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint


class TransformersEngine(Engine):
    """``AutoModelForCausalLM`` on one device, batch one."""

    name = "transformers"

    def __init__(
        self,
        path: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        context_length: int | None = None,
    ) -> None:
        super().__init__()
        self.network = load_network(path, device, dtype)
        """The model, of which others may make use while this engine does not."""
        if getattr(self.network, "_is_stateful", False):
            raise SelfeeError(
                f"{path} keeps a state in place of keys and values: no token can be taken back",
                hint="take a model with attention in all its layers",
            )
        config = self.network.config.get_text_config()
        trained = trained_length(self.network)
        if context_length is not None and context_length > trained:
            raise SelfeeError(
                f"--context {context_length} exceeds the {trained} this model was made for",
                hint="the native engine stretches LLaMA models: --engine native",
            )
        self.context_length = context_length or trained
        self.vocab_size = int(config.vocab_size)
        self.device, self.dtype = str(device), str(dtype).removeprefix("torch.")
        self._device = device
        self.parameters = self.network.num_parameters()
        self.weight_bytes = self.parameters * dtype.itemsize
        self._keyword = cache_keyword(self.network)
        self._cache: Any = DynamicCache()
        self._watch_layers(int(config.num_hidden_layers))

    @torch.inference_mode()
    def _forward(self, ids: Sequence[int], last: int) -> torch.Tensor:
        past = len(self.ids)
        positions = torch.arange(past, past + len(ids), device=self._device)[None]
        try:
            output = self.network(
                input_ids=torch.tensor([ids], device=self._device),
                position_ids=positions,
                use_cache=True,
                logits_to_keep=last,
                **{self._keyword: self._cache},
            )
        except BaseException:  # some layers have seen the ids, some have not
            self._truncate(past)
            raise
        logits: torch.Tensor = output.logits[0, -last:]
        return logits

    def _truncate(self, length: int) -> None:
        # `crop` differs between the supported versions; the tensors do not.
        for layer in self._cache.layers:
            if layer.keys is not None:
                layer.keys = layer.keys[..., :length, :]
                layer.values = layer.values[..., :length, :]

    def _watch_layers(self, count: int) -> None:
        """Ask before every layer whether the pass is given up."""
        for module in self.network.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == count:
                for layer in module:
                    layer.register_forward_pre_hook(lambda *_: self._check())
                return


def cache_keyword(model: Any) -> str:
    """Return the name of a model's parameter for its cache: it differs between the versions."""
    parameters = inspect.signature(inspect.unwrap(model.forward)).parameters
    return "cache" if "cache" in parameters else "past_key_values"


def trained_length(network: Any) -> int:
    """Return how many tokens a causal model of transformers was made for."""
    config = network.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2048)


def load_network(path: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a checkpoint directory, in any layout, as a causal model of transformers.

    Raises:
        SelfeeError: transformers cannot load it, or tensors are missing.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = _loaded(path, dtype)
    except Exception as error:  # transformers raises many kinds where files are not what it expects
        if isinstance(error, SelfeeError) or is_out_of_memory(error):
            raise
        raise SelfeeError(
            f"transformers cannot load {path}: {shorten(str(error), 200, placeholder=' ...')}",
            hint="are config.json and the weights of one model? `selfee inspect` lists them",
        ) from error
    if report["missing_keys"]:  # they would be random numbers
        names = sorted(report["missing_keys"])
        raise SelfeeError(
            f"{path} lacks {len(names)} tensors, among them {names[0]}",
            hint="is the download complete? `selfee inspect` lists what is there",
        )
    return model.to(device).eval()


def _loaded(path: Path, dtype: torch.dtype) -> Any:
    """Return the model and transformers' report on its tensors."""
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    with open_checkpoint(path) as checkpoint:
        if checkpoint.layout != "meta":
            return AutoModelForCausalLM.from_pretrained(path, local_files_only=True, **options)
        load = Loader(checkpoint, torch.device("cpu"), dtype, "none", lambda _: None)
        state = {name: load(name, tuple(info.shape)) for name, info in checkpoint.tensors.items()}
        config = LlamaConfig(**checkpoint.config)
        return LlamaForCausalLM.from_pretrained(None, config=config, state_dict=state, **options)
