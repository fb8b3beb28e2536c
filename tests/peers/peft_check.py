"""Adapters in both directions: python tests/peers/peft_check.py R1 FOLDER BASE... For every model folder BASE r1 loads an adapter
that peft wrote to FOLDER, and peft loads it again as r1 writes it; log-probs of BASE with it agree within 1e-5."""
import json
import shutil
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


def check(r1, folder, base):
    def load():
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager",
                                                    experts_implementation="eager")

    print(base)
    theirs, ours = f"{folder}/theirs", f"{folder}/ours"
    for old in (theirs, ours):
        shutil.rmtree(old, ignore_errors=True)
    plain = peer_scores(load())
    names = {n.rsplit(".", 1)[-1] for n, m in load().named_modules() if isinstance(m, torch.nn.Linear)}
    targets = sorted(names & {"q_proj", "k_proj", "v_proj", "o_proj", "kv_a_proj_with_mqa", "kv_b_proj"})
    torch.manual_seed(0)
    model = get_peft_model(load(), LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    model.save_pretrained(theirs)
    compare("peft's adapter in r1", r1_scores(r1, base, theirs), peer_scores(model), plain)
    subprocess.run([r1, "export", base, "--adapter", theirs, "--format", "peft", "-o", ours], check=True, capture_output=True)
    compare("r1's adapter in peft", r1_scores(r1, base, theirs), peer_scores(PeftModel.from_pretrained(load(), ours)), plain)


if __name__ == "__main__":
    for base in sys.argv[3:]:
        check(sys.argv[1], sys.argv[2], base)
