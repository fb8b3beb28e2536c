/* Where the time of a run went, by op and phase. */
#include "recipes/model/op_times.h"

void op_times_machine(Machine *m)
{
    m->times = ops_clocked_open(&m->ops, &m->backend);
}

void op_times_print(OpTimes *t, FILE *out)
{
    OpTime ops[OP_TIMES];
    int n_phases, n = ops_clocked_by_op(t, ops, OP_TIMES);
    const OpPhase *list = ops_clocked_phases(t, &n_phases);
    double phases = 0, total = 0;
    for (int i = 0; i < n_phases; i++) phases += list[i].seconds;
    for (int i = 0; i < n; i++) total += ops[i].seconds;
    fprintf(out, "\nwhere the time went\n%-20s %10s %7s\n", "phase", "seconds", "share");
    for (int i = 0; i < n_phases; i++)
        fprintf(out, "%-20s %10.2f %6.1f%%\n", list[i].name, list[i].seconds, 100 * list[i].seconds / phases);
    fprintf(out, "%-20s %10s %7s %10s %9s %8s\n", "op", "seconds", "share", "calls", "GFLOP/s", "GB/s");
    for (int i = 0; i < n; i++) {
        const OpTime *o = &ops[i];
        fprintf(out, "%-20s %10.2f %6.1f%% %10ld", o->op, o->seconds, 100 * o->seconds / phases, o->calls);
        if (o->flops > 0) fprintf(out, " %9.1f", o->flops / o->seconds / 1e9);
        else fprintf(out, " %9s", "-");
        fprintf(out, " %8.1f\n", (o->read + o->written) / o->seconds / 1e9);
    }
    fprintf(out, "%-20s %10.2f %6.1f%%\n", "outside ops", phases - total, 100 * (phases - total) / phases);
}
