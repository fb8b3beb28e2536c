"""The losses of core/losses against other people's: TRL's own `_compute_loss` of its GRPO, RLOO and DPO trainers, run on given
log-probs in place of a model's, and verl's and the papers' formulas in PyTorch doubles where TRL has none (a loss per output, REINFORCE++,
PPO): `python tests/peers/trl_losses.py build/peers_losses`. Values and gradients, on random completions; 1e-5 relative."""
import subprocess
import sys
import types
from collections import defaultdict

import torch
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

torch.set_default_dtype(torch.float64)
G, GROUPS, LOW, HIGH, MOST = 4, 3, 0.2, 0.28, 16
N = G * GROUPS
questions, answers = [], []  # lines for the program; what it must say


def f32(x):
    return x.float().double()


def case(seed):
    gen = torch.Generator().manual_seed(seed)
    length = torch.randint(1, MOST + 1, (N,), generator=gen)
    mask = (torch.arange(MOST)[None, :] < length[:, None]).double()
    lp = f32(-2 * torch.rand(N, MOST, generator=gen) - 0.01)
    old, ref = f32(lp + 0.3 * torch.randn(N, MOST, generator=gen)), f32(lp + 0.3 * torch.randn(N, MOST, generator=gen))
    rewards = f32(torch.randint(0, 5, (N,), generator=gen) / 4 + torch.rand(N, generator=gen) / 8)
    return types.SimpleNamespace(length=length, mask=mask, lp=lp.requires_grad_(), old=old, ref=ref, rewards=rewards, gen=gen)


def flat(x, mask):
    return x.detach()[mask > 0].tolist()


def ask(name, words, want, what):
    questions.append(name + " " + " ".join(repr(float(w)) if not isinstance(w, (str, int)) else str(w) for w in words))
    answers.append((what, torch.cat([torch.as_tensor(w, dtype=torch.float64).reshape(-1) for w in want])))


def gradient(loss, c):
    c.lp.grad = None
    loss.backward()
    return loss.detach(), c.lp.grad[c.mask > 0]


def policy(kind, c, advantage, loss, what, clip=(LOW, HIGH), beta=0.0, max_length=MOST):
    """advantage: [N] or [N, T]"""
    full = advantage[:, None].expand(N, MOST) if advantage.dim() == 1 else advantage
    ask(kind, [*clip, beta, max_length, N, *c.length.tolist(), *flat(full, c.mask), *flat(c.lp, c.mask), *flat(c.old, c.mask),
               *flat(c.ref, c.mask)], gradient(loss, c), what)


class Anything:
    """Whatever a trainer asks of its accelerator, lists of metrics and model."""

    num_processes, training = 1, True

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction=None):
        return x


def trainer_of(c, **fields):
    """A trainer's fields without the trainer: its log-probs are c's."""
    common = dict(aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
                  epsilon_low=LOW, epsilon_high=HIGH, max_completion_length=MOST, current_gradient_accumulation_steps=1,
                  _entropy_bonus_enabled=False, model=Anything(), accelerator=Anything(), vllm_importance_sampling_correction=False,
                  _metrics={"train": defaultdict(list)},
                  args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
                  _get_per_token_logps_and_entropies=lambda *a, **k: (c.lp, torch.zeros_like(c.lp), None))
    return types.SimpleNamespace(**{**common, **fields})


def inputs_of(c, advantage):
    ids = torch.zeros(N, MOST, dtype=torch.long)
    return {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": c.mask, "advantages": advantage,
            "old_per_token_logps": c.old, "ref_per_token_logps": c.ref, "num_items_in_batch": c.mask.sum(),
            "old_logps": (c.old * c.mask).sum(1)}


def group_advantages(c, by_std):
    r = c.rewards.view(GROUPS, G)
    a = r - r.mean(1, keepdim=True)
    return f32((a / (r.std(1, keepdim=True) + 1e-4) if by_std else a).reshape(-1))


