/* Names of parameters in GGUF files. */
#include "checkpoints/gguf/gguf_names.h"

#include <stdio.h>

static const char *const names[PARAM_KINDS] = {
    [PARAM_EMBED] = "token_embd.weight",
    [PARAM_ATTN_NORM] = "attn_norm.weight",
    [PARAM_Q] = "attn_q.weight",
    [PARAM_Q_A] = "attn_q_a.weight",
    [PARAM_Q_A_NORM] = "attn_q_a_norm.weight",
    [PARAM_Q_B] = "attn_q_b.weight",
    [PARAM_KV_A] = "attn_kv_a_mqa.weight",
    [PARAM_KV_A_NORM] = "attn_kv_a_norm.weight",
    [PARAM_KV_B] = "attn_kv_b.weight",
    [PARAM_K] = "attn_k.weight",
    [PARAM_V] = "attn_v.weight",
    [PARAM_Q_BIAS] = "attn_q.bias",
    [PARAM_K_BIAS] = "attn_k.bias",
    [PARAM_V_BIAS] = "attn_v.bias",
    [PARAM_Q_NORM] = "attn_q_norm.weight",
    [PARAM_K_NORM] = "attn_k_norm.weight",
    [PARAM_O] = "attn_output.weight",
    [PARAM_O_BIAS] = "attn_output.bias",
    [PARAM_FFN_NORM] = "ffn_norm.weight",
    [PARAM_GATE] = "ffn_gate.weight",
    [PARAM_UP] = "ffn_up.weight",
    [PARAM_DOWN] = "ffn_down.weight",
    [PARAM_GATE_BIAS] = "ffn_gate.bias",
    [PARAM_UP_BIAS] = "ffn_up.bias",
    [PARAM_DOWN_BIAS] = "ffn_down.bias",
    [PARAM_ROUTER] = "ffn_gate_inp.weight",
    [PARAM_ROUTER_BIAS] = "exp_probs_b.bias",
    [PARAM_EXPERT_GATE] = "ffn_gate_exps.weight",
    [PARAM_EXPERT_UP] = "ffn_up_exps.weight",
    [PARAM_EXPERT_DOWN] = "ffn_down_exps.weight",
    [PARAM_SHARED_GATE] = "ffn_gate_shexp.weight",
    [PARAM_SHARED_UP] = "ffn_up_shexp.weight",
    [PARAM_SHARED_DOWN] = "ffn_down_shexp.weight",
    [PARAM_NORM] = "output_norm.weight",
    [PARAM_HEAD] = "output.weight",
};

bool gguf_name(const Param *p, char *name, size_t size)
{
    if (!names[p->kind]) return false;
    if (p->layer < 0) snprintf(name, size, "%s", names[p->kind]);
    else snprintf(name, size, "blk.%d.%s", p->layer, names[p->kind]);
    return true;
}

const char *gguf_arch(Arch arch)
{
    return arch == ARCH_DEEPSEEK_V2 || arch == ARCH_DEEPSEEK_V3 ? "deepseek2" : arch_name(arch);
}

bool gguf_permuted(Arch arch, ParamKind kind)
{
    return arch == ARCH_LLAMA && (kind == PARAM_Q || kind == PARAM_K || kind == PARAM_Q_BIAS || kind == PARAM_K_BIAS);
}

size_t gguf_permuted_row(size_t row, size_t D)
{
    size_t head = row / D, at = row % D, half = at / (D / 2), i = at % (D / 2);
    return head * D + 2 * i + half;
}
