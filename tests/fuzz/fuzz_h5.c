/* Sealed checkpoints, one that stands on a base too, and a shard of rollouts, changed object by object: links taken away,
 * datasets of any type, shape, layout and size put in their place, soft and external links, attributes of any kind; the seal made
 * anew. The seal is no signature, so what a reader does next must be right without it. */
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/base.h"
#include "checkpoints/known_models.h"
#include "checkpoints/rollouts/rollouts.h"
#include "checkpoints/rollouts/rollouts_shard.h"
#include "checkpoints/seal.h"
#include "core/base/check.h"
#include "data/file.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_CHANGES = 8, SMALL = 4096 };

typedef struct Input {
    const uint8_t *at, *end;
} Input;

static unsigned take(Input *in, unsigned below)
{
    return in->at < in->end ? *in->at++ % below : 0;
}

static const char *const names[] = {
    /* a checkpoint's */
    "model/model.norm.weight", "model/model.embed_tokens.weight", "meta/recipe", "meta/tokenizer", "meta/extra",
    "meta/config_json", "files/x", "files/..", "tensors/x", "tensor_shapes/x", "optim/m", "optim/v", "reference",
    "model", "meta", "files", "tensors", "tensor_shapes", "meta/base", "optim/chosen",
    "model/model.layers.0.mlp.up_proj.weight",
    /* a shard's */
    "step", "prompt", "offsets", "sample", "ids", "total", "advantage", "logprobs", "entropy", "ref_logprobs",
    "truncated", "rewards/accuracy", "rewards", "prompt_text", "completion", "answer", "reason"};
enum { NAMES = sizeof names / sizeof *names };

static hid_t take_type(Input *in)
{
    const hid_t types[] = {H5T_STD_U8LE,   H5T_STD_I32LE,  H5T_STD_I64LE, H5T_STD_U64LE,
                           H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_C_S1,      H5T_STD_U16LE};
    return types[take(in, 8)];
}

static hsize_t take_size(Input *in)
{
    static const hsize_t sizes[] = {0,       1,          2,          3,          4,          7,
                                    9,       10,         16,         64,         255,        4096,
                                    1 << 16, 1ull << 31, 1ull << 40, 1ull << 61, 1ull << 62, (1ull << 63) - 1};
    unsigned k = take(in, 40);
    return k < 18 ? sizes[k] : k - 18;
}

static hid_t take_space(Input *in, hsize_t *count)
{
    int ndim = (int)take(in, 12);
    hsize_t dims[12];
    *count = 1;
    for (int i = 0; i < ndim; i++) {
        dims[i] = take_size(in);
        if (__builtin_mul_overflow(*count, dims[i], count)) *count = SMALL + 1;
    }
    if (ndim == 0 && take(in, 2)) return *count = 0, H5Screate(H5S_NULL);
    return ndim ? H5Screate_simple(ndim, dims, NULL) : H5Screate(H5S_SCALAR);
}

/* Storage that is never allocated unless something is written: what a dataset announces costs nothing. */
static hid_t take_layout(Input *in, hid_t space, hsize_t count)
{
    hid_t made = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dims[H5S_MAX_RANK], chunk[H5S_MAX_RANK];
    int ndim = H5Sget_simple_extent_ndims(space);
    switch (take(in, 4)) {
    case 1:
        if (ndim <= 0) break;
        H5Sget_simple_extent_dims(space, dims, NULL);
        for (int i = 0; i < ndim; i++) chunk[i] = dims[i] ? (dims[i] < 16 ? dims[i] : 16) : 1;
        H5Pset_chunk(made, ndim, chunk);
        if (take(in, 2)) H5Pset_deflate(made, 1);
        break;
    case 2:
        if (count <= 64) H5Pset_layout(made, H5D_COMPACT);
        break;
    case 3: H5Pset_external(made, "/dev/zero", 0, H5F_UNLIMITED); break;
    default: break;
    }
    return made;
}

