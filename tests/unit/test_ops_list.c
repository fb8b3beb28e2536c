/* Every table of ops has every slot: the CPU's, the clocked one over it, and the one that computes nothing. */
#include "tests/unit/unit.h"

#include "core/ops/ops_clocked.h"
#include "core/ops/ops_dry.h"
#include "cpu/cpu.h"

static void all_there(const char *table, const Ops *ops)
{
#define DEVICE_SLOT(word)                                                                                              \
    if (!ops->device.word) fail_msg("%s: device.%s is NULL", table, #word);
    DEVICE_SLOT(alloc)
    DEVICE_SLOT(free)
    DEVICE_SLOT(range_open)
    DEVICE_SLOT(range_use)
    DEVICE_SLOT(range_close)
    DEVICE_SLOT(upload)
    DEVICE_SLOT(download)
    DEVICE_SLOT(copy)
    DEVICE_SLOT(wait)
#undef DEVICE_SLOT
#define SLOT(op)                                                                                                       \
    if (!ops->op) fail_msg("%s: %s is NULL", table, #op);
    OPS_BACKEND(SLOT)
    OPS_COMPUTE(SLOT)
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
    const Ops *clocked = ops, *dry;
    Backend *over = b, *nothing = ops_dry_open(&dry, &ops->device);
    ops_clocked_open(&clocked, &over);
    all_there("clocked", clocked);
#define FUSED(op) assert_true(!clocked->op == !ops->op);
    OPS_FUSED(FUSED)
#undef FUSED
    all_there("dry", dry);
    assert_string_equal(clocked->machine_kind(over), ops->machine_kind(b));
    clocked->close(over);
    dry->close(nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_slot_is_null)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
