"""An SD3 folder without T5, and a miniature with it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from diffusers import StableDiffusion3Pipeline

from limner.core.types import Vocabulary
from limner.models.sd3.adapter import SD3
from limner.models.sd3.build import SD3Size, build
from limner.models.sd3.settings import SD3Settings
from sd3_case import WORDS, Case


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Transformer and autoencoder stored in float16, text encoders in float32, loaded with no dtype."""
    folder = tmp_path_factory.mktemp("small")
    pipeline = build(SD3Size(Vocabulary(WORDS), layers=2, shift=1.0))
    pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.2)
    pipeline.transformer.half()
    pipeline.vae.half()
    pipeline.save_pretrained(folder)
    plain = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    return Case(SD3.load(folder, SD3Settings(max_sequence_length=0)), plain, folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("tiny")
    adapter = SD3.tiny(folder)
    return Case(adapter, StableDiffusion3Pipeline.from_pretrained(folder), folder)


@pytest.fixture(params=["small", "tiny"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
