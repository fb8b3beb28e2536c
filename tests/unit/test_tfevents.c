/* Event files: check values of the CRC, golden records, what a reader would see in a file. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/run/tfevents.h"
#include "tests/unit/scratch.h"

static void crc(void **state)
{
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c("", 0), 0);
}

static void expect_bytes(const EventBytes *got, const char *hex)
{
    size_t n = 0;
    for (const char *c = hex; *c; c += 2) {
        while (*c == ' ') c++;
        unsigned byte;
        assert_int_equal(sscanf(c, "%2x", &byte), 1);
        assert_true(n < got->n);
        assert_int_equal(got->data[n], byte);
        n++;
    }
    assert_int_equal(n, got->n);
}

static void golden(void **state)
{
    (void)state;
    EventBytes b = {0};
    event_append_version(&b, 1700000000.0);
    expect_bytes(&b, "1800000000000000a37f4b22 0900000040fc54d941 1a0d627261696e2e4576656e743a32 eced8f9d");
    b.n = 0;
    const char *tag = "loss";
    float value = 1.5f;
    event_append_scalars(&b, 1700000001.0, 10, &tag, &value, 1);
    expect_bytes(&b, "1a00000000000000129bd82d 0900004040fc54d941 100a 2a0d 0a0b 0a046c6f7373 150000c03f 05c1252a");
    free(b.data);
}

static void large_steps_and_several_values(void **state)
{
    (void)state;
    EventBytes b = {0};
    const char *tags[] = {"a", "b"};
    const float values[] = {1, 2};
    event_append_scalars(&b, 0, 300, tags, values, 2);
    /* after the frame and wall: step varint ac02, summary of two values of 8 + 2 bytes */
    assert_int_equal(b.data[12 + 9], 0x10);
    assert_int_equal(b.data[12 + 10], 0xac);
    assert_int_equal(b.data[12 + 11], 0x02);
    assert_int_equal(b.data[12 + 13], 2 * (2 + 3 + 5));
    size_t one = b.n;
    event_append_scalars(&b, 0, 0, tags, values, 2); /* step 0 is left out: 3 bytes less */
    assert_int_equal(b.n - one, one - 3);
    free(b.data);
}

static void files(void **state)
{
    (void)state;
    Status st = {0};
    const char *tag = "zero/loss";
    float value = 3;
    EventWriter *w = events_open(scratch_folder(), &st), *second = events_open(scratch_folder(), &st);
    assert_non_null(w);
    assert_non_null(second);
    assert_true(events_scalars(w, 5, 1, &tag, &value, 1, &st));
    assert_int_equal(scratch_count("events.out.tfevents."), 2);
    events_close(w);
    events_close(second);
    scratch_put("other.txt", "x", 1);
    assert_true(events_remove(scratch_folder(), &st));
    assert_int_equal(scratch_count("events"), 0);
    assert_int_equal(scratch_count("other"), 1);
    assert_null(events_open(scratch_path("no such folder"), &st));
    assert_true(says(&st, "cannot create"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc),
        cmocka_unit_test(golden),
        cmocka_unit_test(large_steps_and_several_values),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