def trl_grpo(c):
    a = group_advantages(c, True)
    ask("advantages", ["grpo", 1, GROUPS, G, *c.rewards.tolist()], [a], "grpo: advantages")
    for kind, loss_type, level, beta in [("grpo", "grpo", "token", 0.04), ("dr_grpo", "dr_grpo", "token", 0.0),
                                         ("dapo", "dapo", "token", 0.0), ("gspo", "grpo", "sequence", 0.0),
                                         ("gspo", "grpo", "sequence", 0.04), ("cispo", "cispo", "token", 0.0)]:
        # TRL's epsilon_high of cispo is the bound itself, MiniMax's the distance from 1
        high = 1 + HIGH if kind == "cispo" else HIGH
        t = trainer_of(c, loss_type=loss_type, importance_sampling_level=level, beta=beta, epsilon_high=high)
        loss = GRPOTrainer._compute_loss(t, None, inputs_of(c, a))
        policy(kind, c, a, loss, f"{kind}, beta {beta}: TRL's GRPOTrainer", beta=beta)


def trl_rloo(c):
    r = c.rewards.view(GROUPS, G)
    a = f32((r - (r.sum(1, keepdim=True) - r) / (G - 1)).reshape(-1))  # rloo_trainer.py: leave one out
    ask("advantages", ["rloo", 0, GROUPS, G, *c.rewards.tolist()], [a], "rloo: advantages")
    loss = RLOOTrainer._compute_loss(trainer_of(c), None, inputs_of(c, a))
    policy("rloo", c, a, loss, "rloo: TRL's RLOOTrainer")


def per_output(c):
    """R1's equation 1: no peer ships it."""
    a, beta = group_advantages(c, True), 0.04
    ratio = ((c.lp - c.old) * c.mask).sum(1).exp()
    d = ((c.ref - c.lp) * c.mask).sum(1)
    loss = (-torch.min(ratio * a, ratio.clamp(1 - LOW, 1 + HIGH) * a) + beta * (d.exp() - d - 1)).mean()
    policy("grpo_sequence", c, a, loss, "grpo_sequence: R1, equation 1", beta=beta)


def reinforce_pp(c):
    """verl's compute_reinforce_plus_plus_outcome_advantage whitens returns over the batch; here rewards, of which a completion's
    tokens have one: the same when each completion counts once."""
    r = c.rewards
    a = f32((r - r.mean()) / (r.std(unbiased=False) + 1e-4))
    ask("advantages", ["reinforce_pp", 0, GROUPS, G, *r.tolist()], [a], "reinforce_pp: advantages")
    ratio = (c.lp - c.old).exp()
    token = -torch.min(ratio * a[:, None], ratio.clamp(1 - LOW, 1 + HIGH) * a[:, None])
    loss = ((token * c.mask).sum(1) / c.mask.sum(1)).mean()
    policy("reinforce_pp", c, a, loss, "reinforce_pp: REINFORCE++, equation 4")


def verl_ppo(c):
    """verl's core_algos: compute_gae_advantage_return, masked_whiten, compute_policy_loss (token-mean), compute_value_loss."""
    gamma, lam, clip = 0.99, 0.95, 0.2
    values = f32(0.5 * torch.randn(N, MOST, generator=c.gen))
    rewards = torch.zeros(N, MOST)
    rewards[torch.arange(N), c.length - 1] = c.rewards
    advantages, returns = torch.zeros(N, MOST), torch.zeros(N, MOST)
    for i in range(N):
        following, last = 0.0, 0.0
        for t in reversed(range(int(c.length[i]))):
            delta = rewards[i, t] + gamma * following - values[i, t]
            last = delta + gamma * lam * last
            advantages[i, t], returns[i, t], following = last, last + values[i, t], values[i, t]
        n = int(c.length[i])
        ask("gae", [gamma, lam, n, *rewards[i, :n].tolist(), *values[i, :n].tolist()],
            [advantages[i, :n], returns[i, :n]], "ppo: GAE as verl's")
    x, count = f32(advantages), c.mask.sum()
    mean = (x * c.mask).sum() / count
    variance = ((x - mean) ** 2 * c.mask).sum() / count * count / (count - 1)
    white = (x - mean) * torch.rsqrt(variance + 1e-8)
    ask("whiten", [int(count), *[1.0] * int(count), *flat(x, c.mask)], [white[c.mask > 0]], "ppo: masked_whiten as verl's and TRL's")
    a = f32(white)
    ratio = (c.lp - c.old).exp()
    loss = (torch.max(-a * ratio, -a * ratio.clamp(1 - LOW, 1 + HIGH)) * c.mask).sum() / count
    policy("ppo", c, a, loss, "ppo: policy loss as verl's, token-mean")
    target = f32(returns)
    now = f32(values + 0.3 * torch.randn(N, MOST, generator=c.gen)).requires_grad_()
    held = torch.clamp(now, values - clip, values + clip)
    value = 0.5 * (torch.max((now - target) ** 2, (held - target) ** 2) * c.mask).sum() / count
    value.backward()
    ask("values", [clip, int(count), *[float(1 / count)] * int(count), *flat(now, c.mask), *flat(values, c.mask),
                   *flat(target, c.mask)], [value.detach(), now.grad[c.mask > 0]], "ppo: value loss as verl's and TRL's")


