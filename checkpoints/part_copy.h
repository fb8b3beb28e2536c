/* A part of a model copied out of its file, parameter by parameter. */
#ifndef CHECKPOINTS_PART_COPY_H
#define CHECKPOINTS_PART_COPY_H

#include "checkpoints/model_file.h"
#include "core/weights.h"

/* Bytes of a part's parameters one after another in a form, and the place of each; what lies apart (Param.apart) has none
 * (NULL). base and at may be NULL. */
size_t part_layout(const ParamTable *t, int part, Form form, char *base, void **at);
/* Writes them to base, but for what lies apart; in FORM_BF16 other numbers than bf16 are rounded as split_values
 * does. */
bool part_copy(const LoadedModel *m, int part, Form form, char *base, Status *st);
/* False, naming the first of a part's tensors (at: their places, in a form) that holds NaN or an infinity. */
bool part_finite(const LoadedModel *m, int part, Form form, void *const *at, Status *st);
/* out, in a form, of n numbers as a file holds them: dtype ST_BF16, ST_F16 or ST_F32, at any address. half: bf16 words. */
void numbers_convert(void *out, bool half, const void *in, StDtype dtype, size_t n);

#endif
