"""limner: reinforcement learning for visual generative models.

    import limner

    run = limner.train("scenes")                      # or a RunConfig, or a config.yaml
    run.sample("two red stars").stills()              # pictures, 8 bits: [4, 3, 64, 64]
    run.export("my-lora")                             # a LoRA that diffusers loads

Names are loaded when they are used, so that `import limner` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from limner.registry.names import ALGORITHMS, DYNAMICS, MODELS, SAMPLERS, SOURCES, TRAININGS

_HOMES = (
    *ALGORITHMS.values(),
    *DYNAMICS.values(),
    *MODELS.values(),
    *SAMPLERS.values(),
    *SOURCES.values(),
    *TRAININGS.values(),
    "limner.core.types:Prompt",
    "limner.core.media:Images",
    "limner.core.media:Videos",
    "limner.core.types:RewardOutput",
    "limner.core.errors:UserError",
    "limner.core.errors:RunError",
    "limner.core.errors:JudgeFailure",
    "limner.core.needs:Needs",
    "limner.learning.restoration:Noising",
    "limner.training.source:given",
    "limner.training.config:RunConfig",
    "limner.training.config:Model",
    "limner.training.config:DataAnchor",
    "limner.training.config:NamedSampler",
    "limner.training.config:Optimizer",
    "limner.training.config:Precision",
    "limner.training.config:Evaluation",
    "limner.training.snapshots:Snapshots",
    "limner.recipes.named:recipe",
    "limner.recipes.presets:with_preset",
    "limner.recipes.override:override",
    "limner.run:Run",
    "limner.run:check",
    "limner.run:train",
    "limner.run:open_run",
)
_HOME = {home.partition(":")[2]: home for home in _HOMES}

__all__ = sorted(_HOME)

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from limner.algorithms.awm import AWM as AWM
    from limner.algorithms.d3po import D3PO as D3PO
    from limner.algorithms.ddpo import DDPO as DDPO
    from limner.algorithms.dgpo import DGPO as DGPO
    from limner.algorithms.diffusion_nft import DiffusionNFT as DiffusionNFT
    from limner.algorithms.dpo import DPO as DPO
    from limner.algorithms.dspo import DSPO as DSPO
    from limner.algorithms.flow_dppo import FlowDPPO as FlowDPPO
    from limner.algorithms.flow_grpo import FlowGRPO as FlowGRPO
    from limner.algorithms.grpo_guard import GRPOGuard as GRPOGuard
    from limner.algorithms.kto import KTO as KTO
    from limner.algorithms.mapo import MaPO as MaPO
    from limner.algorithms.ppo import PPO as PPO
    from limner.algorithms.reward_weighted import RewardWeighted as RewardWeighted
    from limner.algorithms.surrogate_gradient import SurrogateGradient as SurrogateGradient
    from limner.algorithms.trpo import TRPO as TRPO
    from limner.core.errors import JudgeFailure as JudgeFailure
    from limner.core.errors import RunError as RunError
    from limner.core.errors import UserError as UserError
    from limner.core.media import Images as Images
    from limner.core.media import Videos as Videos
    from limner.core.needs import Needs as Needs
    from limner.core.types import Prompt as Prompt
    from limner.core.types import RewardOutput as RewardOutput
    from limner.diffusion.dynamics import CPS as CPS
    from limner.diffusion.dynamics import DDIM as DDIM
    from limner.diffusion.dynamics import DanceSDE as DanceSDE
    from limner.diffusion.dynamics import DPMSolver as DPMSolver
    from limner.diffusion.dynamics import EulerODE as EulerODE
    from limner.diffusion.dynamics import FlowSDE as FlowSDE
    from limner.learning.restoration import Noising as Noising
    from limner.models.amused.settings import AmusedSettings as AmusedSettings
    from limner.models.animatediff.settings import AnimateDiffSettings as AnimateDiffSettings
    from limner.models.aura_flow.settings import AuraFlowSettings as AuraFlowSettings
    from limner.models.chroma.settings import ChromaSettings as ChromaSettings
    from limner.models.cog_video.settings import CogVideoSettings as CogVideoSettings
    from limner.models.cogview4.settings import CogView4Settings as CogView4Settings
    from limner.models.emu3.settings import Emu3Settings as Emu3Settings
    from limner.models.flux.settings import FluxKontextSettings as FluxKontextSettings
    from limner.models.flux.settings import FluxSettings as FluxSettings
    from limner.models.flux2.settings import Flux2KleinSettings as Flux2KleinSettings
    from limner.models.flux2.settings import Flux2Settings as Flux2Settings
    from limner.models.gan.settings import GANSettings as GANSettings
    from limner.models.hidream.settings import HiDreamSettings as HiDreamSettings
    from limner.models.hunyuan_dit.settings import HunyuanDiTSettings as HunyuanDiTSettings
    from limner.models.hunyuan_image.settings import HunyuanImageSettings as HunyuanImageSettings
    from limner.models.hunyuan_video.settings import HunyuanVideoSettings as HunyuanVideoSettings
    from limner.models.janus.settings import JanusSettings as JanusSettings
    from limner.models.ltx.settings import LTXSettings as LTXSettings
    from limner.models.lumina2.settings import Lumina2Settings as Lumina2Settings
    from limner.models.mochi.settings import MochiSettings as MochiSettings
    from limner.models.pixart.settings import PixArtSettings as PixArtSettings
    from limner.models.qwen_image.settings import QwenImageEditPlusSettings as QwenImageEditPlusSettings
    from limner.models.qwen_image.settings import QwenImageEditSettings as QwenImageEditSettings
    from limner.models.qwen_image.settings import QwenImageSettings as QwenImageSettings
    from limner.models.sana.settings import SanaSettings as SanaSettings
    from limner.models.sana.settings import SanaSprintSettings as SanaSprintSettings
    from limner.models.sd.settings import SDSettings as SDSettings
    from limner.models.sd3.settings import SD3Settings as SD3Settings
    from limner.models.tokens.settings import TokensSettings as TokensSettings
    from limner.models.wan.settings import WanSettings as WanSettings
    from limner.models.z_image.settings import ZImageSettings as ZImageSettings
    from limner.policies.denoising import Sampler as Sampler
    from limner.policies.masked import MaskedSampler as MaskedSampler
    from limner.policies.one_step import OneStepSampler as OneStepSampler
    from limner.policies.tokens import TokenSampler as TokenSampler
    from limner.recipes.named import recipe as recipe
    from limner.recipes.override import override as override
    from limner.recipes.presets import with_preset as with_preset
    from limner.run import Run as Run
    from limner.run import check as check
    from limner.run import open_run as open_run
    from limner.run import train as train
    from limner.training.config import DataAnchor as DataAnchor
    from limner.training.config import Evaluation as Evaluation
    from limner.training.config import Full as Full
    from limner.training.config import Lora as Lora
    from limner.training.config import Model as Model
    from limner.training.config import NamedSampler as NamedSampler
    from limner.training.config import Optimizer as Optimizer
    from limner.training.config import Precision as Precision
    from limner.training.config import RunConfig as RunConfig
    from limner.training.snapshots import Snapshots as Snapshots
    from limner.training.source import Drawn as Drawn
    from limner.training.source import Pictures as Pictures
    from limner.training.source import Preferences as Preferences
    from limner.training.source import given as given
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'limner' has no attribute {name!r}")
        module, _, attribute = _HOME[name].partition(":")
        return vars(importlib.import_module(module))[attribute]


def __dir__() -> list[str]:
    return __all__