static void put_dataset(hid_t file, const char *name, Input *in)
{
    hsize_t count;
    hid_t type = take_type(in), space = take_space(in, &count), made = take_layout(in, space, count);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(file, name, type, space, links, made, H5P_DEFAULT);
    if (set >= 0 && count && count <= SMALL && take(in, 8)) {
        uint64_t values[SMALL] = {0};
        for (hsize_t i = 0; i < count && i < 16; i++) values[i] = take_size(in);
        H5Dwrite(set, H5T_STD_U64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    }
    if (set >= 0) H5Dclose(set);
    H5Pclose(links);
    H5Pclose(made);
    H5Sclose(space);
}

static void put_attribute(hid_t file, Input *in)
{
    static const char *const attributes[] = {"format",    "format_version", "complete",   "layout_sha256",
                                             "stage",     "step",           "seconds",    "machine_kind",
                                             "precision", "seed",           "first_step", "last_step"};
    hid_t at = take(in, 2) ? H5Oopen(file, "meta", H5P_DEFAULT) : H5Oopen(file, "/", H5P_DEFAULT);
    if (at < 0) return;
    const char *name = attributes[take(in, sizeof attributes / sizeof *attributes)];
    hsize_t count, size = take_size(in);
    hid_t type = H5Tcopy(take_type(in)), space = take_space(in, &count);
    if (H5Tget_class(type) == H5T_STRING)
        H5Tset_size(type, take(in, 4) == 0 ? H5T_VARIABLE : size > 0 && size < 60000 ? (size_t)size : 1);
    H5Adelete(at, name);
    hid_t attribute = count <= SMALL ? H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT) : -1;
    if (attribute >= 0) {
        uint64_t values[SMALL] = {take_size(in), take_size(in)};
        if (H5Tget_class(type) != H5T_STRING) H5Awrite(attribute, H5T_STD_U64LE, values);
        H5Aclose(attribute);
    }
    H5Tclose(type);
    H5Sclose(space);
    H5Oclose(at);
}

static void change(hid_t file, Input *in)
{
    const char *name = names[take(in, NAMES)], *other = names[take(in, NAMES)];
    unsigned what = take(in, 8);
    if (what < 7) H5Ldelete(file, name, H5P_DEFAULT);
    switch (what) {
    case 0: break;
    case 1: H5Lcreate_soft(other, file, name, H5P_DEFAULT, H5P_DEFAULT); break;
    case 2: H5Lcreate_external("/proc/self/exe", other, file, name, H5P_DEFAULT, H5P_DEFAULT); break;
    case 3: H5Lcreate_hard(file, other, file, name, H5P_DEFAULT, H5P_DEFAULT); break;
    case 7: put_attribute(file, in); break;
    default: put_dataset(file, name, in); break;
    }
}

/* ---- The files that are changed ---- */

enum { CHECKPOINT, SHARD, PARTIAL, KINDS };
static char *whole[KINDS];
static size_t sizes[KINDS];
static char base_path[64];

static void remove_base(void)
{
    unlink(base_path);
}

/* base: that the file stands on, with every second tensor of its own; NULL: it holds all. */
static void make_checkpoint(const char *path, ModelBase *base)
{
    Status st = {0};
    ModelConfig c = {.arch = ARCH_LLAMA,
                     .attention = ATTENTION_GQA,
                     .V = 16,
                     .C = 8,
                     .L = 1,
                     .H = 2,
                     .Hkv = 1,
                     .Dr = 4,
                     .Dv = 4,
                     .F = 8,
                     .moe_freq = 1,
                     .n_group = 1,
                     .topk_group = 1,
                     .routed_scale = 1,
                     .eps = 1e-6f,
                     .rope = {.theta = 1e4f},
                     .max_positions = 64,
                     .init_std = 0.02f,
                     .tied = true,
                     .bos = -1,
                     .eos = -1};
    ParamTable t = params_build(&c);
    float *w = calloc(t.total, sizeof *w), x[4] = {1, 2, 3, 4};
    uint8_t *held = calloc((size_t)t.n, 1);
    CHECK(held);
    for (int i = 0; i < t.n; i += 2) held[i] = 1;
    CheckpointMeta meta = {.stage = "sft", .recipe = "x: 1\n", .extra = "{}", .base = base, .held = base ? held : NULL};
    attach_file(&meta.attached, "x", "abc", 3);
    attach_tensor(
        &meta.attached,
        &(StTensor){.name = "x", .dtype = ST_F32, .ndim = 1, .shape = {4}, .count = 4, .bytes = 16, .data = x}, false);
    CHECK(w && checkpoint_save(path, &c, &t, w, w, w, w, &meta, &st));
    attachments_free(&meta.attached);
    params_free(&t);
    free(held);
    free(w);
}

/* Stands on a whole one, which stays where it is. */
static void make_partial(const char *path)
{
    Status st = {0};
    ModelBase base;
    snprintf(base_path, sizeof base_path, "/dev/shm/fuzz_h5_base.%d", (int)getpid());
    atexit(remove_base);
    make_checkpoint(base_path, NULL);
    LoadedModel *m = model_open(base_path, MODEL_IN_PLACE, &st);
    CHECK(m && base_of(m, &base, &st));
    model_close(m);
    make_checkpoint(path, &base);
}

