/* r1 bench: how close each part is to what the machine can do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/bench/bench.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/model/plugin.h"
#include "recipes/run/interrupt.h"
#include "recipes/config/did_you_mean.h"

/* What only the CPU is asked. */
static bool device_can(const RuntimeOptions *o, const char *option, Status *st)
{
    DeviceName device;
    if (!device_parse(o->device, &device, st)) return false;
    if (!option || device.kind == DEVICE_CPU) return true;
    return fail(st, "--device %s: %s is for the CPU; `sh tests/gpu-day.sh` times PyTorch on the card", o->device,
                option);
}

static bool open_bench(Bench *b, const RuntimeOptions *o, Status *st)
{
    RuntimeOptions options = *o;
    DeviceName device;
    if (!device_parse(o->device, &device, st)) return false;
    if (device.kind != DEVICE_CPU)
        options.dtype = DTYPE_BF16; /* what a device computes bf16 rows by is chosen as it opens */
    if (!machine_open(&b->machine, &options, st)) return false;
    b->backend = b->machine.backend;
    if (b->machine.cpu) op_times_machine(&b->machine);
    b->times = b->machine.times;
    return limits_of(&b->limits, &b->machine, st) && bench_probe(b, st);
}

static void close_bench(Bench *b)
{
    if (b->probe) b->machine.ops->device.free(b->machine.backend, b->probe);
    machine_close(&b->machine);
    free(b);
}

static const BenchCase *find_case(const char *name, Status *st)
{
    int n;
    const BenchCase *cases = bench_cases(&n);
    Nearest near = nearest_start(name);
    for (int i = 0; i < n; i++) {
        if (!strcmp(cases[i].name, name)) return &cases[i];
        nearest_try(&near, cases[i].name);
    }
    char hint[128];
    fail(st, "--only %s: no such row%s; `r1 bench --list` names them", name, nearest_hint(&near, hint, sizeof hint));
    return NULL;
}

/* Every row; one that does not fit into memory is named and left out. */
static bool run_cases(Bench *b, const BenchCase *only, Status *st)
{
    int n;
    const BenchCase *cases = bench_cases(&n);
    if (only) return bench_run(b, only, st);
    for (int i = 0; i < n && !interrupted; i++) {
        if (bench_run(b, &cases[i], st)) continue;
        fprintf(stderr, "r1: %s left out: %s\n", cases[i].name, st->text);
        status_clear(st);
    }
    return interrupted ? fail(st, "interrupted") : true;
}

static int list_cases(void)
{
    int n;
    const BenchCase *cases = bench_cases(&n);
    for (int i = 0; i < n; i++) puts(cases[i].name);
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    bool json = false, quick = false, peers = false, list = false;
    const char *only = NULL, *tune = NULL, *arguments[1];
    int count;
    RuntimeOptions runtime = runtime_defaults();
    const Option options[] = {
        {"--quick", NULL, OPTION_FLAG, &quick, 0, 0,
         "fewer runs of each row; on a slow machine fewer sequences: two minutes"},
        {"--only", "ROW", OPTION_TEXT, &only, 0, 0, "that row alone"},
        {"--list", NULL, OPTION_FLAG, &list, 0, 0, "the names of the rows"},
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, "one object instead of the table"},
        {"--peers", NULL, OPTION_FLAG, &peers, 0, 0,
         "PyTorch, TRL and llama.cpp on the same rows, in turn with ours, and ratios\n"
         "(tests/peers/setup.sh installs them; from the repository's root)"},
        {"--tune", "FILE", OPTION_TEXT, &tune, 0, 0,
         "times native, oneDNN and OpenBLAS on every weight's shape (of all rows, or of the model of --only) and\n"
         "writes a table of the fastest for `--matmul FILE`; the hash of a table in use goes into checkpoints"},
    };
    const Usage usage = {
        "bench",
        "[options]",
        "Measures training, sampling and every op of them at fixed shapes against what this machine can do: f32 and\n"
        "bf16 multiply-adds, reading memory, reading and writing it, each probed again between the rows. Best of three "
        "runs, of\n"
        "two where a run takes seconds.\n",
        "  r1 bench --quick\n"
        "  r1 bench --only train_tiny_f32 --threads 1\n",
        options,
        sizeof options / sizeof options[0],
        0,
        0,
        &runtime};
    int code = command_read(&usage, argc, argv, arguments, &count);
    if (code != COMMAND_GO) return code;
    if (list) return list_cases();
    Status st = {0};
    const BenchCase *one = only ? find_case(only, &st) : NULL;
    if (only && !one) return command_usage(&usage, "%s", st.text);
    Bench *b = calloc(1, sizeof *b);
    if (!b) return command_failed((fail(&st, "out of memory"), &st));
    b->quick = quick;
    b->row_seconds = quick && !peers ? QUICK_ROW_SECONDS : 0; /* a peer has the whole row */
    b->print = !json && !peers && !tune;
    bool ok = device_can(&runtime, tune ? "--tune" : peers ? "--peers" : NULL, &st) && open_bench(b, &runtime, &st);
    if (ok && b->print) bench_print_machine(b);
    if (ok && tune) ok = bench_tune(b, tune, one ? one->model : NULL, &st);
    else if (ok) ok = peers ? bench_peers(b, only, &st) : run_cases(b, one, &st);
    if (ok && json) bench_print_json(b);
    if (ok && b->print && !only) bench_print_memory();
    close_bench(b);
    return ok ? 0 : command_failed(&st);
}
