"""Pictures as tokens (LlamaGen, Sun et al., arXiv:2406.06525): transformers' Llama over codes of diffusers' VQModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import VQModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTokenizer, DynamicCache, LlamaForCausalLM

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.quiet import no_bars
from limner.core.types import Condition, LatentSpec, Prompt
from limner.models.cached import roomy_cache
from limner.models.folder import plain_folder, served_index
from limner.models.intact import require_intact
from limner.models.llm import DECODER_LAYERS
from limner.models.lora import merged, save_peft
from limner.models.parts import at_once, positions
from limner.models.tokens.build import TokenParts, tiny_parts
from limner.models.tokens.folder import LAYOUT, write_parts
from limner.models.tokens.honoured import require_honoured
from limner.models.tokens.settings import TokensSettings

OWN = TokensSettings()
"""What the model itself has chosen."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """A decoder that writes a picture's codes, row by row, after begin, the caption's words, and end.

    Only codes can follow there, so logits are of codes alone. `networks` holds the trained decoder; the tokenizer of
    pictures is frozen, and float32.
    """

    parts: TokenParts = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: TokensSettings

    lora_targets: ClassVar[tuple[str, ...]] = DECODER_LAYERS
    pipeline_name: ClassVar[str] = "LlamaForCausalLM"
    left_out: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def load(
        cls,
        source: Any,
        settings: TokensSettings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tokens:
        """Load a folder with tokenizer, decoder and vqvae, each as its library wrote it, in whatever precision.

        Raises UserError if there is none, or if it is damaged.
        """
        served_index(source, "tokens", settings.serves)
        folder = plain_folder(source)
        require_intact(folder, LAYOUT, [*LAYOUT])
        try:
            with no_bars():
                parts = TokenParts(
                    CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
                    LlamaForCausalLM.from_pretrained(folder / "decoder", dtype=dtype, local_files_only=True),
                    VQModel.from_pretrained(folder / "vqvae", torch_dtype=torch.float32, local_files_only=True),
                )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"model: {source} cannot be loaded ({reason}); save or download it again") from error
        parts.decoder.to(device)
        parts.vqvae.to(device)
        return cls.wrap(parts, settings)

    @classmethod
    def wrap(cls, parts: TokenParts, settings: TokensSettings = OWN) -> Tokens:
        """Return the adapter of parts in memory, and freeze all of it but the decoder.

        Raises UserError for parts of which something is not honoured (`limner.models.tokens.honoured`).
        """
        require_honoured(parts)
        parts.decoder.eval().requires_grad_(True)
        parts.vqvae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return cls(parts, {"decoder": parts.decoder}, settings)

    @classmethod
    def tiny(cls, folder: Path | None = None) -> Tokens:
        """Return a miniature with random weights; with `folder` it is saved there and loaded again."""
        parts = tiny_parts()
        if folder is None:
            return cls.wrap(parts)
        write_parts(folder, parts)
        return cls.load(folder)

    @property
    def num_codes(self) -> int:
        """Codes that a token is one of."""
        return int(self.parts.vqvae.config.num_vq_embeddings)

    @property
    def first_code(self) -> int:
        """The id of code 0 in the decoder's vocabulary; words lie below."""
        return int(self.parts.decoder.config.vocab_size) - self.num_codes

    @property
    def _grid(self) -> int:
        """Tokens in a row of a picture, and rows."""
        return int(self.parts.vqvae.config.sample_size) // self._cell

    @property
    def _cell(self) -> int:
        """Pixels in a row of what a token shows."""
        return 2 ** (len(self.parts.vqvae.config.block_out_channels) - 1)

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Tokens:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def latent(self) -> LatentSpec:
        """Return the shape of one picture's tokens; they live where the decoder is."""
        return LatentSpec((self._grid**2,), torch.int64, self.parts.decoder.device)

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"ids": [prompts + 1, words], "mask": ...}, the negative prompt last, all as long as any may be.

        Words stand at the right, next to the picture.
        """
        texts = [*(prompt.text for prompt in prompts), self.settings.negative_prompt]
        found = self.parts.tokenizer(
            texts, padding="max_length", padding_side="left", truncation=True, return_tensors="pt"
        ).to(self.latent().device)
        return {"ids": found["input_ids"], "mask": found["attention_mask"]}

    def logits(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of every token of whole pictures, after those before it: one evaluation of the decoder."""
        ids, mask = condition["ids"][prompt_index], condition["mask"][prompt_index]
        before = tokens[:, :-1] + self.first_code
        mask = torch.cat([mask, torch.ones_like(before)], 1)
        found = self.networks["decoder"](
            input_ids=torch.cat([ids, before], 1),
            attention_mask=mask,
            position_ids=positions(mask),
            use_cache=False,
            logits_to_keep=tokens.shape[1],
        )
        return found.logits[..., self.first_code :].float()

    def begin(
        self, condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the first token, and what `step` goes on from."""
        mask = condition["mask"][prompt_index]
        cache = roomy_cache(self.parts.decoder.config, mask.shape[1] + self._grid**2)
        return self._step(condition["ids"][prompt_index], mask, positions(mask), cache)

    def step(self, token: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the token after `token`, and what the next step goes on from."""
        mask, cache = state
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        return self._step(token[:, None] + self.first_code, mask, positions(mask)[:, -1:], cache)

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> tuple[Tensor, Any]:
        found = self.networks["decoder"](
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1, self.first_code :].float(), (mask, cache)

    def codebook(self) -> Float[Tensor, "codes width"]:
        """Return the vectors that the tokenizer makes pixels of."""
        return self.parts.vqvae.quantize.embedding.weight

    @torch.no_grad()
    def decode(self, sample: Int[Tensor, "batch tokens"]) -> Images:
        """Return the pictures of tokens, a few at a time; tokens have no gradient."""
        parts = sample.split(at_once(sample.device, self._cell**2 * sample.shape[1]))
        return Images(torch.cat([self._pixels(part) for part in parts]))

    def _pixels(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch 3 height width"]:
        latents = self.parts.vqvae.quantize.embedding(tokens).unflatten(1, (self._grid, self._grid)).permute(0, 3, 1, 2)
        pixels = self.parts.vqvae.decode(latents, force_not_quantize=True, return_dict=False)[0]
        return (pixels / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def encode_media(self, media: Media) -> Int[Tensor, "batch tokens"]:
        """Return the tokens of pictures."""
        vqvae = self.parts.vqvae
        pixels = 2 * media.frames()[:, 0].to(vqvae.device) - 1
        parts = pixels.split(at_once(vqvae.device, pixels[0, 0].numel()))
        return torch.cat([vqvae.quantize(vqvae.encode(part).latents)[2][2].view(len(part), -1) for part in parts])

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> list[str]:
        """Return the lines of Python by which transformers and diffusers draw a picture (`report.card.OwnUse`)."""
        width, side = self.parts.vqvae.quantize.vq_embed_dim, self._grid
        asked = "".join(f", {name}={value!r}" for name, value in call.items())
        if call.get("guidance_scale", 1) != 1:
            asked += (
                f', negative_prompt_ids=tokenizer({self.settings.negative_prompt!r}, return_tensors="pt").input_ids'
            )
        decoder = place if whole else 'f"{base}/decoder"'
        return [
            "import torch",
            "from diffusers import VQModel",
            "from diffusers.image_processor import VaeImageProcessor",
            "from transformers import AutoTokenizer, LlamaForCausalLM",
            "",
            f"base = {base}",
            'tokenizer = AutoTokenizer.from_pretrained(f"{base}/tokenizer")',
            f"decoder = LlamaForCausalLM.from_pretrained({decoder}, dtype=torch.float32)",
            *([] if whole else [f"decoder.load_adapter({place})"]),
            'vqvae = VQModel.from_pretrained(f"{base}/vqvae")',
            f'words = tokenizer({prompt!r}, return_tensors="pt")',
            f"written = decoder.generate(**words{asked})[:, words.input_ids.shape[1] :]",
            "codes = written - len(tokenizer) + vqvae.config.num_vq_embeddings",
            f"latents = vqvae.quantize.get_codebook_entry(codes.flatten(), (1, {side}, {side}, {width}))",
            "pixels = vqvae.decode(latents, force_not_quantize=True).sample.detach()",
            "image = VaeImageProcessor().postprocess(pixels)[0]",
        ]

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of the decoder as peft, or the decoder's own `load_adapter(folder)`, reads it."""
        save_peft(self.networks["decoder"], adapter, folder)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the decoder as `LlamaForCausalLM.from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        merged(self.networks["decoder"], adapter).save_pretrained(folder)