static void make_shard(const char *path)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(file >= 0);
    static const struct {
        const char *name;
        int type; /* 0 i64, 1 i32, 2 f32, 3 u8 */
        hsize_t n, width;
    } columns[] = {
        {"step", 0, 2, 0},        {"prompt", 0, 2, 0},       {"offsets", 0, 3, 0},   {"sample", 1, 2, 0},
        {"ids", 1, 0, 0},         {"total", 2, 2, 0},        {"advantage", 2, 2, 0}, {"logprobs", 2, 0, 0},
        {"entropy", 2, 0, 0},     {"ref_logprobs", 2, 0, 0}, {"truncated", 3, 2, 0}, {"rewards/accuracy", 2, 2, 0},
        {"prompt_text", 3, 2, 4}, {"completion", 3, 2, 4},   {"answer", 3, 2, 4},    {"reason", 3, 2, 4}};
    const hid_t types[] = {H5T_STD_I64LE, H5T_STD_I32LE, H5T_IEEE_F32LE, H5T_STD_U8LE};
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        hid_t space = H5Screate_simple(columns[i].width ? 2 : 1, (hsize_t[]){columns[i].n, columns[i].width}, NULL);
        hid_t set = H5Dcreate2(file, columns[i].name, types[columns[i].type], space, links, H5P_DEFAULT, H5P_DEFAULT);
        CHECK(set >= 0);
        if (columns[i].n) H5Dwrite(set, H5T_STD_I64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, (int64_t[8]){0});
        H5Dclose(set);
        H5Sclose(space);
    }
    H5Pclose(links);
    H5Fclose(file);
}

static void start(void)
{
    if (whole[0]) return;
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    char path[64];
    Status st = {0};
    for (int i = 0; i < KINDS; i++) {
        snprintf(path, sizeof path, "/tmp/fuzz_h5.%d.%d", (int)getpid(), i);
        if (i == SHARD) make_shard(path);
        else if (i == PARTIAL) make_partial(path);
        else make_checkpoint(path, NULL);
        whole[i] = file_read(path, &sizes[i], &st);
        CHECK(whole[i]);
        unlink(path);
    }
}

static char scratch[64];

static void remove_scratch(void)
{
    unlink(scratch);
}

/* HDF5 asks for a file's real path, which one in memory (fuzz_file) has not. */
static const char *put_file(int kind)
{
    if (!*scratch) {
        snprintf(scratch, sizeof scratch, "/dev/shm/fuzz_h5.%d", (int)getpid());
        atexit(remove_scratch);
    }
    int fd = open(scratch, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, whole[kind], sizes[kind]) == (ssize_t)sizes[kind]);
    close(fd);
    return scratch;
}

/* What was read must be there. */
static void touch(const void *bytes, size_t n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const unsigned char *)bytes)[i];
    CHECK(sum != 1 || n > 0);
}

static void read_checkpoint(const char *path, size_t most)
{
    Status st = {0};
    Checkpoint *c = checkpoint_load(path, CHECKPOINT_ALL, &st);
    CHECK(!c == st.failed);
    if (!c) return;
    const Attachments *a = &c->meta.attached;
    for (int i = 0; i < a->ntensors; i++) {
        const StTensor *t = &a->tensors[i].tensor;
        CHECK(t->ndim >= 0 && t->ndim <= 8 && t->bytes <= most && st_dtype_size(t->dtype) * t->count == t->bytes);
        touch(t->data, t->bytes);
    }
    for (int i = 0; i < a->nfiles; i++) touch(a->files[i].bytes, a->files[i].length);
    touch(c->weights, c->table.total * sizeof *c->weights);
    checkpoint_free(c);
}

/* Its tensors read where they lie: every place is in its file, which has them all. */
static void read_in_place(const char *path)
{
    Status st = {0};
    LoadedModel *m = model_open(path, MODEL_IN_PLACE, &st);
    CHECK(!m == st.failed);
    for (int i = 0; m && i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        float *w = malloc(p->count * sizeof *w);
        ParamPlace at;
        struct stat info;
        CHECK(w);
        if (model_param_place(m, p, &at))
            CHECK(!stat(at.path, &info) && at.bytes == p->count * st_dtype_size(at.dtype) &&
                  at.offset <= (uint64_t)info.st_size && at.bytes <= (uint64_t)info.st_size - at.offset);
        Status one = {0};
        if (model_param_read(m, p, w, &one)) touch(w, p->count * sizeof *w);
        free(w);
    }
    model_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start();
    Input in = {data, data + size};
    int kind = (int)take(&in, KINDS);
    const char *path = put_file(kind);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    CHECK(file >= 0);
    for (int i = 0; i < MOST_CHANGES && in.at < in.end; i++) change(file, &in);
    H5Fclose(file);
    if (kind != SHARD) {
        Status st = {0};
        CHECK(seal_write(path, path, &(Pieces){0}, &st));
        read_checkpoint(path, size + (1 << 20));
        read_in_place(path);
        return 0;
    }
    RolloutTable table = {0};
    int capacity = 0;
    Status st = {0};
    CHECK(shard_read(path, 0, INT64_MAX, &table, &capacity, &st) == !st.failed);
    rollout_table_free(&table);
    return 0;
}
