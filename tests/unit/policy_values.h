/* A policy's weights as one block of f32, in every precision and on every device. */
#ifndef TESTS_UNIT_POLICY_VALUES_H
#define TESTS_UNIT_POLICY_VALUES_H

#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/policy.h"

static inline bool policy_value(void *policy, const Param *q, float *out, Status *st)
{
    (void)st;
    policy_weights_read(policy, q, 0, q->count, out);
    return true;
}

/* [table.total], zeros between parameters; free with memory_free. */
static inline float *policy_values(Policy *p)
{
    Status st = {0};
    float *block = memory_block(p->engine.table.total * sizeof *block);
    CHECK(block && params_fill(&p->engine.table, block, policy_value, p, &st));
    return block;
}

/* The same of its reference: [table.state_total]. */
static inline float *policy_reference_values(const Policy *p)
{
    const ParamTable *t = &p->engine.table;
    float *block = memory_block(t->state_total * sizeof *block);
    CHECK(block);
    for (size_t i = 0; i < t->state_total; i++) block[i] = 0;
    for (int i = 0; i < t->n; i++)
        if (t->params[i].state != SIZE_MAX)
            policy_reference_read(p, &t->params[i], 0, t->params[i].count, block + t->params[i].state);
    return block;
}

#endif
