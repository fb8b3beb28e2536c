/* Which parameters are trained: by names or globs, or one by one. */
#ifndef CORE_PARAMS_SELECT_H
#define CORE_PARAMS_SELECT_H

#include "core/params.h"

/* Whether a pattern means a tensor. It is compared with every run of the name's parts between dots, `*` and `?` and [..] as
 * in the shell (* goes over dots too): "self_attn", "layers.2[4-6]", "experts.7.*", "lm_head". "all": every tensor. */
bool params_match(const char *pattern, const char *name);

/* Trains the tensors that any of the n patterns means and freezes the others; a scalar head is always trained (and "lm_head"
 * means it). Returns the index of the first pattern that means no tensor (the table is as before), or -1. n == 0 freezes all. */
int params_select(ParamTable *t, const char *const *patterns, int n);

/* Whether a pattern means any tensor of the table. */
bool params_meant(const ParamTable *t, const char *pattern);

/* The same by table index: chosen [t->n], 0: frozen. Sets Param.chosen, trained, state and moment, ParamTable.state_total,
 * moment_total, trained_count and lowest_trained. */
void params_choose(ParamTable *t, const uint8_t *chosen);

/* How moments are stored from now on: sets Param.moment, ParamTable.moments and moment_total. f32 after params_build. */
void params_moments(ParamTable *t, MomentForm form);
/* The form of a parameter's moments: the table's for matrices of some size, else f32. */
MomentForm param_moments(const ParamTable *t, const Param *p);

/* From now on the weights of whatever has a Param.state lie in a block of state_total elements: what is trained, and beside it
 * vectors and routers. */
void params_set_apart(ParamTable *t);

/* The run of a part in the blocks of gradients and moments: where its first parameter with a state begins, and *count elements
 * from there on, padding included; 0 elements: none has one. */
size_t params_part_state(const ParamTable *t, int part, size_t *count);

/* The same of the block of a moment, in bytes. */
size_t params_part_moments(const ParamTable *t, int part, size_t *bytes);

/* Whether everything is trained, as after params_build. */
bool params_all_chosen(const ParamTable *t);

#endif
