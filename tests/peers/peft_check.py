"""Adapters in both directions: python tests/peers/peft_check.py R1 BASE FOLDER [ADAPTER]. peft loads an adapter that r1 wrote
(ADAPTER), and r1 loads one that peft wrote to FOLDER; log-probs of BASE with it agree within 1e-5."""
import json
import subprocess
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]


def r1_scores(r1, base, adapter):
    line = json.dumps({"ids": IDS})
    out = subprocess.run([r1, "score", base, "--adapter", adapter, "--ids", "-"], input=line, text=True, check=True,
                         capture_output=True).stdout
    return torch.tensor(json.loads(out.splitlines()[0])["logprobs"], dtype=torch.float64)


def peer_scores(model):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        lp = model.eval()(ids).logits[0].double().log_softmax(-1)
    return lp[:-1].gather(1, ids[0, 1:, None])[:, 0]


def compare(what, a, b, plain):
    gap, moved = (a - b).abs().max().item(), (a - plain).abs().max().item()
    print(f"{what}: largest difference {gap:.2e}, the adapter moves log-probs by {moved:.2e}")
    assert gap < 1e-5 < moved


def main(r1, base, folder, ours=None):
    def load():
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager",
                                                    experts_implementation="eager")

    plain = peer_scores(load())
    names = {n.rsplit(".", 1)[-1] for n, m in load().named_modules() if isinstance(m, torch.nn.Linear)}
    targets = sorted(names & {"q_proj", "k_proj", "v_proj", "o_proj", "kv_a_proj_with_mqa", "kv_b_proj"})
    torch.manual_seed(0)
    model = get_peft_model(load(), LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    model.save_pretrained(folder)
    compare("peft's adapter in r1", r1_scores(r1, base, folder), peer_scores(model), plain)
    if ours:
        compare("r1's adapter in peft", r1_scores(r1, base, ours), peer_scores(PeftModel.from_pretrained(load(), ours)), plain)


if __name__ == "__main__":
    main(*sys.argv[1:])
