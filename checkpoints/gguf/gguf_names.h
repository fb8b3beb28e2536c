/* llama.cpp's tensor names for the parameter table's kinds, and the row order of its llama architecture. */
#ifndef CHECKPOINTS_GGUF_NAMES_H
#define CHECKPOINTS_GGUF_NAMES_H

#include "core/params.h"

/* "blk.3.attn_q.weight" for a parameter. Experts: the stack's name. kv_b: that of the undivided tensor of old files.
 * False for a kind without a name (the scalar head). */
bool gguf_name(const Param *p, char *name, size_t size);
/* The architecture's name in the file: both DeepSeeks are deepseek2. */
const char *gguf_arch(Arch arch);
/* Whether its rows lie in another order in the file: queries and keys of a llama, and their biases. */
bool gguf_permuted(Arch arch, ParamKind kind);
/* Row `row` of a [rows, cols] llama Q or K of the HF checkpoint is this row of the file: in each head of D rows the
 * halves [2, D/2] become neighbours [D/2, 2]. */
size_t gguf_permuted_row(size_t row, size_t D);

#endif
