#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/float16.h"
#include "checkpoints/hf/safetensors.h"
#include "tests/unit/scratch.h"

/* A file with this header text and `data` zero bytes behind it. */
static void put_header(const char *name, const char *header, size_t data)
{
    size_t n = strlen(header);
    char *bytes = calloc(1, 8 + n + data + 1);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(n >> (8 * i));
    memcpy(bytes + 8, header, n);
    scratch_put(name, bytes, 8 + n + data);
    free(bytes);
}

static void assert_refused(const char *path, const char *words)
{
    Status st = {0};
    StFile *f = st_open(path, &st);
    assert_null(f);
    assert_true(says(&st, words));
}

static void test_golden_bytes(void **state)
{
    (void)state;
    static const unsigned char want[] =
        "\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  \0\0\x80\x3f\0\0\0\xc0";
    Status st = {0};
    StWriter *w = st_writer_open(scratch_path("golden.safetensors"), &st);
    assert_non_null(w);
    st_writer_add(w, "a", ST_F32, 1, (uint64_t[]){2});
    assert_true(st_writer_data(w, "a", (float[]){1.0f, -2.0f}, &st));
    assert_true(st_writer_close(w, &st));
    unsigned char got[100];
    FILE *in = fopen(scratch_path("golden.safetensors"), "rb");
    assert_int_equal(fread(got, 1, sizeof got, in), sizeof want - 1);
    fclose(in);
    assert_memory_equal(got, want, sizeof want - 1);
}

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float b = f32_of_bf16((uint16_t)h), f = f32_of_f16((uint16_t)h);
        if (isnan(b)) assert_true(isnan(f32_of_bf16(bf16_of_f32(b))));
        else assert_int_equal(bf16_of_f32(b), h);
        if (isnan(f)) assert_true(isnan(f32_of_f16(f16_of_f32(f))));
        else assert_int_equal(f16_of_f32(f), h);
    }
    assert_true(f32_of_f16(0x3c00) == 1.0f && f32_of_f16(0x0001) == 0x1p-24f && f32_of_f16(0xfbff) == -65504.0f);
    assert_true(isinf(f32_of_f16(0x7c00)));
    /* Ties go to the even neighbour. */
    assert_int_equal(bf16_of_f32(f32_of_bits(0x3f808000)), 0x3f80);
    assert_int_equal(bf16_of_f32(f32_of_bits(0x3f818000)), 0x3f82);
    assert_int_equal(f16_of_f32(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(f16_of_f32(1.0f + 0x3p-11f), 0x3c02);
    assert_int_equal(f16_of_f32(65519.0f), 0x7bff);
    assert_int_equal(f16_of_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_of_f32(0x1p-25f), 0);
    assert_int_equal(f16_of_f32(0x3p-25f), 2);
    assert_int_equal(f16_of_f32(0x1.ffep-15f), 0x0400);
}

static void test_round_trip(void **state)
{
    (void)state;
    Status st = {0};
    float values[70000];
    for (int i = 0; i < 70000; i++) values[i] = (float)i * 0.37f - 1000.0f;
    int32_t ints[3] = {1, -2, 3};
    StWriter *w = st_writer_open(scratch_path("round.safetensors"), &st);
    st_writer_metadata(w, "format", "pt");
    st_writer_add(w, "z\"quoted\"", ST_BF16, 2, (uint64_t[]){700, 100});
    st_writer_add(w, "half", ST_F16, 1, (uint64_t[]){3});
    st_writer_add(w, "ints", ST_I32, 1, (uint64_t[]){3});
    st_writer_add(w, "scalar", ST_F32, 0, NULL);
    st_writer_add(w, "empty", ST_F32, 2, (uint64_t[]){0, 5});
    st_writer_add(w, "wide", ST_F32, 1, (uint64_t[]){70000});
    assert_true(st_writer_data(w, "wide", values, &st));
    assert_true(st_writer_data(w, "half", values, &st));
    assert_true(st_writer_data(w, "z\"quoted\"", values, &st));
    assert_true(st_writer_data(w, "ints", ints, &st));
    assert_true(st_writer_data(w, "scalar", values + 7, &st));
    assert_true(st_writer_data(w, "empty", values, &st));
    assert_true(st_writer_close(w, &st));

    StFile *f = st_open(scratch_path("round.safetensors"), &st);
    assert_non_null(f);
    assert_int_equal(st_count(f), 6);
    assert_null(st_find(f, "nobody"));
    const StTensor *t = st_find(f, "z\"quoted\"");
    assert_non_null(t);
    assert_int_equal(t->ndim, 2);
    float *back = malloc(70000 * sizeof *back);
    assert_true(st_read_f32(t, back, &st));
    for (int i = 0; i < 70000; i++) assert_true(back[i] == f32_of_bf16(bf16_of_f32(values[i])));
    assert_true(st_read_f32(st_find(f, "wide"), back, &st));
    assert_memory_equal(back, values, sizeof values);
    assert_true(st_read_f32(st_find(f, "scalar"), back, &st));
    assert_true(back[0] == values[7]);
    assert_int_equal(st_find(f, "scalar")->count, 1);
    assert_int_equal(st_find(f, "empty")->count, 0);
    assert_memory_equal(st_find(f, "ints")->data, ints, sizeof ints);
    assert_false(st_read_f32(st_find(f, "ints"), back, &st));
    free(back);
    st_close(f);
}

/* Widest types first, names ascending inside a type: what the reference writer does. */
static void test_reference_order(void **state)
{
    (void)state;
    Status st = {0};
    StWriter *w = st_writer_open(scratch_path("order.safetensors"), &st);
    static const char *const names[] = {"b16", "b", "i", "a"};
    static const StDtype types[] = {ST_F16, ST_F32, ST_I32, ST_F32};
    for (int i = 0; i < 4; i++) st_writer_add(w, names[i], types[i], 1, (uint64_t[]){1});
    for (int i = 0; i < 4; i++) assert_true(st_writer_data(w, names[i], (int32_t[]){0}, &st));
    assert_true(st_writer_close(w, &st));
    char got[400] = {0};
    FILE *in = fopen(scratch_path("order.safetensors"), "rb");
    size_t n = fread(got, 1, sizeof got, in);
    fclose(in);
    const char *want = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                       "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
                       "\"i\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]},"
                       "\"b16\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[12,14]}}";
    assert_memory_equal(got + 8, want, strlen(want));
    assert_int_equal((n - 14) % 8, 0);
}

static void test_unwritten_tensor(void **state)
{
    (void)state;
    Status st = {0};
    StWriter *w = st_writer_open(scratch_path("never.safetensors"), &st);
    st_writer_add(w, "a", ST_F32, 1, (uint64_t[]){2});
    assert_false(st_writer_close(w, &st));
    assert_non_null(strstr(st.text, "never written"));
    assert_int_not_equal(access(scratch_path("never.safetensors"), F_OK), 0);
}

static void test_hostile_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header, *words;
        size_t data;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "belong to no tensor", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "gap", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[0,4]}}",
         "gap or overlaps", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[4,8]}}",
         "gap or overlaps", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[4,8]}}",
         "", 8},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", "tensor a", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "tensor a", 4},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,1]}}", "tensor a", 1},
        {"{\"a\":7}", "tensor a", 0},
        {"{\"a\":{\"dtype\":\"F32\"}}", "tensor a", 0},
        {"{\"__metadata__\":3}", "__metadata__", 0},
        {"{\"a\":", "", 0},
        {"{\"\xff\":1}", "", 0},
        {"[1]", "no safetensors file", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_header("hostile.safetensors", cases[i].header, cases[i].data);
        assert_refused(scratch_path("hostile.safetensors"), cases[i].words);
    }
    scratch_put("short.safetensors", "\x10\0\0", 3);
    assert_refused(scratch_path("short.safetensors"), "no safetensors file");
    scratch_put("long.safetensors", "\x10\0\0\0\0\0\0\0{}", 10);
    assert_refused(scratch_path("long.safetensors"), "truncated");
    scratch_put("huge.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_refused(scratch_path("huge.safetensors"), "no safetensors file");
    scratch_put("empty.safetensors", "", 0);
    assert_refused(scratch_path("empty.safetensors"), "empty");
    assert_refused(scratch_path("nowhere.safetensors"), "nowhere.safetensors");
}

