#include "tests/unit/unit.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/base.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/h5.h"
#include "checkpoints/hash.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/seal.h"
#include "core/params_select.h"
#include "tests/unit/scratch.h"

static ModelConfig config;
static ParamTable table;
static float *block[4]; /* weights, m, v, reference */

static int make_model(void **state)
{
    Status st = {0};
    if (scratch_make(state) || !hf_config_read("tests/golden/v3", &config, &st)) return -1;
    config.C = 8, config.F = config.moe_F = 2, config.L = 2, config.first_dense = 1, config.V = 16, config.E = 4,
    config.K = 2;
    config.n_group = 2, config.topk_group = 1, config.mtp_layers = 1;
    if (!config_validate(&config, &st)) return -1;
    table = params_build(&config);
    for (int b = 0; b < 4; b++) {
        block[b] = calloc(table.total, sizeof(float));
        params_init(&table, &config, block[b], (uint32_t)b + 1);
    }
    return 0;
}

static int free_model(void **state)
{
    for (int b = 0; b < 4; b++) free(block[b]);
    params_free(&table);
    return scratch_remove(state);
}

static CheckpointMeta some_meta(void)
{
    CheckpointMeta m = {.stage = "rl_reason",
                        .stage_index = 3,
                        .step = 1LL << 40,
                        .tokens_trained = 5,
                        .tokens_sampled = 6,
                        .optimizer_step = 7,
                        .cursor = 8,
                        .seconds = 0.1,
                        .seed = 4000000000u,
                        .machine_kind = "native avx512",
                        .precision = "bf16",
                        .recipe = "model: 1\n",
                        .tokenizer = "a\0b",
                        .tokenizer_length = 3,
                        .extra = "{}"};
    return m;
}

static bool save(const char *name, Status *st)
{
    CheckpointMeta m = some_meta();
    return checkpoint_save(scratch_path(name), &config, &table, block[0], block[1], block[2], block[3], &m, st);
}