def trl_dpo(c):
    """Outputs 0, 1: chosen and rejected of pair 0. TRL has all chosen first."""
    order = torch.cat([torch.arange(0, N, 2), torch.arange(1, N, 2)])

    class Model:
        def __init__(self, lp):
            self.lp = lp

        def __call__(self, **kwargs):
            return types.SimpleNamespace(log_probs=torch.cat([torch.zeros(N, 1), self.lp * c.mask], 1)[order])

    class Stop(Exception):
        pass

    for smoothing, loss_type in [(0.0, "sigmoid"), (0.1, "robust")]:
        beta, seen = 0.3, {}

        class Metrics(defaultdict):  # the loss is whole when the first metric is asked for; the rest needs a real model
            def __missing__(self, key):
                raise Stop

        t = types.SimpleNamespace(
            model=types.SimpleNamespace(training=True), accelerator=types.SimpleNamespace(device="cpu"), aux_loss_enabled=False,
            ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[loss_type], loss_weights=[1.0], use_weighting=False,
            beta=beta, label_smoothing=smoothing, _metrics={"train": Metrics()}, args=types.SimpleNamespace())
        ref = (c.ref * c.mask).sum(1)[order]
        mask = torch.cat([torch.zeros(N, 1), c.mask], 1)[order]
        inputs = {"completion_mask": mask, "input_ids": torch.zeros_like(mask).long(), "ref_chosen_logps": ref[:N // 2],
                  "ref_rejected_logps": ref[N // 2:]}
        loss = None
        try:
            loss = DPOTrainer._compute_loss(t, Model(c.lp), inputs, False)
        except Exception as stop:  # its frame holds the loss
            frame = stop.__traceback__
            while frame.tb_next and frame.tb_frame.f_code.co_name != "_compute_loss":
                frame = frame.tb_next
            seen = frame.tb_frame.f_locals
            loss = seen["loss"]
        if loss_type == "robust":  # TRL's is cDPO's loss made unbiased: (1 - e) l - e l' over 1 - 2 e; ours is (1 - e) l + e l'
            z = beta * (seen["delta_score"] if seen else None)
            loss = (-(1 - smoothing) * torch.nn.functional.logsigmoid(z) - smoothing * torch.nn.functional.logsigmoid(-z)).mean()
        ask("dpo", [beta, smoothing, N // 2, *c.length.tolist(), *flat(c.lp, c.mask), *flat(c.ref, c.mask)], gradient(loss, c),
            "dpo: " + ("TRL's DPOTrainer" if loss_type == "sigmoid" else "label smoothing on TRL's scores (cDPO)"))


def main(program):
    for seed in range(5):
        for check in trl_grpo, trl_rloo, per_output, reinforce_pp, verl_ppo, trl_dpo:
            check(case(seed))
    got = subprocess.run([program], input="\n".join(questions), capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(got) == len(answers), f"{len(got)} answers to {len(answers)} questions"
    worst = defaultdict(float)
    for line, (what, want) in zip(got, answers):
        have = torch.tensor([float(x) for x in line.split()])
        assert have.shape == want.shape, what
        worst[what] = max(worst[what], float((have - want).abs().max() / want.abs().max().clamp(min=1e-3)))
    for what, off in worst.items():
        print(f"{off:9.1e}  {what}")
        assert off < 1e-5, what


main(sys.argv[1])
