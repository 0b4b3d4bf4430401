"""Write docs/coverage.md: every family of methods that limner is for, and the evidence there is that ours is right.

    python benchmarks/coverage.py [--check]

E1: a test file in the repository names it and asserts values. E2: rows in docs/results/oracles.json of all of its seeds
gained reward on every oracle world. A family without either is "not implemented". `--check` writes nothing and fails if
the file is not what would be written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from limner.bench.oracle_report import read
from page import ROOT, main

MIN_SEEDS = 5


@dataclass(frozen=True)
class Family:
    """A family of methods; `use` is how one gets it, `test` the file whose text names `word`, `entry` its bench row."""

    name: str
    use: str = ""
    test: str = ""
    word: str = ""
    entry: str = ""
    reason: str = ""
    """Why it is absent, where that is meant."""


CONTRACT = "tests/algorithms/test_contract.py"
ANNOTATED = "tests/bench/test_annotated.py"
PREFERENCE = "tests/objectives/test_preference.py"
CHOICE = "tests/objectives/test_choice.py"
RATING = "tests/objectives/test_rating.py"
ALGEBRA = "tests/rewards/test_algebra.py"
DYNAMICS = "tests/diffusion/test_dynamics.py"
PUBLISHED = "tests/algorithms/test_published.py"
PRESETS = "tests/cli/test_presets.py"
SECTIONS: dict[str, list[Family]] = {
    "How samples are drawn": [
        Family("DDIM(eta), DDPM", "DDIM", DYNAMICS, "DDIM"),
        Family("flow ODE to SDE (Flow-GRPO)", "FlowSDE", DYNAMICS, "FlowSDE"),
        Family("DanceGRPO's SDE", "DanceSDE", DYNAMICS, "DanceSDE"),
        Family("... and the noise of Flow-GRPO's code for Wan, S = s_N + (s_1 - s_N) t", "DanceSDE(0, slope=...)",
               DYNAMICS, "test_noise_that_grows"),
        Family("Flow-CPS", "CPS", DYNAMICS, "CPS"),
        Family("... its ratio from the squared distance alone", "FlowGRPO(ratio=...)", PUBLISHED, "test_a_ratio_of"),
        Family("windows of stochastic steps, drawn or sliding (MixGRPO, Flow-GRPO-Fast)", "Sampler(window=...)",
               "tests/policies/test_denoising.py", "window_schedule"),
        Family("... that shorten at the end of the grid, and a decay counted from its last step (MixGRPO's code)",
               reason="a shortened window learns from fewer decisions at the same price, and the last of all from "
               "none; here windows keep their size, and the decay is counted to the last of them"),
        Family("a last step from t = 1/T to 0 that is stochastic (DDPO)",
               reason="the last step removes all noise that is left, and no other could remove what it would add: it "
               "is none of the decisions"),
        Family("DPM-Solver++(2M)", "DPMSolver", DYNAMICS, "DPMSolver"),
        Family("... outside MixGRPO's window"),
        Family("autoregressive token policies", "TokenSampler", "tests/policies/test_tokens.py", "TokenSampler"),
        Family("masked token policies, random and Plackett-Luce order", "MaskedSampler(order=...)",
               "tests/policies/test_masked.py", "plackett_luce"),
        Family("... confidence order, by an estimator", "MaskedSampler(order=...)", "tests/policies/test_masked.py",
               "confidence"),
        Family("few-step policies (LCM, SDXL-Turbo)", "CPS(1), DDIM(1)", DYNAMICS, "LCM"),
        Family("... on a quarter circle (SANA-Sprint)", "CPS(1)", "tests/models/test_sana_sprint.py", "CPS"),
        Family("one-step policies (GAN)", "OneStepSampler", "tests/policies/test_one_step.py", "OneStepSampler"),
        Family("... of a conditional GAN of latents, and its pretraining", "model.settings.learns",
               "tests/models/test_gan.py", "OneStepSampler"),
        Family("... by noise that is led before it is given to a frozen generator (HyperNoise)",
               "OneStepSampler(chance=...)", "tests/models/test_gan.py", "test_noise_that_is_led"),
    ],
    "Policy gradients over the denoising steps": [
        Family("REINFORCE (DDPO-SF)", "preset reinforce", CONTRACT, 'surrogate="score"', "REINFORCE"),
        Family("DDPO", "DDPO", "tests/algorithms/test_memory.py", "DDPO", "DDPO"),
        Family("PPO with a critic, GAE", "PPO", "tests/algorithms/test_memory.py", "PPO", "PPO"),
        Family("DPOK", "preset dpok", CONTRACT, 'surrogate="clip"', "DPOK"),
        Family("TRPO", "TRPO", "tests/algorithms/test_trpo.py", "TRPO", "TRPO"),
        Family("Flow-GRPO", "FlowGRPO", CONTRACT, "FlowGRPO", "Flow-GRPO"),
        Family("... with its penalty", "FlowGRPO(kl_weight=...)", CONTRACT, "kl_weight=0.1", "Flow-GRPO, KL 0.3"),
        Family("... estimated by k3", "FlowGRPO(kl=...)", PUBLISHED, "test_a_penalty_by_k3"),
        Family("DanceGRPO", "preset dance_grpo", PRESETS, "dance_grpo"),
        Family("MixGRPO", "preset mix_grpo", "tests/policies/test_denoising.py", "progressive"),
        Family("Dr.GRPO", "preset dr_grpo", "tests/objectives/test_advantage.py", '"none"'),
        Family("GRPO-Guard", "GRPOGuard", CONTRACT, "test_guard_by_hand", "GRPO-Guard"),
        Family("... with a penalty", "GRPOGuard(kl_weight=...)", PUBLISHED, "test_a_penalty_of_grpo_guard"),
        Family("Flow-DPPO", "FlowDPPO", CONTRACT, "test_flow_dppo_by_hand", "Flow-DPPO"),
        Family("GDPO, decoupled rewards", "preset gdpo", "tests/rewards/test_within.py", "test_gdpo_is"),
        Family("Pref-GRPO, shares of wins", "preset pref_grpo", "tests/rewards/test_within.py", "test_pref_grpo"),
        Family("... from a pairwise judge", "win_rate(vlm_pairwise(...))", ALGEBRA, "test_a_win_rate_asks"),
        Family("TempFlow-GRPO", "preset temp_flow_grpo", "tests/policies/test_denoising.py", "shared_start"),
        Family("BranchGRPO", "preset branch_grpo", "tests/policies/test_denoising.py", "splits", "BranchGRPO"),
        Family("... its nodes' values weighted by the softmax of the children's log-probabilities",
               reason="summed over a latent they would give one child all the weight; averaged over it, as published, "
               "next to the plain mean that stands here"),
        Family("... its pruning, TreeGRPO"),
        Family("DPPO's clip range by step, TDPO's rewards by step"),
        Family("ViPO, an advantage for each place", "--focus Patches", "tests/objectives/test_focus.py",
               "test_a_map_is_what_numpy_makes_of_the_formula"),
        Family("an advantage for each block of frames", "--focus Local", "tests/training/test_focus.py",
               "test_frames_that_are_judged_one_by_one_teach_their_own_times"),
        Family("BPGO, weights of groups and its transform of rewards", "--reliability.alpha, .transform",
               "tests/objectives/test_reliability.py", "published"),
        Family("GCPO's critical tokens, STAGE's unlike ones", "--focus Critical, Unlike",
               "tests/training/test_critical.py", "Unlike"),
        Family("GARDO: penalty and advantage by uncertainty and diversity"),
    ],
    "Forward process": [
        Family("DiffusionNFT", "DiffusionNFT", CONTRACT, "DiffusionNFT", "DiffusionNFT"),
        Family("... on policy", "DiffusionNFT(decay=...)", CONTRACT, "test_nft_on_policy", "DiffusionNFT, on policy"),
        Family("... its published settings: neutral samples learned from, decay by optimizer steps",
               "preset diffusion_nft", PUBLISHED, "test_neutral_samples"),
        Family("AWM", "AWM", CONTRACT, "test_awm_compares", "AWM"),
        Family("... its penalty weighted as the ELBO is", "AWM(kl_by_noise=True)", PUBLISHED, "test_a_penalty_of_awm"),
        Family("... its second penalty, towards an average of the weights",
               reason="it needs a fourth set of weights beside the trained, the reference and the old ones"),
        Family("ELBO policy gradient", "preset elbo", CONTRACT, "test_awm_is_the_policy_gradient_of_the_elbo", "ELBO"),
        Family("DGPO", "DGPO", CONTRACT, "test_dgpo_by_hand", "DGPO"),
        Family("RWR", "preset rwr", CONTRACT, "RewardWeighted", "RWR"),
        Family("RAFT, ReST, best-of-N fine-tuning", "preset raft", "tests/objectives/test_advantage.py", "best_weight",
               "RAFT"),
        Family("data anchor (DDRL)", "--anchor.data, any algorithm", "tests/training/test_anchor.py", "Anchor"),
        Family("distillation beside (DMDR)", "--anchor.data chains.pt", "tests/training/test_anchor.py", "OnTeacher"),
    ],
    "Preferences": [
        Family("Diffusion-DPO, Flow-DPO", "preset diffusion_dpo, flow_dpo", ANNOTATED, "test_diffusion_dpo_finds",
               "DPO"),
        Family("DenseDPO, segments of clips", "preset dense_dpo", "tests/algorithms/test_segments.py", "DenseDPO"),
        Family("IPO", "preset ipo", PREFERENCE, "test_the_optimum_of_ipo", "IPO"),
        Family("hinge", "preset slic", PREFERENCE, "test_hinge"),
        Family("online DPO, its reference refreshed", "preset online_dpo", ANNOTATED,
               "test_a_reference_that_is_refreshed", "DPO, online"),
        Family("D3PO", "D3PO", CONTRACT, "D3PO", "D3PO"),
        Family("SPO", "preset spo", CONTRACT, "D3PO", "SPO"),
        Family("PSO", "preset pso", PUBLISHED, "test_pso_learns_the_three_decisions_of_four_steps"),
        Family("Diffusion-KTO", "KTO", PREFERENCE, "test_kto_by_hand", "KTO"),
        Family("MaPO", "MaPO", "tests/run/test_pairs.py", "test_mapo_keeps_no_reference", "MaPO"),
        Family("DSPO", "DSPO", PREFERENCE, "tilted_score_loss", "DSPO"),
        Family("CaPO", "preset capo", PREFERENCE, "calibrated_pair"),
    ],
    "Reward gradients": [
        Family("a surrogate reward that is learned along (TDM-R1), for generators of one step", "SurrogateGradient",
               "tests/algorithms/test_surrogate_gradient.py", "SurrogateGradient"),
        Family("... of the states of few steps"),
        Family("ReFL"),
        Family("DRaFT-K, DRaFT-LV"),
        Family("AlignProp"),
        Family("VADER"),
        Family("DRTune"),
        Family("SRPO"),
        Family("adjoint matching"),
        Family("LeapAlign, FlowBP"),
    ],
    "At inference": [
        Family("best-of-N"),
        Family("FK steering"),
        Family("DAS"),
        Family("SVDD"),
        Family("ReNO"),
        Family("reward guidance"),
    ],
    "Reward models and feedback": [
        Family("weights of clauses (Bradley-Terry)", "fit_clauses", "tests/rewards/test_checklist.py", "fit_clauses"),
        Family("a reward learned from pairs, rankings and ratings", "limner reward train", CHOICE, "ranking_loss"),
        Family("... contrasted within a batch (PickScore)", "reward train --contrast 0.5", CHOICE, "contrast_loss"),
        Family("... with ties (VideoReward)", "reward train --design.ties rao_kupper", CHOICE, "rao_and_kupper"),
        Family("... VideoReward's published network", "videoalign(folder=...)", "tests/rewards/test_videoalign.py",
               "test_it_is_a_head_on_the_states"),
        Family("... with a spread (HPSv3)", "reward train --design.gaussian true", CHOICE, "uncertain_choice_loss"),
        Family("rating aggregation (ties, Plackett-Luce)", "limner feedback report", RATING, "fit_rankings"),
        Family("who judges well (noisy Bradley-Terry)", "limner feedback report", RATING, "fit_people"),
        Family("annotator agreement", "limner feedback report", "tests/feedback/test_agreement.py", "krippendorff"),
    ],
    "Several objectives": [
        Family("weighted sum, geometric product", "A + 0.3 * B, A ** 0.7 * B ** 0.3", ALGEBRA, "a ** 2 * p"),
        Family("worst-of, gate, lexicographic", "worst, gate, lexicographic", ALGEBRA, "Worst"),
        Family("constraint with a multiplier", "constrained", ALGEBRA, "test_a_multiplier"),
        Family("pessimism over an ensemble, by std or by variance", "pessimistic(a, b, ddof=1, power=2)", ALGEBRA,
               "power=2"),
        Family("closed-form dual of a constraint"),
        Family("Pareto fronts, Parrot"),
        Family("rewarded soups"),
        Family("reward dropout"),
        Family("hacking detectors"),
    ],
}  # fmt: skip


def page() -> str:
    """Return the whole page."""
    lines = [
        "# Coverage",
        "",
        "What limner is for, and what stands. **E1**: unit or property test. **E2**: learns on all three",
        "[oracle worlds](oracles.md), five seeds each (`limner bench oracles`), with the settings of the row that is",
        "named, those of `src/limner/bench/oracles.py`, not of a preset. Written by `python benchmarks/coverage.py`; a",
        "test compares.",
    ]
    learned = entries()
    for title, families in SECTIONS.items():
        lines += ["", f"## {title}", "", "| family | use | evidence |", "|---|---|---|"]
        lines += [f"| {f.name} | {f'`{f.use}`' if f.use else ''} | {evidence(f, learned)} |" for f in families]
    return "\n".join(lines) + "\n"


def evidence(family: Family, learned: set[str]) -> str:
    """Return the level that was passed, and where."""
    if not family.test:
        return f"not implemented: {family.reason}" if family.reason else "not implemented"
    if family.word not in (ROOT / family.test).read_text(encoding="utf-8"):
        raise ValueError(f"{family.test} does not name {family.word}")
    return f"{f'E2 (row {family.entry})' if family.entry in learned else 'E1'}, `{family.test}`"


def entries() -> set[str]:
    """Return the bench entries that gained reward on every world with every seed."""
    path = ROOT / "docs" / "results" / "oracles.json"
    if not path.exists():
        return set()
    curves = read(path)
    names = {name for name, _, _ in curves}
    worlds = {world for _, world, _ in curves}

    def passed(name: str) -> bool:
        found = {key[1:]: points[-1].reward > 0 for key, points in curves.items() if key[0] == name}
        return all(sum(world == w for w, _ in found) >= MIN_SEEDS for world in worlds) and all(found.values())

    return {name for name in names if passed(name)}


if __name__ == "__main__":
    sys.exit(main("coverage.md", __doc__ or "", page))
