"""The adapter that multimodal language models of transformers share: a picture is written after its prompt.

A dialect says how a prompt is asked, what the decoder is given for a code and what it says of the next one, and how
codes become pixels; all else is alike. Rows may end with a token of their own, which is written without a choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoTokenizer, DynamicCache, PreTrainedTokenizerBase

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.quiet import no_bars
from limner.core.types import Condition, LatentSpec, Prompt
from limner.models.cached import roomy_cache
from limner.models.dialect import Dialect, WordedSettings
from limner.models.folder import is_local, served_index
from limner.models.intact import require_whole_files
from limner.models.llm import DECODER_LAYERS
from limner.models.lora import merged, save_peft
from limner.models.parts import at_once, of_transformers, positions


class Levels(NamedTuple):
    """What a tokenizer of pictures sees: (pixels - mean) / std."""

    mean: float = 0.5
    std: float = 0.5


SIGNED = Levels()
"""From -1 to 1."""


@dataclass(frozen=True, eq=False)
class Multimodal:
    """A model of transformers that writes pictures, as a `TokenModel`; `networks` holds its decoder.

    Heads, embeddings of codes, and the tokenizer of pictures are frozen; logits are of codes alone, float32.
    """

    dialect: Dialect = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    whole: Any = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: WordedSettings
    levels: Levels = SIGNED

    lora_targets: ClassVar[tuple[str, ...]] = DECODER_LAYERS
    left_out: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def load(
        cls,
        dialect: Dialect,
        source: str | Path | Any,
        settings: WordedSettings,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Multimodal:
        """Load a folder that `save_pretrained` wrote, with its tokenizer, or a hub id org/name.

        Raises UserError if there is none, or if it is damaged.
        """
        served_index(source, dialect.kind, settings.serves)
        local: dict[str, Any] = {}
        if is_local(source):
            source, local = Path(source).expanduser(), {"local_files_only": True}
            require_whole_files(source)
        try:
            with no_bars():
                tokenizer = AutoTokenizer.from_pretrained(source, **local)
                whole = of_transformers(dialect.cls, source, "model", dtype, **local)
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"model: {source} cannot be loaded ({reason}); save or download it again") from error
        levels = _levels(source) if isinstance(source, Path) else SIGNED
        return cls.wrap(dialect, tokenizer, whole.to(device), settings, levels)

    @classmethod
    def wrap(
        cls,
        dialect: Dialect,
        tokenizer: PreTrainedTokenizerBase,
        whole: Any,
        settings: WordedSettings,
        levels: Levels = SIGNED,
    ) -> Multimodal:
        """Return the adapter of a model in memory, and freeze all of it but the decoder.

        Raises UserError for one that cannot draw.
        """
        dialect.require(whole, tokenizer)
        decoder = whole.get_submodule(dialect.decoder)
        whole.eval().requires_grad_(False)
        decoder.requires_grad_(True)
        return cls(dialect, tokenizer, whole, {"decoder": decoder}, settings, levels)

    @classmethod
    def tiny(cls, dialect: Dialect, folder: Path | None = None) -> Multimodal:
        """Return a miniature with random weights; with `folder` it is saved there and loaded again."""
        tokenizer, whole = dialect.miniature()
        if folder is None:
            return cls.wrap(dialect, tokenizer, whole, dialect.tiny_settings)
        with no_bars():
            tokenizer.save_pretrained(folder)
            whole.save_pretrained(folder)
        return cls.load(dialect, folder, dialect.tiny_settings)

    @property
    def pipeline_name(self) -> str:
        """Name of transformers' class that loads the folder."""
        return str(self.dialect.cls.__name__)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's codes."""
        return self.dialect.grid(self.whole, self.settings)

    @property
    def _decoder(self) -> Any:
        return self.networks["decoder"]

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Multimodal:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def latent(self) -> LatentSpec:
        """Return the shape of one picture's codes; they live where the model is."""
        rows, columns = self.grid
        return LatentSpec((rows * columns,), torch.int64, self.whole.device)

    def codebook(self) -> Float[Tensor, "codes width"]:
        """Return the vectors that the tokenizer of pictures makes pixels of."""
        return self.dialect.codebook(self.whole)

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"ids": [prompts + 1, words], "mask": ...}, the negative prompt last, with words at the right.

        Raises UserError for a prompt that is longer than they may be.
        """
        texts = [*(prompt.text for prompt in prompts), self.settings.negative_prompt]
        asked = [self.dialect.ask(self.tokenizer, text, self.grid) for text in texts]
        most, ids = self.settings.max_sequence_length, self.tokenizer(asked)["input_ids"]
        length, text = max(zip(map(len, ids), texts, strict=True))
        if length > most:
            raise UserError(
                f"model: a prompt is {length} tokens long with what stands around it, and max_sequence_length is "
                f"{most}: raise model.settings.max_sequence_length, or shorten {text[:40]!r}"
            )
        found = self.tokenizer.pad(
            {"input_ids": ids}, padding="max_length", max_length=most, padding_side="left", return_tensors="pt"
        ).to(self.whole.device)
        return {"ids": found["input_ids"], "mask": found["attention_mask"]}

    def logits(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of every code of whole pictures, after those before it: one evaluation of the decoder."""
        (rows, columns), ids, mask = self.grid, *self._asked(condition, prompt_index)
        written, ends = self._embed(tokens), self._line_end(len(tokens))
        if ends is not None:
            lines = written.unflatten(1, (rows, columns))
            written = torch.cat([lines, ends[:, None].expand(-1, rows, -1, -1)], 2).flatten(1, 2)
        words = self._decoder.get_input_embeddings()(ids)
        before = torch.cat([words, written[:, :-1]], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), written.shape[1] - 1)], 1)
        states = self._decoder(
            inputs_embeds=before, attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).last_hidden_state[:, ids.shape[1] - 1 :]
        if ends is not None:
            states = states.unflatten(1, (rows, columns + 1))[:, :, :-1].flatten(1, 2)
        return self.dialect.head(self.whole, states).float()

    def begin(
        self, condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the first code, and what `step` goes on from."""
        ids, mask = self._asked(condition, prompt_index)
        rows, columns = self.grid
        cache = roomy_cache(self._decoder.config, mask.shape[1] + rows * (columns + 1))  # a row may have an end
        return self._step(self._decoder.get_input_embeddings()(ids), mask, cache, 0)

    def step(self, token: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the code after `token`, and what the next step goes on from."""
        mask, cache, count = state
        given, ends = self._embed(token[:, None]), self._line_end(len(token))
        if ends is not None and (count + 1) % self.grid[1] == 0:
            given = torch.cat([given, ends], 1)
        mask = torch.cat([mask, mask.new_ones(given.shape[:2])], 1)
        return self._step(given, mask, cache, count + 1)

    def _step(self, given: Tensor, mask: Tensor, cache: DynamicCache, count: int) -> tuple[Tensor, Any]:
        states = self._decoder(
            inputs_embeds=given,
            attention_mask=mask,
            position_ids=positions(mask)[:, -given.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return self.dialect.head(self.whole, states).float(), (mask, cache, count)

    def _asked(self, condition: Condition, index: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """Return tokens and mask of prompts.

        Where guidance leads away from what is made of the prompt itself, the empty ones, which stand after as many
        prompts (`policies.guided`), are made of these.
        """
        make, half = self.dialect.unprompted, len(index) // 2
        if make is None:
            return condition["ids"][index], condition["mask"][index]
        empty = index == len(condition["ids"]) - 1
        if len(index) == 2 * half:  # as a guided pass is; whether it is one is not read, for that would be waited for
            led = (empty == (torch.arange(len(index), device=empty.device) >= half)).all()
            index = torch.where(led, torch.cat([index[:half], index[:half]]), index)
        ids = condition["ids"][index]
        return torch.where(empty[:, None], make(self.whole, ids), ids), condition["mask"][index]

    def _embed(self, codes: Int[Tensor, "batch codes"]) -> Float[Tensor, "batch codes width"]:
        return self.dialect.embed(self.whole, self._decoder, codes)

    def _line_end(self, count: int) -> Float[Tensor, "batch 1 width"] | None:
        token = self.dialect.line_end(self.whole)
        if token is None:
            return None
        ids = torch.full((count, 1), token, device=self.whole.device)
        return self._decoder.get_input_embeddings()(ids)

    @torch.no_grad()
    def decode(self, sample: Int[Tensor, "batch tokens"]) -> Images:
        """Return the pictures of codes, a few at a time; codes have no gradient."""
        pixels = self.dialect.cell(self.whole) ** 2 * sample.shape[1]
        parts = sample.unflatten(1, self.grid).split(at_once(sample.device, pixels))
        shown = torch.cat([self.dialect.pixels(self.whole, part).float() for part in parts])
        return Images((shown * self.levels.std + self.levels.mean).clamp(0, 1))

    @torch.no_grad()
    def encode_media(self, media: Media) -> Int[Tensor, "batch tokens"]:
        """Return the codes of pictures."""
        seen = (media.frames()[:, 0].to(self.whole.device) - self.levels.mean) / self.levels.std
        parts = seen.to(self.whole.dtype).split(at_once(seen.device, seen[0, 0].numel()))
        return torch.cat([self.dialect.codes(self.whole, part).flatten(1) for part in parts])

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> list[str]:
        """Return the lines of Python by which transformers draws a picture (`report.card.OwnUse`)."""
        name = self.pipeline_name
        return [
            "import torch",
            "from PIL import Image",
            f"from transformers import AutoTokenizer, {name}",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({base})",
            f"model = {name}.from_pretrained({place if whole else base}, dtype=torch.float32)",
            *([] if whole else [f"model.load_adapter({place})"]),
            *self.dialect.use(self, prompt, call),
            f"levels = (255 * (pixels[0] * {self.levels.std} + {self.levels.mean}).clamp(0, 1)).round()",
            "image = Image.fromarray(levels.permute(1, 2, 0).to(torch.uint8).numpy())",
        ]

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` as peft reads it for the whole model, and the model's own `load_adapter(folder)`."""
        save_peft(self._decoder, adapter, folder, self.dialect.decoder)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the model as its class's `from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        inside = f"{self.dialect.decoder}."
        tensors = {name: each for name, each in self.whole.state_dict().items() if not name.startswith(inside)}
        trained = merged(self._decoder, adapter).state_dict()
        tensors |= {f"{inside}{name}": each for name, each in trained.items()}
        with no_bars():
            self.whole.save_pretrained(folder, state_dict=tensors)
        self.tokenizer.save_pretrained(folder)


def _levels(folder: Path) -> Levels:
    """Return the levels that a folder's processor of pictures is set to; without one they are -1 to 1."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            held = json.loads((folder / name).read_text(encoding="utf-8"))
            held = held.get("image_processor", held)
            if "image_mean" in held and "image_std" in held:
                mean, std = held["image_mean"], held["image_std"]
                return Levels(mean, std) if isinstance(mean, float) else Levels(mean[0], std[0])
    return SIGNED
