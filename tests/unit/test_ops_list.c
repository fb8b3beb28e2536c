/* Every table of ops has every slot: the CPU's, the clocked one over it, and the one that computes nothing. */
#include "tests/unit/unit.h"

#include "core/ops.h"
#include "cpu/cpu.h"
#include "recipes/model/op_times.h"

static void all_there(const char *table, const Ops *ops)
{
#define SLOT(op)                                                                                                       \
    if (!ops->op) fail_msg("%s: %s is NULL", table, #op);
    OPS(SLOT)
#undef SLOT
    assert_int_equal(ops->abi, OPS_ABI);
}

static void no_slot_is_null(void **state)
{
    (void)state;
    const Ops *ops;
    Status st = {0};
    Backend *b = cpu_open(NULL, &ops, &st);
    if (!b) fail_msg("%s", st.text);
    all_there("cpu", ops);
    all_there("clocked", op_times_ops());
    OpTimes *clocked = op_times_open(ops, b), *dry = op_times_open(NULL, NULL);
    assert_string_equal(op_times_ops()->machine_kind(op_times_backend(clocked)), ops->machine_kind(b));
    assert_string_equal(op_times_ops()->machine_kind(op_times_backend(dry)), "none");
    op_times_ops()->close(op_times_backend(clocked));
    op_times_ops()->close(op_times_backend(dry));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_slot_is_null)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
