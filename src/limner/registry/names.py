"""What limner has, by name: the one list of concrete things. `MODULE:NAME` is imported when it is used."""

from __future__ import annotations

from collections.abc import Mapping

RECIPES = {
    "scenes": "limner.recipes.scenes:recipe",
    "scenes_grpo": "limner.recipes.scenes_grpo:recipe",
    "scenes_dpo": "limner.recipes.scenes_dpo:recipe",
    "scenes_tokens": "limner.recipes.scenes_tokens:recipe",
    "words": "limner.recipes.words:recipe",
    "emoji": "limner.recipes.emoji:recipe",
    "sd15": "limner.recipes.published:sd15",
    "sd35_medium": "limner.recipes.published:sd35_medium",
    "sdxl": "limner.recipes.published:sdxl",
    "flux1_dev": "limner.recipes.published:flux1_dev",
    "qwen_image": "limner.recipes.published:qwen_image",
    "wan_1_3b": "limner.recipes.published:wan_1_3b",
}
MODELS = {
    "sd3": "limner.models.sd3.settings:SD3Settings",
    "sd": "limner.models.sd.settings:SDSettings",
    "flux": "limner.models.flux.settings:FluxSettings",
    "flux2": "limner.models.flux2.settings:Flux2Settings",
    "flux2_klein": "limner.models.flux2.settings:Flux2KleinSettings",
    "chroma": "limner.models.chroma.settings:ChromaSettings",
    "qwen_image": "limner.models.qwen_image.settings:QwenImageSettings",
    "z_image": "limner.models.z_image.settings:ZImageSettings",
    "sana": "limner.models.sana.settings:SanaSettings",
    "wan": "limner.models.wan.settings:WanSettings",
    "ltx": "limner.models.ltx.settings:LTXSettings",
    "tokens": "limner.models.tokens.settings:TokensSettings",
    "janus": "limner.models.janus.settings:JanusSettings",
    "emu3": "limner.models.emu3.settings:Emu3Settings",
    "gan": "limner.models.gan.settings:GANSettings",
}
ADAPTERS = {
    "sd3": "limner.models.sd3.adapter:SD3",
    "sd": "limner.models.sd.adapter:SD",
    "flux": "limner.models.flux.family:FLUX",
    "flux2": "limner.models.flux2.family:FLUX2",
    "flux2_klein": "limner.models.flux2.family:FLUX2_KLEIN",
    "chroma": "limner.models.chroma.family:CHROMA",
    "qwen_image": "limner.models.qwen_image.family:QWEN_IMAGE",
    "z_image": "limner.models.z_image.family:Z_IMAGE",
    "sana": "limner.models.sana.family:SANA",
    "wan": "limner.models.wan.adapter:Wan",
    "ltx": "limner.models.ltx.family:LTX",
    "tokens": "limner.models.tokens.adapter:Tokens",
    "janus": "limner.models.janus.dialect:JANUS",
    "emu3": "limner.models.emu3.dialect:EMU3",
    "gan": "limner.models.gan.adapter:GAN",
}
"""What knows the layers that LoRA adapts, by kind."""
PUBLISHED = {
    "sd": "limner.models.sd.published:PUBLISHED",
    "sd3": "limner.models.sd3.published:PUBLISHED",
    "flux": "limner.models.flux.published:PUBLISHED",
    "flux2": "limner.models.flux2.published:PUBLISHED",
    "flux2_klein": "limner.models.flux2.published:PUBLISHED_KLEIN",
    "chroma": "limner.models.chroma.published:PUBLISHED",
    "qwen_image": "limner.models.qwen_image.published:PUBLISHED",
    "z_image": "limner.models.z_image.published:PUBLISHED",
    "sana": "limner.models.sana.published:PUBLISHED",
    "wan": "limner.models.wan.published:PUBLISHED",
    "ltx": "limner.models.ltx.published:PUBLISHED",
}
FRESH = {
    "sd3": "limner.models.sd3.pretraining:SD3Pretraining",
    "sd": "limner.models.sd.pretraining:SDPretraining",
    "wan": "limner.models.wan.pretraining:WanPretraining",
    "tokens": "limner.models.tokens.pretraining:TokensPretraining",
    "gan": "limner.models.gan.pretraining:GANPretraining",
}
BASES = {
    "scenes": "limner.worlds.scenes.reward:BASE",
    "scenes_sd": "limner.worlds.scenes.reward:BASE_SD",
    "scenes_tokens": "limner.worlds.scenes.reward:BASE_TOKENS",
    "words": "limner.worlds.words.world:BASE",
    "emoji": "limner.worlds.emoji.world:BASE",
}
WORLDS = {
    "scenes": "limner.worlds.scenes.reward:Scenes",
    "words": "limner.worlds.words.world:Words",
    "emoji": "limner.worlds.emoji.world:Emojis",
    "motion": "limner.worlds.motion.world:Motions",
}
PROMPTS = {
    "emoji": "limner.worlds.emoji.grammar:prompts",
    "scenes": "limner.worlds.scenes.grammar:prompts",
    "words": "limner.worlds.words.grammar:prompts",
    "motion": "limner.worlds.motion.grammar:prompts",
    "oracle": "limner.worlds.oracle.world:prompts",
}
REWARDS = {
    "scenes": "limner.worlds.scenes.reward:scenes",
    "scenes_fraction": "limner.worlds.scenes.reward:scenes_fraction",
    "motion": "limner.worlds.motion.reward:motion",
    "motion_fraction": "limner.worlds.motion.reward:motion_fraction",
    "emoji": "limner.worlds.emoji.judges:EmojiJudge",
    "emoji_second": "limner.worlds.emoji.judges:EmojiSecond",
    "o1": "limner.worlds.oracle.reward:o1",
    "o2": "limner.worlds.oracle.reward:o2",
    "o3": "limner.worlds.oracle.reward:o3",
    "o4": "limner.worlds.oracle.reward:o4",
    "video_flicker": "limner.rewards.video.steadiness:video_flicker",
    "video_smoothness": "limner.rewards.video.steadiness:video_smoothness",
    "video_warp": "limner.rewards.video.motion:video_warp",
    "video_dynamics": "limner.rewards.video.motion:VideoDynamics",
    "video_consistency": "limner.rewards.video.subject:video_consistency",
    "video_track": "limner.rewards.video.subject:video_track",
    "video_subject": "limner.rewards.video.features:VideoSubject",
    "video_surprise": "limner.rewards.video.surprise:VideoSurprise",
    "video_bounce": "limner.rewards.video.bounce:video_bounce",
    "video_reference": "limner.rewards.video.reference:video_reference",
    "jpeg_size": "limner.rewards.jpeg_size:jpeg_size",
    "jpeg_compressibility": "limner.rewards.jpeg_size:jpeg_compressibility",
    "sharpness": "limner.rewards.sharpness:sharpness",
    "contrast": "limner.rewards.contrast:contrast",
    "colourfulness": "limner.rewards.colourfulness:colourfulness",
    "symmetry": "limner.rewards.symmetry:Symmetry",
    "layout": "limner.rewards.layout:layout",
    "brisque": "limner.rewards.brisque.reward:Brisque",
    "clip_score": "limner.rewards.vision.clip_score:ClipScore",
    "pickscore": "limner.rewards.vision.pickscore:PickScore",
    "laion_aesthetic": "limner.rewards.vision.laion_aesthetic:LaionAesthetic",
    "hpsv2": "limner.rewards.vision.hpsv2:HPSv2",
    "image_reward": "limner.rewards.vision.image_reward:ImageReward",
    "dino_similarity": "limner.rewards.vision.dino_similarity:DinoSimilarity",
    "vqa_score": "limner.rewards.vision.vqa_score:VqaScore",
    "ocr": "limner.rewards.ocr:OCR",
    "remote": "limner.rewards.remote:Remote",
    "vlm_yes_no": "limner.rewards.vlm.yes_no:VLMYesNo",
    "vlm_rubric": "limner.rewards.vlm.rubric:VLMRubric",
    "vlm_checklist": "limner.rewards.vlm.checklist:VLMChecklist",
    "vlm_pairwise": "limner.rewards.vlm.pairwise:VLMPairwise",
    "annotator": "limner.worlds.annotator:Annotator",
    "learned": "limner.rewards.learned.reward:Learned",
    "geneval_hf": "limner.rewards.vision.geneval_hf:GenEvalHF",
}
ALGORITHMS = {
    "DDPO": "limner.algorithms.ddpo:DDPO",
    "PPO": "limner.algorithms.ppo:PPO",
    "TRPO": "limner.algorithms.trpo:TRPO",
    "FlowGRPO": "limner.algorithms.flow_grpo:FlowGRPO",
    "GRPOGuard": "limner.algorithms.grpo_guard:GRPOGuard",
    "FlowDPPO": "limner.algorithms.flow_dppo:FlowDPPO",
    "DiffusionNFT": "limner.algorithms.diffusion_nft:DiffusionNFT",
    "DGPO": "limner.algorithms.dgpo:DGPO",
    "AWM": "limner.algorithms.awm:AWM",
    "DPO": "limner.algorithms.dpo:DPO",
    "KTO": "limner.algorithms.kto:KTO",
    "MaPO": "limner.algorithms.mapo:MaPO",
    "DSPO": "limner.algorithms.dspo:DSPO",
    "D3PO": "limner.algorithms.d3po:D3PO",
    "RewardWeighted": "limner.algorithms.reward_weighted:RewardWeighted",
}
DYNAMICS = {
    "FlowSDE": "limner.diffusion.dynamics:FlowSDE",
    "DanceSDE": "limner.diffusion.dynamics:DanceSDE",
    "CPS": "limner.diffusion.dynamics:CPS",
    "DDIM": "limner.diffusion.dynamics:DDIM",
    "EulerODE": "limner.diffusion.dynamics:EulerODE",
    "DPMSolver": "limner.diffusion.dynamics:DPMSolver",
}
SAMPLERS = {
    "Sampler": "limner.policies.denoising:Sampler",
    "TokenSampler": "limner.policies.tokens:TokenSampler",
    "MaskedSampler": "limner.policies.masked:MaskedSampler",
    "OneStepSampler": "limner.policies.one_step:OneStepSampler",
}
SOURCES = {
    "Drawn": "limner.training.source:Drawn",
    "Pictures": "limner.training.source:Pictures",
    "Preferences": "limner.training.source:Preferences",
}
FOCUSES = {
    "Everywhere": "limner.training.focus:Everywhere",
    "Patches": "limner.training.focus:Patches",
    "Local": "limner.training.focus:Local",
    "Critical": "limner.training.critical:Critical",
    "Unlike": "limner.training.critical:Unlike",
}
TRAININGS = {"Lora": "limner.training.config:Lora", "Full": "limner.training.config:Full"}
REGISTRIES: Mapping[str, Mapping[str, str]] = {
    "recipes": RECIPES,
    "models": MODELS,
    "rewards": REWARDS,
    "algorithms": ALGORITHMS,
    "dynamics": DYNAMICS,
    "samplers": SAMPLERS,
    "sources": SOURCES,
    "focuses": FOCUSES,
    "trainings": TRAININGS,
}
"""What a user chooses from by name."""

SEAMS: Mapping[str, tuple[str, ...]] = {
    "models": ("serves", "load", "call"),
    "algorithms": ("needs", "num_updates", "advantage", "pass_loss"),
    "dynamics": ("stochastic", "step", "deterministic"),
    "samplers": ("policy", "require", "plain", "described", "call"),
    "sources": ("draws", "scored"),
    "focuses": ("judge", "look", "spread"),
    "trainings": ("whole", "weights", "export", "described"),
}
"""What a class must have to stand in a configuration as one of these: `core/protocols.py`, `diffusion/dynamics.py`."""
