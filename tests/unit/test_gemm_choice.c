/* Tables of matrix product providers: followed where they name a shape, hashed into the machine kind, refused with a line. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "cpu/cpu.h"
#include "tests/unit/scratch.h"

enum { ROWS = 9, OUT = 24, IN = 300, OTHER = 40 };

/* A file of this text. */
static const char *table_of(const char *text)
{
    scratch_put("table", text, strlen(text));
    return scratch_path("table");
}

static Backend *open_plain(const char *matmul, const Ops **ops, Status *st)
{
    return cpu_open(&(CpuOptions){.threads = 1, .isa = "plain", .matmul = matmul}, ops, st);
}

/* The product of `rows` rows under a provider or table, [ROWS, out]. */
static void product(const char *matmul, size_t out, float *y)
{
    Status st = {0};
    const Ops *ops;
    Backend *b = open_plain(matmul, &ops, &st);
    if (!b) fail_msg("%s", st.text);
    static float x[ROWS * IN], w[OTHER * IN];
    for (size_t i = 0; i < ROWS * IN; i++) x[i] = (float)(i * 7 % 23) * 0.37f - 3.1f;
    for (size_t i = 0; i < OTHER * IN; i++) w[i] = (float)(i * 11 % 29) * 0.21f - 2.3f;
    ops->linear_fwd(b, mat_f32(y, ROWS, out), mat_f32(x, ROWS, IN), mat_f32(w, out, IN), NULL, false);
    ops->close(b);
}

static void the_shape_it_names(void **state)
{
    (void)state;
    float by_table[ROWS * OTHER], native[ROWS * OTHER], blas[ROWS * OTHER];
    if (!strstr(cpu_matmul_providers(), "openblas")) skip();
    const char *table = table_of("# mine\nplain f32 fwd 24 300 openblas\nplain f32 bwd_w 40 300 openblas\n");
    product(table, OUT, by_table), product("native", OUT, native), product("openblas", OUT, blas);
    assert_memory_not_equal(native, blas, ROWS * OUT * sizeof(float));
    assert_memory_equal(by_table, blas, ROWS * OUT * sizeof(float));
    product(table, OTHER, by_table), product("native", OTHER, native);
    assert_memory_equal(by_table, native, ROWS * OTHER * sizeof(float));
}

static void kind_of(const char *text, char out[128])
{
    Status st = {0};
    const Ops *ops;
    Backend *b = open_plain(table_of(text), &ops, &st);
    if (!b) fail_msg("%s", st.text);
    snprintf(out, 128, "%s", ops->machine_kind(b));
    ops->close(b);
}

/* The kind tells two tables apart, not two ways to write one. */
static void machine_kinds(void **state)
{
    (void)state;
    char none[128], foreign[128], one[128], same[128], other[128];
    if (!strstr(cpu_matmul_providers(), "openblas")) skip();
    kind_of("plain f32 fwd 8 16 native\n", none);
    kind_of("elsewhere f32 fwd 8 16 openblas\n", foreign);
    kind_of("plain f32 fwd 8 16 openblas\nplain f32 bwd_x 8 16 openblas\n", one);
    kind_of("# later\nplain f32 bwd_x 8 16 openblas # slow here\n\nplain f32 fwd 8 16 openblas\n", same);
    kind_of("plain f32 fwd 8 17 openblas\nplain f32 bwd_x 8 16 openblas\n", other);
    assert_null(strstr(none, "table"));
    assert_string_equal(none, foreign);
    assert_non_null(strstr(one, "/table-"));
    assert_string_equal(one, same);
    assert_string_not_equal(one, other);
}

static void check_refused(const char *text, const char *words)
{
    Status st = {0};
    const Ops *ops;
    assert_null(open_plain(table_of(text), &ops, &st));
    assert_true(says(&st, words));
}

static void bad_tables(void **state)
{
    (void)state;
    check_refused("\nplain f32 fwd 8\n", "line 2: a line has six words");
    check_refused("plain f32 fwd 8 16 native 1\n", "a line has six words");
    check_refused("plain f64 fwd 8 16 native\n", "f64 fwd is no product");
    check_refused("plain f32 forward 8 16 native\n", "f32 forward is no product");
    check_refused("plain f32 fwd 8 -1 native\n", "8 x -1 is no shape");
    check_refused("plain f32 fwd 8 16 abacus\n", "abacus is not in this build for f32");
    check_refused("plain bf16 fwd 8 16 dot\nplain bf16 fwd 8 16 dot\n", "fwd 8 x 16 twice");
    Status st = {0};
    const Ops *ops;
    assert_null(open_plain("no/such/table", &ops, &st));
    assert_non_null(strstr(st.text, "nor is it a file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_shape_it_names), cmocka_unit_test(machine_kinds),
                                       cmocka_unit_test(bad_tables)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
