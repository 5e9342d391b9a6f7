"""Checkpoints in transformers' format, by hub name or folder. Incomplete checkpoints are refused."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers import AutoConfig, AutoImageProcessor
from transformers.utils import logging

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import checkpoint

HUB_ANSWER_S = 10.0


def is_on_this_machine(name: str, revision: str | None) -> bool:
    """Whether a checkpoint is a folder, or in the cache of the model hub with its weights."""
    if Path(checkpoint(name)).is_dir():
        return True
    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    with _as_input_error(name):
        return any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in weights)


def hub_fault() -> str | None:
    """Why nothing can be downloaded from the model hub; None if it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids downloads"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_ANSWER_S).close()
    except urllib.error.HTTPError:
        return None  # an answer of the hub
    except OSError:
        return f"{constants.ENDPOINT} cannot be reached"
    return None


def load_config(name: str, revision: str | None) -> Any:
    """The checkpoint's config.json. Raises InputError if it cannot be loaded."""
    with _as_input_error(name):
        return AutoConfig.from_pretrained(checkpoint(name), revision=revision)


def load_model(kind: Any, name: str, revision: str | None, **options: Any) -> Any:
    """A model of class `kind` (from transformers) in float32, with the checkpoint's weights.

    Raises InputError if the checkpoint cannot be loaded or lacks weights.
    """
    with _as_input_error(name):
        model, report = kind.from_pretrained(
            checkpoint(name), revision=revision, dtype=torch.float32, output_loading_info=True, **options
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(f"checkpoint {name} lacks {len(missing)} weights of {type(model).__name__}: {missing[0]}, ...")
    return model


def load_normalisation(name: str, revision: str | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, for pixels in 0..1, from the checkpoint's image processor."""
    with _as_input_error(name):
        processor = AutoImageProcessor.from_pretrained(checkpoint(name), revision=revision, backend="pil")
    if not processor.do_normalize:
        return [0.0] * 3, [1.0] * 3
    return list(processor.image_mean), list(processor.image_std)


@contextmanager
def _as_input_error(name: str) -> Iterator[None]:
    """Converts loading errors to InputError, and silences transformers inside the block.

    Otherwise transformers warns about unused weights, such as those of CLIP's text tower.
    """
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot load checkpoint {name!r}: give a folder, or a model of the Hugging Face hub that is "
            f"cached or reachable ({reason})"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
