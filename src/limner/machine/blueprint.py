"""A model of which nothing but configurations is there: its pipeline, with every network on the meta device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limner.core.errors import UserError
from limner.models.folder import INDEX, is_local, read_index
from limner.models.published import Part, Published
from limner.registry.find import find
from limner.registry.names import ADAPTERS
from limner.registry.published import published
from limner.registry.served import kind_of, source_of

META = torch.device("meta")
NETWORKS = ("transformer", "unet")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
SIGHT = "image_encoder"
UNUSED = ("safety_checker", "feature_extractor", "guider", "ocr_guider")
SEEING = ("WanImageToVideoPipeline",)
"""Pipelines whose `SIGHT` is used."""
CLIP_TOKENS = 77
"""Of a text, for every published CLIP."""


def blueprint(path: str) -> tuple[Any, str, str]:
    """Return the pipeline that `path` names, without weights, its kind, and where its configurations are from.

    That is a folder's, a built-in base's, or that of a published checkpoint, of which no file is needed. Raises
    UserError if nothing is known of it.
    """
    source = source_of(path)
    if is_local(source):
        kind = kind_of(path)
        found = _of_folder(Path(str(source)).expanduser(), _readers(kind))
        return found, kind, f"{path} (configurations of the folder)"
    known = {each.hub: (kind, each) for kind, each in published().values()}
    if path not in known:
        raise UserError(
            f"plan: no configuration of {path} is known here; give a folder that has its {INDEX}, or one of "
            f"{', '.join(known)}"
        )
    kind, facts = known[path]
    return _of_facts(kind, facts), kind, f"{path} (published configurations)"


def made(part: Part) -> nn.Module:
    """Return a network as its library makes it, without weights."""
    import diffusers
    import transformers

    library: Any = diffusers if part.kind in dir(diffusers) else transformers
    kind = _attribute(library, part.kind)
    with META:
        return kind(**part.config) if library is diffusers else kind(kind.config_class(**part.config))


def _attribute(library: Any, name: str) -> Any:
    """Return what a library has of that name, which it may import only now."""
    return getattr(library, name)


def _of_facts(kind: str, facts: Published) -> Any:
    """Return a kind's miniature with the published networks in the place of its own."""
    tiny = (facts.miniature or _miniature(kind))()
    parts = dict(tiny.components)
    (network,) = (name for name in NETWORKS if name in parts)
    encoders = [name for name in ENCODERS if parts.get(name) is not None]
    facts_of = dict(zip(encoders, facts.encoders, strict=True)) | {"vae": facts.autoencoder}
    facts_of |= {SIGHT: facts.sight} if facts.sight is not None else {}
    facts_of |= dict.fromkeys([network, *(f"{network}_{i}" for i in range(2, facts.experts + 1))], facts.network)
    parts |= {name: made(part) for name, part in facts_of.items()}
    for name, part in zip(encoders, facts.encoders, strict=True):
        if part.kind.startswith("CLIP"):
            parts[name.replace("text_encoder", "tokenizer")].model_max_length = CLIP_TOKENS
    return type(tiny)(**parts, **_chosen(type(tiny), tiny.config, parts))


def _miniature(kind: str) -> Callable[[], Any]:
    """Return what makes a kind's own miniature."""
    from limner.models.piped import Family

    adapter: Any = find(ADAPTERS, "model kind", kind)
    return adapter.miniature if isinstance(adapter, Family) else lambda: adapter.tiny().pipeline


def _readers(kind: str) -> Mapping[str, Callable[..., Any]]:
    """Return what reads the parts of a kind that diffusers does not read."""
    from limner.models.piped import Family

    adapter: Any = find(ADAPTERS, "model kind", kind)
    return adapter.readers if isinstance(adapter, Family) else {}


def _chosen(kind: type, config: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a pipeline's configuration are arguments, and no parts, of its class."""
    taken = inspect.signature(kind).parameters
    return {name: value for name, value in config.items() if name in taken and name not in parts}


def _of_folder(folder: Path, readers: Mapping[str, Callable[..., Any]]) -> Any:
    """Return the pipeline of a folder: tokenizers and scheduler as they are, networks without weights."""
    import diffusers

    index = read_index(folder)
    name = index["_class_name"]
    if name not in dir(diffusers):
        raise UserError(
            f"plan: {folder} is a {name}, and a plan is of diffusers' pipelines: `limner check` measures it"
        )
    kind = _attribute(diffusers, name)
    taken = inspect.signature(kind).parameters.keys() - readers.keys()
    unused = UNUSED if name in SEEING else (*UNUSED, SIGHT)
    parts = {key: None if key in unused else _component(folder / key, *value) for key, value in index.items()
             if isinstance(value, list) and key in taken}  # fmt: skip
    parts |= {name: read(folder, subfolder=name) for name, read in readers.items()}
    return kind(**parts, **_chosen(kind, index, parts))


def _component(folder: Path, library: str | None, name: str | None) -> Any:
    import diffusers
    import transformers

    if name is None:
        return None
    kind = _attribute(transformers if library == "transformers" else diffusers, name)
    if not issubclass(kind, nn.Module):
        return kind.from_pretrained(folder)
    with META:
        if library == "transformers":
            return kind(kind.config_class.from_pretrained(folder))
        return kind.from_config(kind.load_config(folder))