/* Moments that are not f32 come back byte by byte, with their form. */
static void test_stored_moments(void **state)
{
    (void)state;
    for (int form = MOMENTS_BF16; form <= MOMENTS_8BIT; form++) {
        Status st = {0};
        CheckpointMeta meta = some_meta();
        ParamTable t = params_build(&config);
        uint8_t *chosen = calloc((size_t)t.n, 1);
        chosen[0] = chosen[2] = chosen[3] = 1;
        params_choose(&t, chosen);
        params_moments(&t, (MomentForm)form);
        if (form == MOMENTS_BF16) assert_true(t.moment_total < 4 * t.state_total);
        unsigned char *m = malloc(t.moment_total), *v = malloc(t.moment_total);
        for (size_t i = 0; i < t.moment_total; i++) m[i] = (unsigned char)(i * 7), v[i] = (unsigned char)(i * 11 + 3);
        assert_true(checkpoint_save(scratch_path("f.h5"), &config, &t, block[0], m, v, NULL, &meta, &st));
        Checkpoint *c = checkpoint_load(scratch_path("f.h5"), CHECKPOINT_ALL, &st);
        assert_non_null(c);
        assert_int_equal(c->table.moments, form);
        assert_int_equal(c->table.moment_total, t.moment_total);
        assert_memory_equal(c->m, m, t.moment_total);
        assert_memory_equal(c->v, v, t.moment_total);
        checkpoint_free(c);
        params_free(&t);
        free(m), free(v), free(chosen);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    Status st = {0};
    CheckpointMeta m = some_meta();
    float data[2] = {1.5f, -2.0f};
    attach_file(&m.attached, "tokenizer_config.json", "{\"a\":1}", 7);
    StTensor mtp = {.name = "model.layers.2.eh_proj.weight",
                    .dtype = ST_F32,
                    .ndim = 2,
                    .shape = {1, 2},
                    .count = 2,
                    .bytes = 8,
                    .data = data};
    attach_tensor(&m.attached, &mtp, false);
    m.finished = true;
    assert_true(
        checkpoint_save(scratch_path("a.h5"), &config, &table, block[0], block[1], block[2], block[3], &m, &st));
    attachments_free(&m.attached);

    Checkpoint *c = checkpoint_load(scratch_path("a.h5"), CHECKPOINT_ALL, &st);
    assert_non_null(c);
    assert_int_equal(c->table.total, table.total);
    assert_memory_equal(c->weights, block[0], table.total * sizeof(float));
    assert_memory_equal(c->m, block[1], table.total * sizeof(float));
    assert_memory_equal(c->v, block[2], table.total * sizeof(float));
    assert_memory_equal(c->reference, block[3], table.total * sizeof(float));
    assert_true(c->config.arch == config.arch && c->config.mtp_layers == 1 && c->config.eps == config.eps &&
                c->config.rope.factor == config.rope.factor && c->config.routed_scale == config.routed_scale);
    assert_string_equal(c->meta.stage, "rl_reason");
    assert_string_equal(c->meta.machine_kind, "native avx512");
    assert_string_equal(c->meta.precision, "bf16");
    assert_true(c->meta.step == 1LL << 40 && c->meta.finished && c->meta.seconds == 0.1 && c->meta.seed == 4000000000u);
    assert_true(c->meta.stage_index == 3 && c->meta.tokens_trained == 5 && c->meta.tokens_sampled == 6);
    assert_true(c->meta.optimizer_step == 7 && c->meta.cursor == 8);
    assert_int_equal(c->meta.tokenizer_length, 3);
    assert_memory_equal(c->meta.tokenizer, "a\0b", 3);
    assert_string_equal(c->meta.recipe, "model: 1\n");
    assert_string_equal(c->meta.extra, "{}");
    assert_string_equal(attached_file(&c->meta.attached, "tokenizer_config.json")->bytes, "{\"a\":1}");
    assert_int_equal(c->meta.attached.ntensors, 1);
    assert_int_equal(c->meta.attached.tensors[0].tensor.shape[1], 2);
    assert_memory_equal(c->meta.attached.tensors[0].tensor.data, data, 8);
    char a[65], b[65];
    weights_sha256(&table, block[0], a);
    weights_sha256(&c->table, c->weights, b);
    assert_string_equal(a, b);
    checkpoint_free(c);

    c = checkpoint_load(scratch_path("a.h5"), CHECKPOINT_WEIGHTS, &st);
    assert_non_null(c);
    assert_true(!c->m && !c->v && !c->reference);
    checkpoint_free(c);
    assert_int_equal(scratch_count(".tmp."), 0);
}

/* What a base has is not in the file: zeros in its place, flags, and the base's name. */
static void test_base(void **state)
{
    (void)state;
    Status st = {0};
    CheckpointMeta m = some_meta();
    ModelBase base = {.path = "/models/it \"is\"", .tensors = 5291};
    uint8_t *held = calloc((size_t)table.n, 1);
    memset(base.sha256, 'a', 64);
    for (int i = 0; i < table.n; i += 3) held[i] = 1;
    m.base = &base;
    m.held = held;
    assert_true(checkpoint_save(scratch_path("b.h5"), &config, &table, block[0], NULL, NULL, NULL, &m, &st));
    Checkpoint *c = checkpoint_load(scratch_path("b.h5"), CHECKPOINT_WEIGHTS, &st);
    assert_true(c && c->meta.base && c->meta.base->tensors == 5291);
    assert_string_equal(c->meta.base->path, base.path);
    assert_string_equal(c->meta.base->sha256, base.sha256);
    for (int i = 0; i < table.n; i++) {
        const Param *p = &table.params[i];
        assert_int_equal(checkpoint_holds(&c->meta, i), i % 3 == 0);
        for (size_t k = 0; k < p->count; k++)
            assert_true(c->weights[p->offset + k] == (i % 3 == 0 ? block[0][p->offset + k] : 0.0f));
    }
    checkpoint_free(c);
    free(held);

    static const char *const odd[] = {
        "",
        "[]",
        "{\"path\": \"/m\", \"tensors\": 3}",
        "{\"path\": \"\", \"tensors\": 3, \"sha256\": \"%s\"}",
        "{\"path\": \"/m\", \"tensors\": \"x\", \"sha256\": \"%s\"}",
        "{\"path\": \"/m\", \"tensors\": 3, \"sha256\": \"%sa\"}",
        "{\"path\": \"/m\", \"tensors\": 3, \"sha256\": \"/%.63s\"}",
        "{\"path\": 7, \"tensors\": 3, \"sha256\": \"%s\"}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char text[256];
        ModelBase out;
        int n = snprintf(text, sizeof text, odd[i], base.sha256);
        if (base_parse(text, (size_t)n, &out)) fail_msg("read: %s", text);
    }
    char *text = base_text(&base);
    ModelBase again;
    assert_true(base_parse(text, strlen(text), &again) && !strcmp(again.path, base.path));
    free(text);
}

static void test_absent_parts(void **state)
{
    (void)state;
    Status st = {0};
    CheckpointMeta m = {.stage = "base"};
    assert_true(checkpoint_save(scratch_path("bare.h5"), &config, &table, block[0], NULL, NULL, NULL, &m, &st));
    Checkpoint *c = checkpoint_load(scratch_path("bare.h5"), CHECKPOINT_ALL, &st);
    assert_non_null(c);
    assert_true(!c->m && !c->v && !c->reference && !c->meta.recipe && !c->meta.tokenizer && !c->meta.extra);
    assert_false(c->meta.finished);
    checkpoint_free(c);
}

static void test_scalar_head(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig scalar = config;
    scalar.head = HEAD_SCALAR;
    scalar.bos = -1;
    ParamTable t = params_build(&scalar);
    float *w = calloc(t.total, sizeof *w);
    assert_true(checkpoint_save(scratch_path("rm.h5"), &scalar, &t, w, NULL, NULL, NULL, &(CheckpointMeta){0}, &st));
    Checkpoint *c = checkpoint_load(scratch_path("rm.h5"), CHECKPOINT_ALL, &st);
    assert_non_null(c);
    assert_true(c->config.head == HEAD_SCALAR && c->config.bos == -1 && c->table.total == t.total);
    checkpoint_free(c);
    free(w);
    params_free(&t);
}

static void assert_refused(const char *path)
{
    Status st = {0};
    Checkpoint *c = checkpoint_load(path, CHECKPOINT_ALL, &st);
    assert_null(c);
    assert_true(says(&st, path));
}

/* Every byte of the first 4 KiB and some hundred behind, each changed in turn, are refused. */
static void test_flipped_bytes(void **state)
{
    (void)state;
    Status st = {0};
    assert_true(save("flip.h5", &st));
    const char *path = scratch_path("flip.h5");
    size_t n;
    free(scratch_read(path, &n));
    assert_true(n > 8192);
    int fd = open(path, O_RDWR);
    size_t stride = (n - 4096) / 211;
    for (size_t at = 0; at < n; at += at < 4096 ? 1 : stride) {
        unsigned char byte, changed;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        changed = byte ^ (unsigned char)(1 << at % 8);
        assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
        assert_refused(path);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    close(fd);
    Checkpoint *c = checkpoint_load(path, CHECKPOINT_ALL, &st);
    assert_non_null(c);
    checkpoint_free(c);
}

static void test_truncated_and_extended(void **state)
{
    (void)state;
    Status st = {0};
    assert_true(save("whole.h5", &st));
    size_t n;
    char *bytes = scratch_read(scratch_path("whole.h5"), &n);
    for (size_t cut = 0; cut < n; cut += cut < 600 || cut > n - 600 ? 1 : 997) {
        scratch_put("cut.h5", bytes, cut);
        assert_refused(scratch_path("cut.h5"));
    }
    bytes[n] = 0;
    scratch_put("cut.h5", bytes, n + 1);
    assert_refused(scratch_path("cut.h5"));
    free(bytes);
}

static void test_foreign_files(void **state)
{
    (void)state;
    Status st = {0};
    char junk[2048];
    memset(junk, 'x', sizeof junk);
    scratch_put("junk.h5", junk, sizeof junk);
    assert_refused(scratch_path("junk.h5"));
    assert_refused(scratch_path("nowhere.h5"));
    assert_refused(scratch_folder());
    H5Writer *w = h5_create(scratch_path("other.h5"), "other.h5", 512, &st);
    h5_write(w, "x", H5_F32, 0, NULL, &(float){1.0f});
    assert_true(h5_close(w, &st));
    assert_refused(scratch_path("other.h5"));
}

/* What is read of it changes nothing about what is refused, and equal contents are equal files. */
static void test_parts(void **state)
{
    (void)state;
    Status st = {0};
    assert_true(save("parts.h5", &st) && save("again.h5", &st));
    size_t n, m;
    char *bytes = scratch_read(scratch_path("parts.h5"), &n), *again = scratch_read(scratch_path("again.h5"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(bytes, again, n);
    Checkpoint *c = checkpoint_load(scratch_path("parts.h5"), 0, &st);
    assert_non_null(c);
    assert_true(!c->weights && !c->m && c->has_f32 && !c->has_bf16 && c->meta.step == 1LL << 40);
    checkpoint_free(c);
    bytes[n - 9] ^= 1;
    scratch_put("parts.h5", bytes, n);
    assert_null(checkpoint_load(scratch_path("parts.h5"), 0, &st));
    free(bytes);
    free(again);
}

/* A file that was found whole is hashed again when it was written since. */
static void test_changed_after_verification(void **state)
{
    (void)state;
    Status st = {0};
    assert_true(save("old.h5", &st));
    sleep(3); /* times of files written just now are not trusted */
    for (int i = 0; i < 2; i++) {
        Checkpoint *c = checkpoint_load(scratch_path("old.h5"), 0, &st);
        assert_non_null(c);
        checkpoint_free(c);
    }
    int fd = open(scratch_path("old.h5"), O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, 4096), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 4096), 1);
    close(fd);
    assert_refused(scratch_path("old.h5"));
}

/* The file of that name holds the model, and there is nothing beside it. */
static bool is_whole(const char *name)
{
    Status st = {0};
    Checkpoint *c = checkpoint_load(scratch_path(name), CHECKPOINT_ALL, &st);
    bool whole = c && !memcmp(c->weights, block[0], table.total * sizeof(float)) && scratch_count(".tmp.") == 0;
    checkpoint_free(c);
    return whole;
}

/* No save beyond any of the limits succeeds, each leaves the earlier file whole, and without one it succeeds. */
static bool survives_limits(size_t n)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    const size_t limits[] = {0, 100, 512, 1000, 2048, 5000, n / 2, n - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        Status st = {0};
        struct rlimit small = {limits[i], before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        bool saved = save("full.h5", &st);
        setrlimit(RLIMIT_FSIZE, &before);
        if (saved || !says(&st, "full.h5") || !is_whole("full.h5")) return false;
    }
    Status st = {0};
    return save("full.h5", &st) && is_whole("full.h5");
}

/* In a child: what HDF5 loses when its writes fail is no leak of ours. */
static void test_full_disk(void **state)
{
    (void)state;
    Status st = {0};
    assert_true(save("full.h5", &st));
    size_t n;
    free(scratch_read(scratch_path("full.h5"), &n));
    pid_t child = fork();
    if (child == 0) _exit(survives_limits(n) ? 0 : 1);
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
}

static void test_unwritable_folder(void **state)
{
    (void)state;
    Status st = {0};
    CheckpointMeta m = some_meta();
    assert_false(checkpoint_save("/nowhere/x.h5", &config, &table, block[0], NULL, NULL, NULL, &m, &st));
    assert_true(says(&st, "create the folder"));
    status_clear(&st);
    scratch_put("file", "", 0);
    assert_false(checkpoint_save(scratch_path("file/x.h5"), &config, &table, block[0], NULL, NULL, NULL, &m, &st));
    assert_true(says(&st, "file/x.h5"));
    if (geteuid() == 0) return; /* root may write anywhere */
    status_clear(&st);
    mkdir(scratch_path("locked"), 0500);
    assert_false(checkpoint_save(scratch_path("locked/x.h5"), &config, &table, block[0], NULL, NULL, NULL, &m, &st));
    assert_true(says(&st, "may write to"));
}

static void test_leftovers(void **state)
{
    (void)state;
    Status st = {0};
    char alive[64];
    snprintf(alive, sizeof alive, "left.h5.tmp.%ld", (long)getppid());
    scratch_put("left.h5.tmp.4194304", "x", 1); /* above any process id */
    scratch_put("left.h5.tmp.4194305", "x", 1);
    scratch_put("other.h5.tmp.4194304", "x", 1);
    scratch_put("left.h5.tmp.notes", "x", 1);
    scratch_put(alive, "x", 1);
    assert_true(save("left.h5", &st));
    assert_int_equal(scratch_count("left.h5.tmp.41943"), 0);
    assert_int_equal(scratch_count("other.h5.tmp.4194304"), 1);
    assert_int_equal(scratch_count("left.h5.tmp.notes"), 1);
    assert_int_equal(scratch_count(alive), 1);
    unlink(scratch_path("left.h5.tmp.notes"));
    unlink(scratch_path("other.h5.tmp.4194304"));
    unlink(scratch_path(alive));
}

static void test_sha256(void **state)
{
    (void)state;
    char hex[65];
    sha256_of("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    Sha256 *h = sha256_new();
    sha256_add(h, "a", 1);
    sha256_add(h, "bc", 2);
    sha256_finish(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* The documented recipe by hand: name, dtype, ndim, dims, bytes, in name order; padding does not count. */
static void test_weights_sha256(void **state)
{
    (void)state;
    char got[65], want[65];
    weights_sha256(&table, block[0], got);
    Sha256 *h = sha256_new();
    for (int i = 0; i < table.n; i++) {
        const Param *p = &table.params[table.by_name[i]];
        uint64_t dims[3] = {(uint64_t)p->ndim, p->rows, p->cols};
        sha256_add(h, p->name, strlen(p->name) + 1);
        sha256_add(h, "F32", 4);
        sha256_add(h, dims, p->ndim == 2 ? 24 : 16);
        sha256_add(h, block[0] + p->offset, 4 * p->count);
    }
    sha256_finish(h, want);
    assert_string_equal(got, want);
    block[0][table.params[3].offset] += 1.0f;
    weights_sha256(&table, block[0], got);
    block[0][table.params[3].offset] -= 1.0f;
    assert_string_not_equal(got, want);
}

/* The file of a partly trained model as it was written before /reference held what has a Param.state: all of the model. */
static void write_older(const char *path, const ParamTable *t, const uint8_t *chosen)
{
    Status st = {0};
    char layout[65], name[128];
    CheckpointMeta meta = {.stage = "rl_reason"};
    assert_true(checkpoint_save(scratch_path("now.h5"), &config, t, block[0], NULL, NULL, NULL, &meta, &st));
    H5Reader *now = h5_open(scratch_path("now.h5"), "now.h5", &st);
    size_t length;
    char *text = h5_read_bytes(now, "meta/config_json", &length);
    assert_true(text && h5_read_attr_text(now, "/", "layout_sha256", layout, sizeof layout));
    h5_reader_close(now);
    H5Writer *w = h5_create(path, path, SEAL, &st);
    h5_attr_text(w, "/", "format", format_name);
    h5_attr(w, "/", "format_version", H5_I32, &(int32_t){FORMAT_VERSION});
    h5_attr_text(w, "/", "layout_sha256", layout);
    h5_write_bytes(w, "meta/config_json", text, length);
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        snprintf(name, sizeof name, "model/%s", p->name);
        h5_write(w, name, H5_F32, p->ndim, (uint64_t[]){p->rows, p->cols}, block[0] + p->offset);
    }
    h5_write(w, "optim/chosen", H5_U8, 1, (uint64_t[]){(uint64_t)t->n}, chosen);
    h5_write(w, "optim/m", H5_F32, 1, (uint64_t[]){t->state_total}, block[1]);
    h5_write(w, "optim/v", H5_F32, 1, (uint64_t[]){t->state_total}, block[2]);
    h5_write(w, "reference", H5_F32, 1, (uint64_t[]){t->total}, block[3]);
    h5_attr(w, "/", "complete", H5_U8, &(uint8_t){1});
    assert_true(h5_close(w, &st) && seal_write(path, path, &(Pieces){0}, &st));
    free(text);
}

/* Its reference is gathered: each value where its Param.state says, as a file of today has it. */
static void test_older_reference(void **state)
{
    (void)state;
    Status st = {0};
    ParamTable t = params_build(&config);
    const char *patterns[] = {"self_attn", "layers.1.mlp.experts.2.*", "lm_head"};
    assert_int_equal(params_select(&t, patterns, 3), -1);
    assert_true(t.state_total < t.total);
    uint8_t *chosen = calloc((size_t)t.n, 1);
    for (int i = 0; i < t.n; i++) chosen[i] = t.params[i].chosen;
    write_older(scratch_path("older.h5"), &t, chosen);
    Checkpoint *c = checkpoint_load(scratch_path("older.h5"), CHECKPOINT_ALL, &st);
    if (!c) fail_msg("%s", st.text);
    assert_int_equal(c->table.state_total, t.state_total);
    int moved = 0;
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        assert_int_equal(c->table.params[i].state, p->state);
        if (p->state == SIZE_MAX) continue;
        moved += p->state != p->offset;
        assert_memory_equal(c->reference + p->state, block[3] + p->offset, p->count * sizeof(float));
    }
    assert_true(moved > 10);
    checkpoint_free(c);
    free(chosen);
    params_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_stored_moments),
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_older_reference),
        cmocka_unit_test(test_absent_parts),
        cmocka_unit_test(test_scalar_head),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_truncated_and_extended),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_changed_after_verification),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_unwritable_folder),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_weights_sha256),
    };
    return cmocka_run_group_tests(tests, make_model, free_model);
}