/* A file without tensors is one; nothing is sorted then (qsort takes no NULL: test-asan ends there). */
static void test_no_tensors(void **state)
{
    (void)state;
    Status st = {0};
    put_header("none.safetensors", "{}", 0);
    StFile *f = st_open(scratch_path("none.safetensors"), &st);
    if (!f) fail_msg("%s", st.text);
    assert_int_equal(st_count(f), 0);
    st_close(f);
}

/* Every truncation of a good file is refused. */
static void test_truncations(void **state)
{
    (void)state;
    char bytes[4096];
    Status st = {0};
    StWriter *w = st_writer_open(scratch_path("whole.safetensors"), &st);
    st_writer_add(w, "a", ST_F32, 1, (uint64_t[]){20});
    st_writer_add(w, "b", ST_BF16, 1, (uint64_t[]){20});
    float data[20] = {1.0f};
    assert_true(st_writer_data(w, "a", data, &st) && st_writer_data(w, "b", data, &st) && st_writer_close(w, &st));
    FILE *in = fopen(scratch_path("whole.safetensors"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    for (size_t i = 0; i < n; i++) {
        scratch_put("cut.safetensors", bytes, i);
        assert_refused(scratch_path("cut.safetensors"), "");
    }
}

static void put_index(const char *text)
{
    scratch_put("model.safetensors.index.json", text, strlen(text));
}

static void test_shards(void **state)
{
    (void)state;
    assert_refused(scratch_folder(), "neither");
    put_header("model-1.safetensors",
               "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"extra\":{\"dtype\":"
               "\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}}",
               5);
    put_header("model-00002-of-000002.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
               4);
    put_index("{\"metadata\":{\"total_size\":8},\"weight_map\":{\"b\":\"model-00002-of-000002.safetensors\","
              "\"a\":\"model-1.safetensors\"}}");
    Status st = {0};
    StFile *f = st_open(scratch_folder(), &st);
    assert_non_null(f);
    assert_int_equal(st_count(f), 2);
    assert_string_equal(st_at(f, 0)->name, "a");
    assert_non_null(st_find(f, "b"));
    assert_null(st_find(f, "extra"));
    st_close(f);

    put_index("{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}");
    assert_refused(scratch_folder(), "outside");
    put_index("{\"weight_map\":{\"c\":\"model-1.safetensors\"}}");
    assert_refused(scratch_folder(), "does not hold it");
    put_index("{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    assert_refused(scratch_folder(), "gone.safetensors");
    put_index("{\"weight_map\":{\"a\":3}}");
    assert_refused(scratch_folder(), "no file name");
    put_index("{\"weight_map\":[]}");
    assert_refused(scratch_folder(), "weight_map");
}

/* A file written by the reference implementation opens; a tensor is where its own reader finds it. */
static void test_fixture(void **state)
{
    (void)state;
    Status st = {0};
    StFile *f = st_open("tests/golden/v2_lite", &st);
    assert_non_null(f);
    const StTensor *t = st_find(f, "model.layers.1.mlp.experts.3.up_proj.weight");
    assert_non_null(t);
    assert_true(t->ndim == 2 && t->shape[0] == 10 && t->shape[1] == 64 && t->dtype == ST_F32);
    assert_int_equal((uintptr_t)t->data % 4, 0);
    st_close(f);
}

/* Rewriting a file of the reference implementation gives its bytes again (its metadata is {"format": "pt"}). */
static void test_rewrite_equals_reference(void **state)
{
    (void)state;
    Status st = {0};
    StFile *f = st_open("tests/golden/qwen3/model.safetensors", &st);
    assert_non_null(f);
    StWriter *w = st_writer_open(scratch_path("again.safetensors"), &st);
    st_writer_metadata(w, "format", "pt");
    for (size_t i = 0; i < st_count(f); i++) {
        const StTensor *t = st_at(f, i);
        st_writer_add(w, t->name, t->dtype, t->ndim, t->shape);
    }
    for (size_t i = 0; i < st_count(f); i++) assert_true(st_writer_raw(w, st_at(f, i)->name, st_at(f, i)->data, &st));
    assert_true(st_writer_close(w, &st));
    st_close(f);
    char command[300];
    snprintf(command, sizeof command, "cmp tests/golden/qwen3/model.safetensors %s", scratch_path("again.safetensors"));
    assert_int_equal(system(command), 0);
}

/* KB of mapped files that are this process's memory now. */
static long mapped_kb(void)
{
    long kb = -1;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (kb < 0 && fgets(line, sizeof line, f)) sscanf(line, "RssFile: %ld kB", &kb);
    fclose(f);
    return kb;
}

/* Tensors that were read cost no memory, in whatever order: the kernel maps pages on both sides of those that are touched. */
static void test_forgotten_pages(void **state)
{
    (void)state;
    enum { TENSORS = 400, COUNT = 20000, STEP = 7 };
    Status st = {0};
    char name[16];
    float *values = calloc(COUNT, sizeof *values);
    StWriter *w = st_writer_open(scratch_path("many.safetensors"), &st);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        st_writer_add(w, name, ST_F32, 1, (uint64_t[]){COUNT});
    }
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_true(st_writer_raw(w, name, values, &st));
    }
    assert_true(st_writer_close(w, &st));
    StFile *f = st_open(scratch_path("many.safetensors"), &st);
    assert_non_null(f);
    long before = mapped_kb();
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i * STEP % TENSORS);
        const StTensor *t = st_find(f, name);
        assert_true(st_read_f32(t, values, &st));
        st_forget(f, t, 0, t->bytes);
    }
    assert_in_range(mapped_kb() - before + 1000, 0, 2000); /* of 32 MB; 10 MB with those behind left mapped */
    st_close(f);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgotten_pages),
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_reference_order),
        cmocka_unit_test(test_unwritten_tensor),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_no_tensors),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_rewrite_equals_reference),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
